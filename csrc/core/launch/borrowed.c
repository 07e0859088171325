#include "borrowed.h"

#include "../../steps/sys.h"
#include "child.h"
#include "guard.h"
#include "orphans.h"
#include "settle.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/futex.h>
#include <linux/prctl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef __NR_close_range
#define __NR_close_range 436
#endif

#define STACK_SIZE (32 * 1024)
#define PATIENCE 200000000 /* ns; a signal may come before we sleep */

int nsd_borrow(struct nsd_borrower **ret_borrower, int (*work)(void *), void *of,
               int flags, pid_t *pid_place)
{
    const int borrowing =
        CLONE_VM | CLONE_FILES | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID | SIGCHLD;
    const uint64_t every_signal = ~(uint64_t)0;
    struct nsd_borrower *borrower = aligned_alloc(16, STACK_SIZE);
    uint64_t mask = 0;
    int ret = 0;

    if (borrower == NULL)
        return -ENOMEM;
    *borrower = (struct nsd_borrower){.lives = 1};
    if (pid_place == NULL)
        pid_place = &borrower->pid;
    /* Raw, because libc keeps two signals for itself, and those must wait as well. */
    syscall(SYS_rt_sigprocmask, SIG_BLOCK, &every_signal, &mask, sizeof(mask));
    borrower->pid = clone(work, (char *)borrower + STACK_SIZE, borrowing | flags, of,
                          pid_place, NULL, &borrower->lives);
    if (borrower->pid < 0)
        ret = -errno;
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, sizeof(mask));
    if (ret < 0)
        free(borrower);
    else
        *ret_borrower = borrower;
    return ret;
}

int nsd_borrower_wait(struct nsd_borrower *borrower, int64_t deadline)
{
    while (__atomic_load_n(&borrower->lives, __ATOMIC_ACQUIRE) != 0) {
        int64_t left = deadline - nsd_now();
        struct timespec time = {.tv_nsec = (long)(left < PATIENCE ? left : PATIENCE)};

        if (left <= 0)
            return -ETIMEDOUT;
        if (syscall(SYS_futex, &borrower->lives, FUTEX_WAIT, 1, &time) == 0 ||
            errno == EAGAIN)
            continue;
        if (errno != ETIMEDOUT || !nsd_has_exited(borrower->pid))
            return -EINTR;
        break; /* older kernels say nothing of the end of who dumps core */
    }
    return 0;
}

void nsd_borrower_forget(void *argument)
{
    struct nsd_borrower *borrower = argument;

    nsd_ward_give_back(borrower->ward);
    free(borrower);
}

struct nsd_errand {
    struct nsd_borrower *borrower;
    void (*work)(void *);
    void *of;
    void (*let_go)(void *);
    pid_t parent;
};

static int child_does(void *argument)
{
    struct nsd_errand *errand = argument;

    /* It ends with us, and keeps nothing of ours open when it is left behind. */
    sys5(__NR_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (sys0(__NR_getppid) != errand->parent)
        sys1(__NR_exit_group, 0);
    if (sys3(__NR_close_range, 0, ~0u, CLOSE_RANGE_UNSHARE) < 0)
        sys1(__NR_unshare, CLONE_FILES);
    errand->work(errand->of);
    sys1(__NR_exit_group, 0);
    return 0;
}

int nsd_errand_start(struct nsd_errand **ret_errand, void (*work)(void *), void *of)
{
    struct nsd_errand *errand = calloc(1, sizeof(*errand));
    int ret;

    if (errand == NULL)
        return -ENOMEM;
    errand->work = work;
    errand->of = of;
    errand->parent = getpid();
    ret = nsd_borrow(&errand->borrower, child_does, errand, 0, NULL);
    if (ret < 0)
        free(errand);
    else
        *ret_errand = errand;
    return ret;
}

static void free_errand(void *argument)
{
    struct nsd_errand *errand = argument;

    nsd_borrower_forget(errand->borrower);
    if (errand->let_go != NULL)
        errand->let_go(errand->of);
    free(errand);
}

int nsd_errand_wait(struct nsd_errand *errand, int64_t deadline)
{
    int ret = nsd_borrower_wait(errand->borrower, deadline);

    if (ret < 0)
        return ret;
    nsd_see_off(errand->borrower->pid);
    free_errand(errand);
    return 0;
}

void nsd_errand_leave(struct nsd_errand *errand, void (*let_go)(void *))
{
    if (let_go != NULL)
        errand->let_go = let_go;
    if (nsd_end(errand->borrower->pid, free_errand, errand))
        free_errand(errand);
}

static void child_looks(void *path)
{
    sys4(__NR_openat, AT_FDCWD, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
}

int nsd_look_start(struct nsd_errand **ret_errand, const char *path)
{
    char *copy = strdup(path);
    int ret = copy == NULL ? -ENOMEM : nsd_errand_start(ret_errand, child_looks, copy);

    if (ret < 0)
        free(copy);
    else
        (*ret_errand)->let_go = free;
    return ret;
}
