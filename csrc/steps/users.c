/* users.c - who is who in a new user namespace, written from outside of it.
 *
 * A process may map itself, and nobody else, from inside. Whatever is more takes power over the
 * user namespace around it, which nobody has who is inside: so a helper is cloned before, and
 * stays outside. It has the launcher's program, memory of its own, and ends when it is let go,
 * or its socket is closed by whatever ends the launcher.
 *
 * It writes the maps itself where it has the power (root), else it runs newuidmap and newgidmap,
 * which are setuid root and look up in /etc/subuid and /etc/subgid what their caller may have.
 */
#include "constants.h"
#include "power.h"
#include "steps.h"
#include "text.h"

#include <linux/errno.h>
#include <linux/fcntl.h>
#include <linux/poll.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/signal.h>
#include <linux/wait.h>

#define EXECUTING_FAILED                                                               \
    100 /* newuidmap ends with 0 or 1; 100 and an errno come from here */
#define MOST_NUMBERS (3 * 340)
#define MOST_TEXT 4096

/* What is asked of the helper: a step, for a process. */
struct order {
    int64_t pid;
    uint64_t step;
};

/* In the process that becomes newuidmap: what it gets is what it needs, and nothing of ours. */
static void become_program(const char *program, const char *pid, const char *content,
                           long output)
{
    static char numbers[MOST_TEXT], *argv[MOST_NUMBERS + 3];
    char *const envp[] = {(char[]){"PATH=/usr/sbin:/usr/bin:/sbin:/bin"},
                          (char[]){"LC_ALL=C"}, NULL};
    const uint64_t no_signals = 0;
    size_t count = 0, at = 0;
    long input, ret;

    sys5(__NR_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    argv[count++] = (char *)(uintptr_t)program;
    argv[count++] = (char *)(uintptr_t)pid;
    for (bool inside = false; content[at] != '\0' && at < sizeof(numbers) - 1; at++) {
        bool digit = content[at] >= '0' && content[at] <= '9';

        if (digit && !inside && count < MOST_NUMBERS + 2)
            argv[count++] = &numbers[at];
        if (digit) /* the rest is NUL already */
            numbers[at] = content[at];
        inside = digit;
    }
    argv[count] = NULL;
    input = sys4(__NR_openat, AT_FDCWD, "/dev/null", O_RDONLY, 0);
    sys3(__NR_dup3, output, 1, 0);
    sys3(__NR_dup3, output, 2, 0);
    if (input > 0) {
        sys3(__NR_dup3, input, 0, 0);
        sys1(__NR_close, input);
    }
    ret = sys3(__NR_close_range, 3, ~0u, 0);
    if (ret < 0)
        ret = nsd_close_all_but(NULL, 0);
    sys4(__NR_rt_sigprocmask, SIG_SETMASK, &no_signals, 0, sizeof(no_signals));
    if (ret == 0)
        ret = sys3(__NR_execve, program, argv, envp);
    sys1(__NR_exit_group, EXECUTING_FAILED - ret);
}

/* Keeps the beginning of what is said, and reads on until the program ends. A set-user-ID program
 * does not end with us, so it is ended when whoever asked for it has gone. */
static void listen(long fd, long asker, long child, char *said)
{
    struct pollfd any[] = {
        {.fd = (int)fd, .events = POLLIN},
        {.fd = (int)sys2(__NR_pidfd_open, child, 0), .events = POLLIN},
        {.fd = (int)asker},
    };
    char rest[64];
    size_t length = 0;

    while (any[0].fd >= 0 || any[1].fd >= 0) {
        bool full = length >= NSD_SAID - 1;
        long got;

        if (sys5(__NR_ppoll, any, 3, 0, 0, 0) < 0)
            continue;
        if (any[2].revents != 0) {
            sys2(__NR_kill, child, SIGKILL);
            break;
        }
        if (any[0].revents == 0)
            break;
        got = full ? sys3(__NR_read, fd, rest, sizeof(rest))
                   : sys3(__NR_read, fd, said + length, NSD_SAID - 1 - length);
        if (got <= 0)
            any[0].fd = -1;
        else if (!full)
            length += (size_t)got;
    }
    if (any[1].fd >= 0)
        sys1(__NR_close, any[1].fd);
    said[length] = '\0';
}

/* 0 if the program says so by its status, and only then: one that was killed did nothing. */
static long run_program(struct nsd_launch *launch, long asker, const char *program,
                        const char *pid, const char *content)
{
    char *said = (char *)&launch->results[launch->head->step_count];
    int pipe[2] = {-1, -1}, status = 0;
    long child, ret = sys2(__NR_pipe2, pipe, O_CLOEXEC);

    if (ret < 0)
        return ret;
    child = sys5(__NR_clone, SIGCHLD, 0, 0, 0, 0);
    if (child == 0)
        become_program(program, pid, content, pipe[1]);
    sys1(__NR_close, pipe[1]);
    if (child > 0)
        listen(pipe[0], asker, child, said);
    sys1(__NR_close, pipe[0]);
    if (child < 0)
        return child;
    ret = sys4(__NR_wait4, child, &status, __WALL, 0);
    if (ret < 0)
        return ret;
    if ((status & 0x7f) != 0)
        return -EINTR;
    status = status >> 8 & 0xff;
    if (status >= EXECUTING_FAILED)
        return EXECUTING_FAILED - status;
    return status == 0 ? 0 : -EPERM;
}

static long write_map(struct nsd_launch *launch, long asker, int64_t pid,
                      const struct nsd_step *step)
{
    const char *program = nsd_text(launch, step, 2);
    static char number[24]; /* outlives what becomes the program */
    char path[64];

    nsd_append_number(number, (uint64_t)pid);
    nsd_append(nsd_append(nsd_append(nsd_append(path, "/proc/"), number), "/"),
               nsd_text(launch, step, 0));
    if (program != NULL)
        return run_program(launch, asker, program, number, nsd_text(launch, step, 1));
    return nsd_write_proc(path, nsd_text(launch, step, 1));
}

static void serve(struct nsd_launch *launch, long socket)
{
    struct order order = {0};

    /* Its end shows at the socket, unless somebody has stopped us. */
    sys5(__NR_prctl, PR_SET_PDEATHSIG, SIGCONT, 0, 0, 0);
    while (sys3(__NR_read, socket, &order, sizeof(order)) == sizeof(order) &&
           order.step < launch->head->step_count) {
        int64_t answer =
            write_map(launch, socket, order.pid, &launch->steps[order.step]);

        if (sys6(__NR_sendto, socket, (long)&answer, sizeof(answer), MSG_NOSIGNAL, 0,
                 0) < 0)
            break; /* it shall not be waited for */
    }
    sys1(__NR_exit_group, 0);
}

/* The helper has memory of its own: the kernel makes no user namespace for a process that
 * shares its memory with another. */
long nsd_map_helper(struct nsd_launch *launch, const struct nsd_step *step)
{
    int pair[2] = {-1, -1};
    long ret = sys4(__NR_socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair);

    (void)step;
    if (ret < 0)
        return ret;
    ret = sys5(__NR_clone, SIGCHLD, 0, 0, 0, 0);
    if (ret == 0) {
        sys1(__NR_close, pair[0]);
        serve(launch, pair[1]);
    }
    sys1(__NR_close, pair[1]);
    if (ret < 0) {
        sys1(__NR_close, pair[0]);
        return ret;
    }
    launch->helper = pair[0];
    launch->helper_pid = ret;
    return ret;
}

void nsd_dismiss_helper(struct nsd_launch *launch)
{
    if (launch->helper < 0)
        return;
    sys1(__NR_close, launch->helper);
    launch->helper = -1;
    sys4(__NR_wait4, launch->helper_pid, 0, __WALL, 0);
}

/* file: of /proc/PID; program: that writes it, if we do not; last: the helper may go then */
long nsd_map_ids(struct nsd_launch *launch, const struct nsd_step *step)
{
    struct order order = {.pid = sys0(__NR_getpid),
                          .step = (uint64_t)(step - launch->steps)};
    int64_t answer = -ECHILD; /* it is gone */
    long ret = sys6(__NR_sendto, launch->helper, (long)&order, sizeof(order),
                    MSG_NOSIGNAL, 0, 0);

    if (ret < 0)
        return ret;
    sys3(__NR_read, launch->helper, &answer, sizeof(answer));
    if (step->number[0] != 0 || answer < 0)
        nsd_dismiss_helper(launch);
    return answer;
}

/* A user namespace belongs to the effective ids of its maker. Those that are not root's take
 * root's capabilities from what is effective; what is permitted stays, and becomes it again. */
long nsd_owner(struct nsd_launch *launch, const struct nsd_step *step)
{
    long ret = sys3(__NR_setresgid, -1, step->number[1], -1);

    (void)launch;
    if (ret == 0)
        ret = sys3(__NR_setresuid, -1, step->number[0], -1);
    return ret < 0 ? ret : nsd_raise_permitted();
}
