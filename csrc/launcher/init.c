/* init.c - those that stay when the command runs: a PID 1 inside; outside, a watchdog of one
 * command, or the guard of all commands of a Python process.
 *
 * Whoever stays beside a container must be worth nothing to it: it was executed outside the
 * container's user namespace, is not dumpable, has unmapped the plan and closed every
 * descriptor that it does not need. All signals stay blocked, so only SIGKILL ends it from
 * outside.
 */
#include "launcher.h"

#include "../steps/power.h"

#include <linux/capability.h>
#include <linux/errno.h>
#include <linux/fcntl.h>
#include <linux/futex.h>
#include <linux/poll.h>
#include <linux/prctl.h>
#include <linux/signal.h>
#include <linux/time_types.h>
#include <linux/wait.h>

/* Where there is no close_range: what was opened here has a low number. */
static void close_from(const struct nsd_launch *launch, long first)
{
    if (sys3(__NR_close_range, first, ~0u, 0) < 0)
        for (long fd = first; fd < 1024 || fd <= launch->highest; fd++)
            sys1(__NR_close, fd);
}

/* A plan made by hand may have no step that hides us; the id maps are written by now. */
static void hide(void)
{
    sys5(__NR_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);
}

static void forget_plan(struct nsd_launch *launch)
{
    sys2(__NR_munmap, launch->head, launch->plan_size);
    launch->head = NULL;
}

/* name: not longer than argv[0], "nsdemo-start" */
static void rename_to(struct nsd_launch *launch, const char *name)
{
    int i = 0;

    sys5(__NR_prctl, PR_SET_NAME, name, 0, 0, 0);
    for (; name[i] != '\0'; i++)
        launch->name[i] = name[i];
    launch->name[i] = '\0';
}

/* Holds two pidfds and waits for the end of either (of one, if there is no parent to watch).
 * The parent's death is seen through its pidfd: a pipe may be kept open by somebody's worker,
 * PR_SET_PDEATHSIG fires when a mere thread ends, getppid() races. */
_Noreturn void nsd_stay_as_watchdog(struct nsd_launch *launch)
{
    long command = sys2(__NR_pidfd_open, launch->command, 0);
    struct pollfd either[2];

    if (command < 0)
        nsd_exit(0); /* it has come and gone */
    hide();
    forget_plan(launch);
    sys0(__NR_setsid);
    sys1(__NR_chdir, "/");
    either[0] = (struct pollfd){.fd = 0, .events = POLLIN};
    either[1] = (struct pollfd){.fd = launch->parent < 0 ? -1 : 1, .events = POLLIN};
    /* The core left standard descriptors open, so neither pidfd is 0 or 1. */
    sys3(__NR_dup3, command, 0, O_CLOEXEC);
    if (launch->parent >= 0)
        sys3(__NR_dup3, launch->parent, 1, O_CLOEXEC);
    close_from(launch, launch->parent < 0 ? 1 : 2);
    rename_to(launch, "nsdemo-watch");
    nsd_watch(launch, either);
}

/* A pidfd of a ward's process, if that is still there. A pid that was taken away from us and given
 * to somebody else belongs to a process that was born later than ours. */
static long open_ward(const struct nsd_ward *ward)
{
    int64_t started = 0;
    long pidfd = ward->pid <= 0 ? -1 : sys2(__NR_pidfd_open, ward->pid, 0);

    if (pidfd < 0)
        return -1;
    if (ward->since == 0 || nsd_started_at(ward->pid, &started) < 0 ||
        (uint64_t)started <= ward->since)
        return pidfd;
    sys1(__NR_close, pidfd);
    return -1;
}

static void end_ward(const struct nsd_ward *ward)
{
    long pidfd = open_ward(ward);

    if (pidfd < 0)
        return;
    nsd_kill_process((int)pidfd, ward->pid);
    if (ward->group != 0)
        sys2(__NR_kill, -ward->pid, SIGKILL);
    sys1(__NR_close, pidfd);
}

/* Says that it is gone, and leaves unless somebody has taken a ward before that: who takes one
 * looks here afterwards. */
static void leave_if_idle(uint32_t *word, const struct nsd_ward *wards)
{
    uint32_t on_guard = *word;
    bool is_idle = true;

    __atomic_store_n(word, on_guard | FUTEX_OWNER_DIED, __ATOMIC_SEQ_CST);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    for (uint32_t i = 0; i < NSD_WARD_COUNT && is_idle; i++) {
        long pidfd = open_ward(&wards[i]);

        is_idle = pidfd < 0 && __atomic_load_n(&wards[i].pid, __ATOMIC_ACQUIRE) != -1;
        if (pidfd >= 0)
            sys1(__NR_close, pidfd);
    }
    if (is_idle)
        nsd_exit(0);
    __atomic_store_n(word, on_guard, __ATOMIC_RELEASE);
}

/* What a guard has open: pidfds of the Python process, of itself, for the other guard to
 * inherit, and of that one. */
enum {
    PARENT,
    SELF,
    OTHER
};

static long first_pid; /* of who starts the first guard, and ends then */

static void stand_by(void *argument);

/* There are two guards: when one is killed, the other starts another. */
static bool start_other(struct nsd_launch *launch)
{
    static char stacks[2][8 * 1024] __attribute__((aligned(16)));
    static unsigned int turn; /* we may be on the other one */
    long pid;

    turn ^= 1u;
    pid = sys_clone(SIGCHLD, stacks[turn] + sizeof(stacks[turn]), 0, stand_by, launch);
    return pid > 0 && sys2(__NR_pidfd_open, pid, 0) == OTHER;
}

