/* guard.h - who ends our commands when we end, however that happens.
 *
 * The guard is started with the first command that needs it, and sleeps until this process is
 * dead. It costs a launch nothing but a write into a page that both share: clone(2) is given
 * the place of a ward to put the new pid in (CLONE_PARENT_SETTID), and does so before the
 * command's process runs. No descriptor stays open here, and the guard is not our child.
 *
 * Beside it another one sleeps: each starts the other anew when that is killed. Where both were
 * killed at one moment, the next launch starts another pair, which takes over all wards: until
 * then, and not longer, nobody would end the commands.
 *
 * Unless we take orphans in. PID 1 of a pid namespace needs no guard: the kernel ends everybody in
 * there with it. Of a subreaper (PR_SET_CHILD_SUBREAPER) the guard is a child, called
 * "nsdemo-watch"; it ends when it has had nobody to guard for a second, so that no wait for any
 * child is for ever, and is reaped when the next one is started, if it was not before.
 *
 * A fork of this process has no guard until it launches something itself.
 */
#ifndef NSD_GUARD_H
#define NSD_GUARD_H

#include "settle.h"

/* Takes a ward, and starts a guard if there is none, or if it is full or has gone; NULL if none is
 * needed. 0, or a negative errno with *reterr_stage: -ETIMEDOUT after `deadline` (CLOCK_MONOTONIC
 * ns). Whoever takes one gives it back; any thread may. */
int nsd_ward_take(int64_t deadline, struct nsd_ward **ret_ward,
                  enum nsd_start_stage *reterr_stage);

/* The command has this pid, and no later process that is given it. */
void nsd_ward_is(struct nsd_ward *ward, pid_t command);

/* NULL is allowed. */
void nsd_ward_give_back(struct nsd_ward *ward);

#endif
