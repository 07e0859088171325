/* orphans.h - the end of processes that were killed; and those among them that do not end.
 *
 * Who sleeps in the kernel until a server answers (state D: FUSE, NFS, a dead disk) ends then, and
 * not when it is killed. Nobody waits for that: such a process is kept here, and whoever launches,
 * waits, or polls next reaps those that have ended. With each lies what it may still use.
 */
#ifndef NSD_ORPHANS_H
#define NSD_ORPHANS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* ns that a killed process has to end in. */
#define NSD_GRACE 1000000000

/* Waits until `deadline` (CLOCK_MONOTONIC ns) for the end of a child, and reaps it. True: there
 * is no such child any more; *ret_status, if asked for, is its wait status, or -1. */
bool nsd_reap_until(pid_t pid, int64_t deadline, int *ret_status);

/* Kills a child that nobody has reaped and waits for its end as long as NSD_GRACE. True: it is
 * gone. False: it is an orphan from now on, and let_go(of), if given, is called when that ends. */
bool nsd_end(pid_t pid, void (*let_go)(void *), void *of);

/* For a child that is about to end by itself, unless somebody has stopped it: it is killed if it
 * does not within NSD_GRACE. Nothing happens if pid is 0. */
void nsd_see_off(pid_t pid);

/* For a child that was killed and has not ended. */
void nsd_orphan(pid_t pid, void (*let_go)(void *), void *of);

/* Reaps the orphans that have ended; never waits. */
void nsd_reap_orphans(void);

/* How many there are; the first `room` pids go to ret_pids. */
size_t nsd_orphans(pid_t *ret_pids, size_t room);

#endif
