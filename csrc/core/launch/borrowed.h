/* borrowed.h - a child that runs in our memory, on a stack of its own, and can be left behind.
 *
 * As with vfork there is nothing to copy, however large the heap is. But the calling thread can be
 * woken: it waits on a futex, until the child has left our memory by its end or by execve, and may
 * give up when a signal handler wants to run, or when the time is over.
 *
 * A child that was killed executes nothing of ours any more, even if it has not ended. What the
 * kernel may still write to is its stack, and struct nsd_borrower: those stay until it has.
 *
 * The law of the child is that of vfork.c: all signals are blocked; no malloc, no locks, and
 * nothing that sets errno, which is the calling thread's.
 */
#ifndef NSD_BORROWED_H
#define NSD_BORROWED_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct nsd_ward;

struct nsd_borrower {
    uint32_t lives; /* the kernel writes 0 when the child has left our memory */
    pid_t pid;
    struct nsd_ward *ward; /* what nsd_borrower_forget gives back, or NULL */
    char stack[];
};

/* clone(2) of a child that calls work(of); flags beside those of borrowing. *pid_place, which
 * may be NULL, is written before the child runs. 0, or a negative errno. */
int nsd_borrow(struct nsd_borrower **ret_borrower, int (*work)(void *), void *of,
               int flags, pid_t *pid_place);

/* 0 when the child has left our memory; it may be used as before, and the child is to be reaped.
 * -ETIMEDOUT, or -EINTR when a signal handler may want to run: call again. */
int nsd_borrower_wait(struct nsd_borrower *borrower, int64_t deadline);

/* Frees it: the child has left our memory, or has ended. For orphans.h. */
void nsd_borrower_forget(void *borrower);

/* Something that may keep its caller waiting for ever, such as a look at a path: done by a child
 * with no descriptors, and of no interest but for what it writes to memory. */
struct nsd_errand;

int nsd_errand_start(struct nsd_errand **ret_errand, void (*work)(void *), void *of);

/* As nsd_borrower_wait; after 0 the errand has been done, and freed: or its child was killed. */
int nsd_errand_wait(struct nsd_errand *errand, int64_t deadline);

/* Ends it; let_go(of) is called when it uses nothing any more, which may be later. */
void nsd_errand_leave(struct nsd_errand *errand, void (*let_go)(void *));

/* An errand that opens a file and closes it, for whoever will do so himself if that is answered. */
int nsd_look_start(struct nsd_errand **ret_errand, const char *path);

#endif
