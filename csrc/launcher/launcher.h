/* launcher.h - what the launcher's files share. */
#ifndef NSD_LAUNCHER_H
#define NSD_LAUNCHER_H

#include "../plan.h"
#include "sys.h"

/* One launch, as its processes see it. The first and the second process share this memory
 * while the second has not executed the command (CLONE_VM), unless an init stays. */
struct nsd_launch {
    struct nsd_trace *trace;
    struct nsd_plan_head *head; /* NULL once it has been unmapped */
    size_t plan_size;
    size_t trace_size;
    const struct nsd_step *steps;
    char **vectors; /* argv, envp, paths: turned from offsets into pointers */
    const char *text;
    char *name; /* argv[0], what ps shows */
    enum nsd_process self;
    int slot[NSD_SLOTS];
    int parent;      /* pidfd of the Python process, -1 without a watchdog */
    int ends_group;  /* the watchdog ends the command's process group too */
    long parent_pid; /* of the Python process, if we are to end with it; else 0 */
    int32_t command; /* pid of the second process */
};

const char *nsd_text(const struct nsd_launch *launch, const struct nsd_step *step,
                     int n);

/* steps.c: asks the kernel for one step; a value, or -errno. */
long nsd_perform(struct nsd_launch *launch, const struct nsd_step *step);
long nsd_execute(struct nsd_launch *launch, long *ret_tried);

/* init.c: those that stay. Neither returns. */
_Noreturn void nsd_stay_as_watchdog(struct nsd_launch *launch);
_Noreturn void nsd_stay_as_init(struct nsd_launch *launch, long command);

/* start.c */
_Noreturn void nsd_exit(int status);
void nsd_announce(struct nsd_launch *launch);

#endif