/* Who takes orphans in has us for a child, and may wait for all that it has: there nobody stays
 * who has nothing to do, and no second one. */
static bool is_met(const struct nsd_launch *launch)
{
    return sys0(__NR_getppid) == launch->parent_pid;
}

/* The guard that the core knows of. */
static void take_office(struct nsd_launch *launch)
{
    rename_to(launch, "nsdemo-watch");
    nsd_hold(&launch->trace->guard);
    __atomic_store_n(&launch->trace->guard, (uint32_t)sys0(__NR_gettid) | FUTEX_WAITERS,
                     __ATOMIC_RELEASE);
    sys3(__NR_futex, &launch->trace->guard, FUTEX_WAKE, 1);
}

/* Until Python ends, or the other guard: true. */
static bool wait_for_other(bool has_other)
{
    struct pollfd either[2] = {{.fd = PARENT, .events = POLLIN},
                               {.fd = has_other ? OTHER : -1, .events = POLLIN}};

    nsd_wait_for_end(either, 2);
    return either[0].revents == 0;
}

static bool lives_for_a_second(void)
{
    struct __kernel_timespec second = {.tv_sec = 1};
    struct pollfd parent = {.fd = PARENT, .events = POLLIN};

    return sys5(__NR_ppoll, &parent, 1, &second, 0, 0) != 1;
}

static _Noreturn void keep_watch(struct nsd_launch *launch, bool has_other)
{
    const struct nsd_ward *wards =
        (const struct nsd_ward *)(const void *)((char *)launch->trace + NSD_PAGE);

    while (has_other && wait_for_other(has_other)) {
        while (sys4(__NR_wait4, -1, 0, WNOHANG, 0) > 0)
            continue; /* it was our child, if we were not its */
        sys1(__NR_close, OTHER);
        take_office(launch);
        has_other = !is_met(launch) && start_other(launch);
    }
    if (!has_other && is_met(launch))
        while (lives_for_a_second())
            leave_if_idle(&launch->trace->guard, wards);
    else if (!has_other)
        wait_for_other(false);
    for (uint32_t i = 0; i < NSD_WARD_COUNT; i++)
        end_ward(&wards[i]);
    /* The other one ends now, too: who takes us in may be none to reap. */
    sys4(__NR_wait4, -1, 0, 0, 0);
    nsd_exit(0);
}

static void stand_by(void *argument)
{
    struct nsd_launch *launch = argument;

    rename_to(launch, "nsdemo-guard");
    sys3(__NR_dup3, SELF, OTHER, O_CLOEXEC);
    sys1(__NR_close, SELF);
    sys2(__NR_pidfd_open, sys0(__NR_getpid), 0);
    keep_watch(launch, true);
}

/* Until it is known whose child we are then. */
static void see_first_off(void)
{
    long pidfd = sys2(__NR_pidfd_open, first_pid, 0);
    struct pollfd first = {.fd = (int)pidfd, .events = POLLIN};

    if (pidfd >= 0 && sys0(__NR_getppid) == first_pid)
        nsd_wait_for_end(&first, 1);
    if (pidfd >= 0)
        sys1(__NR_close, pidfd);
}

static void guard(void *argument)
{
    struct nsd_launch *launch = argument;

    sys0(__NR_setsid);
    sys1(__NR_chdir, "/");
    launch->parent_pid = launch->head->parent;
    forget_plan(launch);
    take_office(launch);
    see_first_off();
    keep_watch(launch, !is_met(launch) &&
                           sys2(__NR_pidfd_open, sys0(__NR_getpid), 0) == SELF &&
                           start_other(launch));
}

/* Leaves a guard behind and ends. The guard is nobody's child whom a waitpid(-1) of the Python
 * program could wait for (but see core/launch/guard.h), and it shares a page with it where the kernel
 * notes each command's pid before that has run its first instruction: whenever Python dies, the
 * list is whole. */
_Noreturn void nsd_stand_guard(struct nsd_launch *launch, struct nsd_result *result)
{
    static char stack[8 * 1024] __attribute__((aligned(16)));
    const struct __kernel_timespec patience = {.tv_sec = 2};
    long pid;

    sys3(__NR_dup3, launch->parent, 0, O_CLOEXEC);
    close_from(launch, 1);
    hide();
    first_pid = sys0(__NR_getpid);
    pid = sys_clone(SIGCHLD, stack + sizeof(stack), &launch->trace->command, guard,
                    launch);
    while (pid >= 0 && __atomic_load_n(&launch->trace->guard, __ATOMIC_ACQUIRE) == 0 &&
           sys4(__NR_futex, &launch->trace->guard, FUTEX_WAIT, 0, &patience) !=
               -ETIMEDOUT)
        continue;
    result->end = nsd_counter();
    result->value = pid;
    result->error = pid < 0 ? (int32_t)-pid : 0;
    nsd_exit(0);
}

_Noreturn void nsd_stay_as_init(struct nsd_launch *launch, long command)
{
    hide();
    forget_plan(launch);
    close_from(launch, 0);
    /* Out of the command's process group: what that is sent, the command has got. */
    sys0(__NR_setsid);
    nsd_keep_only(1 << CAP_KILL);
    rename_to(launch, "nsdemo-init");
    nsd_announce(launch); /* by now whoever looks at it sees what it is */
    nsd_be_init(launch, command);
}
