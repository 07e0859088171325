/* launch.h - starting a plan: vfork, and the launcher where one is needed.
 *
 *     nsd_launch_start   the vfork child has become the launcher, or the command itself
 *     nsd_launch_wait    ... and the launcher has executed the command, or given up
 *     nsd_launch_settle  reads the trace, keeps or reaps the processes
 *
 * All of them may be called without the GIL. The caller's signal mask, descriptors, memory
 * and credentials are as before, on every way out.
 */
#ifndef NSD_LAUNCH_H
#define NSD_LAUNCH_H

#include "../builder.h"
#include "child.h"

#include <stdbool.h>
#include <stddef.h>

struct nsd_launch_options {
    int stdio[3];        /* descriptors of ours; -1: the command gets our own 0, 1, 2 */
    const int *pass_fds; /* ascending, each once, all > 2: the command gets these too */
    int pass_count;
    bool waits;       /* the caller waits for the end of the command: tidy up then */
    size_t shared;    /* bytes to share with the launcher; 0: what a trace needs */
    int64_t deadline; /* CLOCK_MONOTONIC ns; 0: none */
    bool (*gives_up)(
        void *);  /* asked when a signal has come, while we wait; NULL: no */
    void *asked;  /* its argument */
    int terminal; /* > 2: a socket for our end of the command's own terminal; 0: none */
};

/* What went wrong before the launcher ran; the words are in _plan/operations.py. */
enum nsd_start_stage {
    NSD_START_CLONE,
    NSD_START_DESCRIPTORS,
    NSD_START_IMAGE,
    NSD_START_PLAN,
    NSD_START_EXECUTE,
    NSD_START_PIDFD,
    NSD_START_KILLED,
    NSD_START_GUARD,
    NSD_START_TAKE,
};

/* 0, or a negative errno with *reterr_stage. On success ret_child must be waited for. -ETIMEDOUT,
 * or -EINTR if gives_up said so: the launch has been abandoned. */
int nsd_launch_start(const struct nsd_builder *plan,
                     const struct nsd_launch_options *options,
                     struct nsd_child *ret_child, enum nsd_start_stage *reterr_stage);

/* 0 when the launch is decided, -ETIMEDOUT after `deadline` (CLOCK_MONOTONIC ns; NSD_FOREVER);
 * -EINTR when a signal handler may want to run: call again. */
int nsd_launch_wait(struct nsd_child *child, int64_t deadline);

/* 0: the command runs (or has run). -ECANCELED: a step failed, *reterr_step is its index;
 * everything has been reaped. Other errors: *reterr_stage. */
int nsd_launch_settle(struct nsd_child *child, uint32_t *reterr_step,
                      enum nsd_start_stage *reterr_stage);

/* Ends whatever there is of a launch that is not wanted any more, and waits for that as long as
 * NSD_GRACE; see orphans.h. What it had come to stays in the results,
 * until nsd_child_release. */
void nsd_launch_abandon(struct nsd_child *child);

/* For both halves of a launch: start.c and launch.c. */
void nsd_read_clocks(struct nsd_child *child, int which);
void nsd_reap(pid_t pid);
bool nsd_has_exited(pid_t pid);

/* Of a launcher's wait status, or -1: the errno, negative, if it ended before the first step; or 0. */
int nsd_why_not_taken(int status);

#endif
