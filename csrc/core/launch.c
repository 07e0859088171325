/* launch.c - the second half of a launch: until it is decided, and what came of it. */
#include "launch.h"

#include "pins.h"

#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

void nsd_reap(pid_t pid)
{
    if (pid <= 0)
        return;
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        continue;
}

bool nsd_has_exited(pid_t pid)
{
    siginfo_t info = {0};

    return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0 ||
           info.si_pid == pid;
}

bool nsd_launch_needs_no_wait(struct nsd_child *child)
{
    if (child->forked || child->pins != NULL)
        return false;
    child->pidfd = (int)syscall(SYS_pidfd_open, child->first, 0);
    if (child->pidfd >= 0)
        child->command = child->first;
    return child->pidfd >= 0;
}

int nsd_launch_wait(struct nsd_child *child)
{
    /* The kernel wakes us when the first process dies; the time-out is for a kernel without
     * robust futexes. */
    const struct timespec patience = {
        /* A process that asks for a pin may wake us just before we sleep. */
        .tv_nsec = (child->pins == NULL ? 200 : 2) * 1000 * 1000,
    };

    if (child->trace == NULL) /* the vfork child did it all */
        return 0;
    for (;;) {
        uint32_t state = __atomic_load_n(&child->trace->state, __ATOMIC_ACQUIRE);

        if (state != child->waiting_state)
            return 0;
        nsd_pins_answer(child);
        if (syscall(SYS_futex, &child->trace->state, FUTEX_WAIT, state, &patience) == 0)
            continue;
        if (errno == EINTR)
            return -EINTR;
        if (errno == ETIMEDOUT && nsd_has_exited(child->first))
            return 0;
    }
}

/* The trace is shared memory: take a copy, and nothing from it that was not checked. */
static int take_results(struct nsd_child *child)
{
    size_t size = child->step_count * sizeof(struct nsd_result);

    if (child->results != NULL)
        return 0;
    child->results = malloc(size == 0 ? 1 : size);
    if (child->results == NULL)
        return -ENOMEM;
    memcpy(child->results, child->trace->results, size);
    if (child->maps)
        child->said =
            strndup((const char *)&child->trace->results[child->step_count], NSD_SAID);
    for (uint32_t i = 0; i < child->step_count; i++)
        if (child->results[i].process > NSD_CALLER)
            child->results[i].process = NSD_NOBODY;
    return 0;
}

/* The first failure that ended the plan; a tolerated one is followed by another step. */
static bool find_failure(const struct nsd_child *child, uint32_t *ret_step)
{
    for (uint32_t i = child->step_count; i-- > 0;) {
        if (child->results[i].process == NSD_NOBODY)
            continue;
        *ret_step = i;
        return child->results[i].error != 0;
    }
    return false;
}

void nsd_launch_abandon(struct nsd_child *child)
{
    pid_t command = 0;

    /* Children of ours that nobody has reaped: their numbers are still theirs. Who would make
     * the command ends first. */
    if (child->first > 0)
        kill(child->first, SIGKILL);
    nsd_reap(child->first);
    if (child->forked && child->trace != NULL)
        command = child->trace->command;
    if (command > 0 && !nsd_has_exited(command))
        kill(command, SIGKILL);
    nsd_reap(command);
    child->first = 0;
    child->reaped = true;
    nsd_child_leaves_ward(child);
    nsd_child_release(child);
}

int nsd_launch_settle(struct nsd_child *child, uint32_t *reterr_step,
                      enum nsd_start_stage *reterr_stage)
{
    uint32_t last = 0;
    bool is_over;
    int ret = take_results(child);

    nsd_read_clocks(child, 1);
    if (ret < 0) {
        nsd_launch_abandon(child);
        return ret;
    }
    child->command = child->forked ? child->trace->command : child->first;
    if (find_failure(child, &last)) {
        *reterr_step = last;
        if (!child->reaped)
            nsd_reap(child->first);
        if (child->forked)
            nsd_reap(child->command);
        child->reaped = true;
        nsd_pins_undo(child);
        nsd_child_wipe_trace(child, true);
        nsd_child_leaves_ward(child);
        nsd_child_close(child);
        return -ECANCELED;
    }
    if (last + 1 != child->step_count) { /* nobody reached the last step */
        *reterr_stage = NSD_START_KILLED;
        if (!child->reaped)
            nsd_launch_abandon(child);
        return -ECHILD;
    }
    /* The first process noted that the command runs, and had nothing to do but to end. */
    is_over = child->results[last].end != 0 && child->trace != NULL &&
              child->trace->is_set_id == 0;
    if (child->results[last].end == 0) /* the process that kept notes is the command */
        child->results[last].end = child->counter[1];
    if (!child->forked) {
        child->first = 0;
    } else if (!child->has_watchdog && !child->tidies_late) {
        nsd_reap(child->first);
        child->first = 0;
    }
    if (child->pidfd < 0)
        child->pidfd = (int)syscall(SYS_pidfd_open, child->command, 0);
    if (child->pidfd < 0 && errno != ESRCH) {
        ret = -errno;
        *reterr_stage = NSD_START_PIDFD;
        nsd_child_release(child);
        return ret;
    }
    if (!child->tidies_late) /* it will be used long after this call */
        nsd_child_note_pidfd(child);
    nsd_pins_keep(child);
    if (!child->has_init)
        nsd_child_wipe_trace(child, is_over);
    return 0;
}
