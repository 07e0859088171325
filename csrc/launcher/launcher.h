/* launcher.h - what the launcher's files share. */
#ifndef NSD_LAUNCHER_H
#define NSD_LAUNCHER_H

#include "../steps/steps.h"

#include <linux/poll.h>

/* A clone whose child runs entry(argument) on a stack of its own and never returns; in
 * start.c, because the stack changes under the compiler's feet. */
long sys_clone(unsigned long flags, void *stack_top, int32_t *parent_tid,
               void (*entry)(void *), void *argument);

/* init.c: those that stay. None returns. */
_Noreturn void nsd_stay_as_watchdog(struct nsd_launch *launch);
_Noreturn void nsd_stay_as_init(struct nsd_launch *launch, long command);
_Noreturn void nsd_stand_guard(struct nsd_launch *launch, struct nsd_result *result);

/* apart.c. fork: the index of the fork step. */

/* Have namespaces of others been joined by then? Then the second process has its own memory, and
 * notes, which become ours when it has executed the command or given up; none, if it will ask for
 * a pin. */
bool nsd_goes_apart(const struct nsd_launch *launch, uint32_t fork);
long nsd_make_notes(struct nsd_launch *launch, uint32_t fork,
                    struct nsd_trace **ret_notes);
void nsd_take_notes(struct nsd_launch *launch, struct nsd_trace *notes, uint32_t fork);

/* Is it born in a pid namespace of others? Then it is born without our descriptors: these are
 * closed before, but for those that a later step needs; who has a copy of our numbers forgets
 * them. */
bool nsd_is_seen_inside(const struct nsd_launch *launch, uint32_t fork);
void nsd_close_for_inside(const struct nsd_launch *launch, uint32_t fork);
void nsd_forget_closed(struct nsd_launch *launch, uint32_t fork);

/* stay.c. Those two never return, and unmap what they do not need. */
#define NSD_STAYS __attribute__((section("stay")))

NSD_STAYS _Noreturn void nsd_watch(const struct nsd_launch *launch,
                                   struct pollfd either[2]);
NSD_STAYS _Noreturn void nsd_be_init(struct nsd_launch *launch, long command);
NSD_STAYS _Noreturn void nsd_exit(int status);
NSD_STAYS void nsd_wait_for_end(struct pollfd *pidfds, unsigned int count);
NSD_STAYS void nsd_kill_process(int pidfd, long pid);

#define NSD_STACK_SIZE (8 * 1024)

/* Of who is cloned; the last two are unused, or the last three, when somebody stays. */
struct nsd_stacks {
    char second[NSD_STACK_SIZE];
    char thread[NSD_STACK_SIZE];
    char third[NSD_STACK_SIZE];
};

extern struct nsd_stacks nsd_stacks;

/* stack: as it is when the program begins. */
void nsd_find_image(struct nsd_launch *launch, const uintptr_t *stack);

/* start.c */
void nsd_announce(struct nsd_launch *launch);
void nsd_hold(uint32_t *futex);

#endif
