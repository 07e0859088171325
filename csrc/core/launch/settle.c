/* launch.c - the second half of a launch: until it is decided, and what came of it. */
#include "settle.h"

#include "borrowed.h"
#include "guard.h"
#include "orphans.h"
#include "pins.h"
#include "trace.h"

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

int nsd_launch_wait(struct nsd_child *child, int64_t deadline)
{
    /* The kernel wakes us when the first process dies; the time-out is for a kernel without
     * robust futexes, and for a signal that comes before we sleep. A process that asks for a
     * pin may wake us just then, too. */
    int ret;
    const int64_t patience = (child->pins == NULL ? 200 : 2) * 1000000;

    if (child->trace == NULL || child->early_failed) /* the vfork child did it all */
        return 0;
    for (;;) {
        uint32_t state = __atomic_load_n(&child->trace->state, __ATOMIC_ACQUIRE);
        int64_t left = deadline - nsd_now();
        struct timespec time = {.tv_nsec = (long)(left < patience ? left : patience)};

        if (state != child->waiting_state)
            return 0;
        if (left <= 0)
            return -ETIMEDOUT;
        if ((ret = nsd_pins_answer(child, deadline)) < 0)
            return ret;
        if (syscall(SYS_futex, &child->trace->state, FUTEX_WAIT, state, &time) == 0 ||
            errno == EAGAIN)
            continue;
        if (errno == ETIMEDOUT && nsd_has_exited(child->first))
            return 0;
        return -EINTR;
    }
}

/* The trace is shared memory: take a copy, and nothing from it that was not checked. */
static int take_results(struct nsd_child *child)
{
    size_t size = child->step_count * sizeof(struct nsd_result);

    if (child->results != NULL)
        return 0;
    child->results = calloc(1, size == 0 ? 1 : size);
    if (child->results == NULL)
        return -ENOMEM;
    if (child->trace != NULL)
        nsd_trace_results(child, child->results);
    memcpy(child->results, child->early,
           child->early_count * sizeof(struct nsd_result));
    if (child->maps && child->trace != NULL)
        child->said =
            strndup((const char *)&child->trace->results[child->step_count], NSD_SAID);
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

static void give_ward_back(void *ward)
{
    nsd_ward_give_back(ward);
}

static void end_first(struct nsd_child *child)
{
    struct nsd_borrower *borrower = child->borrower;

    child->borrower = NULL;
    if (borrower != NULL) {
        borrower->ward = child->ward;
        child->ward = NULL;
        if (nsd_end(child->first, nsd_borrower_forget, borrower))
            nsd_borrower_forget(borrower);
    } else if (child->first > 0 &&
               !nsd_end(child->first, give_ward_back, child->ward)) {
        child->ward = NULL;
    }
}

/* Children of ours that nobody has reaped: their numbers are still theirs. Who would make the
 * command ends first. */
static void end_processes(struct nsd_child *child)
{
    pid_t command = 0;
    bool is_gone = false;

    end_first(child);
    if (child->forked && child->trace != NULL)
        command = nsd_trace_command(child, &is_gone);
    if (command > 0 && !is_gone)
        nsd_end(command, NULL, NULL);
    child->first = 0;
    child->command = 0;
    child->reaped = child->status_lost = true;
}

void nsd_launch_abandon(struct nsd_child *child)
{
    nsd_read_clocks(child, 1);
    take_results(child);
    end_processes(child);
    nsd_child_leaves_ward(child);
    nsd_pins_undo(child);
    nsd_child_wipe_trace(child, false);
    nsd_child_close(child);
    child->abandoned = true;
}

/* Who forks the command has other things to do when that has been executed, and notes it after
 * them. A watchdog says itself that it stays: the kernel says so only when it is dead. */
static bool is_whole(const struct nsd_child *child, uint32_t last)
{
    siginfo_t first = {0};

    if (last + 1 != child->step_count)
        return false;
    if (!child->forked)
        return true;
    if (child->results[last].end == 0 ||
        (child->has_watchdog &&
         (__atomic_load_n(&child->trace->state, __ATOMIC_ACQUIRE) & FUTEX_OWNER_DIED) !=
             0))
        return false;
    return waitid(P_PID, (id_t)child->first, &first, WEXITED | WNOHANG | WNOWAIT) < 0 ||
           first.si_pid == 0 || first.si_code == CLD_EXITED;
}

int nsd_why_not_taken(int status)
{
    if (status < 0 || !WIFEXITED(status) || WEXITSTATUS(status) <= NSD_NOT_TAKEN)
        return 0;
    return NSD_NOT_TAKEN - WEXITSTATUS(status);
}

/* Of who says that it ends: its word comes a moment before its end. */
static int why_first_ended(struct nsd_child *child)
{
    uint32_t state = child->trace == NULL
                         ? 0
                         : __atomic_load_n(&child->trace->state, __ATOMIC_ACQUIRE);
    bool ends = (state & FUTEX_OWNER_DIED) != 0;
    int status = -1;

    if (child->first <= 0 || (!ends && !nsd_has_exited(child->first)))
        return 0;
    if (nsd_reap_until(child->first, nsd_now() + NSD_GRACE, &status))
        child->first = 0;
    return nsd_why_not_taken(status);
}

/* Who has forked the command and ends. Often it has by now, and there is time: the command has just
 * begun. */
static bool is_seen_off(struct nsd_child *child)
{
    if (child->tidies_late)
        return waitpid(child->first, NULL, WNOHANG) != 0;
    nsd_see_off(child->first);
    return true;
}

int nsd_launch_settle(struct nsd_child *child, uint32_t *reterr_step,
                      enum nsd_start_stage *reterr_stage)
{
    uint32_t last = 0;
    bool is_over, is_gone = false;
    int ret = take_results(child);

    nsd_read_clocks(child, 1);
    if (ret < 0) {
        nsd_launch_abandon(child);
        return ret;
    }
    child->command = child->forked ? nsd_trace_command(child, &is_gone) : child->first;
    if (is_gone) /* its number may be that of another group by now */
        child->own_group = false;
    if (find_failure(child, &last)) {
        *reterr_step = last;
        nsd_see_off(child->first);
        if (child->forked && !is_gone)
            nsd_see_off(child->command);
        child->reaped = true;
        nsd_pins_undo(child);
        nsd_child_wipe_trace(child, true);
        nsd_child_leaves_ward(child);
        nsd_child_close(child);
        return -ECANCELED;
    }
    /* Somebody was killed before he had done it all; or has forged who is the command. */
    if (!is_whole(child, last) || (child->forked && child->command == 0)) {
        ret = why_first_ended(child);
        *reterr_stage = ret < 0 ? NSD_START_TAKE : NSD_START_KILLED;
        nsd_launch_abandon(child);
        return ret < 0 ? ret : -ECHILD;
    }
    /* Who wrote it has become the command, or noted that this runs and had nothing to do but to
     * end. */
    is_over = child->trace != NULL &&
              (!child->forked ||
               (child->results[last].end != 0 && child->trace->is_set_id == 0));
    if (child->results[last].end == 0) /* the process that kept notes is the command */
        child->results[last].end = child->counter[1];
    if (!child->forked || (!child->has_watchdog && is_seen_off(child)))
        child->first = 0;
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
    if (child->ward != NULL && child->forked)
        nsd_ward_is(child->ward, child->command);
    nsd_pins_keep(child);
    if (!child->has_init)
        nsd_child_wipe_trace(child, is_over);
    return 0;
}
