#include "trace.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

#define MAX_ERRNO 4095

bool nsd_is_our_child(pid_t pid)
{
    siginfo_t info = {0};
    int ret;

    if (pid <= 0)
        return false;
    do
        ret = waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT);
    while (ret < 0 && errno == EINTR);
    return ret == 0;
}

pid_t nsd_trace_command(const struct nsd_child *child, bool *ret_gone)
{
    pid_t pid;
    int pidfd;

    *ret_gone = false;
    if (child->trace == NULL)
        return 0;
    pid = __atomic_load_n(&child->trace->command, __ATOMIC_ACQUIRE);
    if (pid <= 0 || pid == child->first_pid)
        return 0;
    if (nsd_is_our_child(pid))
        return pid;
    pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0 && errno == ESRCH) {
        *ret_gone = true;
        return pid;
    }
    if (pidfd >= 0)
        close(pidfd);
    return 0;
}

static void correct(struct nsd_result *result)
{
    if (result->process > NSD_CALLER)
        *result = (struct nsd_result){0};
    if (result->error < 0 || result->error > MAX_ERRNO)
        result->error = EIO;
    if (result->value < 0)
        result->value = 0;
    if (result->end != 0 && result->end < result->start)
        result->end = result->start;
}

void nsd_trace_results(const struct nsd_child *child, struct nsd_result *ret_results)
{
    memcpy(ret_results, child->trace->results,
           child->step_count * sizeof(*ret_results));
    for (uint32_t i = 0; i < child->step_count; i++)
        correct(&ret_results[i]);
}

bool nsd_trace_status(const struct nsd_child *child, int *ret_status)
{
    int status;

    if (child->trace == NULL ||
        __atomic_load_n(&child->trace->has_status, __ATOMIC_ACQUIRE) != 1)
        return false;
    status = __atomic_load_n(&child->trace->status, __ATOMIC_RELAXED) & 0xffff;
    if (!WIFEXITED(status) && !WIFSIGNALED(status))
        return false;
    *ret_status = status;
    return true;
}
