/* child.h - a launched command: waiting for it, talking to it, ending it.
 *
 * Functions take a lock of their own where two threads could meet; a child may be waited
 * for, polled and killed from any thread.
 */
#ifndef NSD_CHILD_H
#define NSD_CHILD_H

#include "../../plan.h"
#include "foreground.h"
#include "forks.h"

#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct nsd_child {
    struct nsd_owner owner; /* whose child this is: a fork of it must not reap */
    pid_t first;     /* the process that is to be reaped with the command: 0 if none */
    pid_t first_pid; /* the launcher's first process, for the trace */
    pid_t command;   /* what is waited for; PID 1 inside, if there is a pid namespace */
    int pidfd;       /* of the command; -1 when somebody took it before us */
    int pidfd_error; /* why a closed one could not be opened again until now, or 0 */
    dev_t pidfd_device; /* which file that is; with an inode of 0: nobody has looked */
    ino_t pidfd_inode;
    bool forked; /* the plan has a fork step, so first is not the command */
    bool has_init;
    bool maps; /* the plan has id maps written from outside */
    bool has_watchdog;
    bool dies_with_thread; /* the kernel is asked to end it with the launching thread */
    bool tidies_late;      /* first is a zombie until the command ends, which is soon */
    bool detached;         /* it may outlive us, and this struct */
    bool abandoned;        /* the launch was, and so there is no command */
    bool adopted;          /* not our child: nothing of it is ours to reap */
    bool own_group;        /* kill the process group with the command */
    bool ends_all; /* it is PID 1 of its namespace: nothing inside outlives it */
    struct nsd_borrower
        *borrower; /* the child that starts it, while it has our memory */
    struct nsd_ward
        *ward; /* where the guard finds the command; NULL: it may outlive us */

    struct nsd_trace *trace; /* shared with the launcher; believed only after a check */
    size_t trace_size;
    size_t slate_used; /* > 0: the trace is on the slate, with so many bytes of ours */
    uint32_t step_count;
    struct nsd_pins *pins; /* what the launch has pinned until now; NULL: nothing */
    struct nsd_result
        *results; /* ours alone, from nsd_launch_settle on at the latest */
    struct nsd_result
        early[NSD_EARLY_STEPS]; /* of steps before the launcher, until then */
    uint32_t early_count;
    bool early_failed;
    char *said;                       /* by newuidmap; NULL: nothing */
    uint32_t waiting_state;           /* trace->state as it was when the launch began */
    uint64_t ignored;                 /* on the short way: as in struct nsd_trace */
    struct nsd_foreground foreground; /* if the command shares our session */
    uint64_t counter[2]; /* CPU counter and CLOCK_MONOTONIC, before and after */
    int64_t clock[2];    /* ns */

    pthread_mutex_t lock; /* guards what follows */
    bool stopping;        /* what is left of the group ends when the command does */
    bool reaped;
    bool status_lost; /* somebody else's waitpid() took it and the kernel forgot it */
    int status;       /* as from waitpid */
};

/* CLOCK_MONOTONIC in ns. */
int64_t nsd_now(void);

/* ns on CLOCK_MONOTONIC for a counter value of this child's results. */
int64_t nsd_child_time(const struct nsd_child *child, uint64_t counter);

#define NSD_FOREVER INT64_MAX

/* Waits until `deadline` (CLOCK_MONOTONIC ns; NSD_FOREVER) and reaps. 0, -ETIMEDOUT, or
 * -EINTR when a signal handler wants to run. deadline 0 polls. */
int nsd_child_wait(struct nsd_child *child, int64_t deadline);

/* Has the command ended? It is reaped then, and what waits for it; and the terminal is as it
 * was. waits: the caller does not poll, see foreground.h. */
bool nsd_child_reap(struct nsd_child *child, bool waits);

/* Sleeps until something happens, at most until the deadline. The number of descriptors that
 * something happened to; -ETIMEDOUT; -EINTR also now and then, for the caller to look whether
 * a signal has come. */
int nsd_sleep_until(int64_t deadline, struct pollfd *fds, nfds_t count);

/* Signals the command; nothing happens once it has been reaped. 0, or a negative errno. */
int nsd_child_signal(struct nsd_child *child, int signal);

/* Neither adopted nor inherited over fork: ours to reap, and its number to trust until then. */
bool nsd_child_is_ours(const struct nsd_child *child);

/* The guard has nothing to do with the command any more. */
void nsd_child_leaves_ward(struct nsd_child *child);

/* From now on the command ends with nobody: neither with this process, by the guard or its
 * watchdog, nor with the struct. -ECHILD in a fork. Nothing to do for an adopted one. */
int nsd_child_detach(struct nsd_child *child);

/* Remembers which file the pidfd is. Since Linux 6.9 its inode names the process: should the
 * number be closed behind our back and given to another file, that one is neither signalled
 * through nor closed, and the pidfd is opened anew. */
void nsd_child_note_pidfd(struct nsd_child *child);

/* A running process that is not our child, by a pidfd, which is taken over. */
void nsd_child_adopt(struct nsd_child *ret_child, pid_t pid, int pidfd, bool is_init);

/* The command's wait status once it has ended, as far as anybody tells us. */
bool nsd_child_status(struct nsd_child *child, int *ret_status);

/* From now on the command's process group, if it has one of its own, does not outlive it. */
void nsd_child_stopping(struct nsd_child *child);

/* SIGKILL for the command, and for its process group if it has one of its own. 0, or why the
 * command could not be signalled. */
int nsd_child_kill(struct nsd_child *child);

/* Kills the command, if it is ours, not detached, and not reaped, and reaps it; what has not
 * ended after NSD_GRACE is left to orphans.h, and counts as reaped. */
void nsd_child_end(struct nsd_child *child);

/* Closes the pidfd of a command that has been reaped. */
void nsd_child_close(struct nsd_child *child);

/* The trace is not needed any more. is_over: nor is it by anybody else, for certain. */
void nsd_child_wipe_trace(struct nsd_child *child, bool is_over);

/* Frees memory and descriptors, after nsd_child_end. */
void nsd_child_release(struct nsd_child *child);

/* talk.c. Pipes to and from a command. Descriptors are the caller's; -1: none. */
struct nsd_buffer {
    int fd;
    char *data; /* malloc'ed, the caller frees it */
    size_t size;
    size_t room;
};

struct nsd_streams {
    int input_fd;
    const char *input;
    size_t input_left;
    struct nsd_buffer output[2];
    int64_t late_until; /* after the command's end; 0: it has not been seen */
    size_t late_size;
    bool cut; /* somebody who outlived the command may have had more to say */
};

/* Writes the input, reads the outputs and waits, all at once. A descriptor that is finished
 * becomes -1 in the struct (and is closed). When the command has ended, what it leaves behind
 * may write on for a moment. Returns as nsd_child_wait, or -ENOMEM; after -EINTR or -ETIMEDOUT
 * it may be called again. */
int nsd_child_communicate(struct nsd_child *child, struct nsd_streams *streams,
                          int64_t deadline);

#endif
