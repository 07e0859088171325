/* stay.c - what those who stay do for as long as they stay; and how little of us is left then.
 *
 * There may be thousands of them. The code of this file, in a section of its own, lies in the last
 * page of the program, with the constants; all pages before it are unmapped, and so are the
 * stacks that nobody uses any more. From then on nothing else may be called.
 */
#include "launcher.h"

#include <linux/auxvec.h>
#include <linux/errno.h>
#include <linux/signal.h>
#include <linux/time_types.h>
#include <linux/wait.h>

struct nsd_stacks nsd_stacks __attribute__((aligned(NSD_PAGE)));

__asm__(".section stay,\"ax\"\n"
        ".balign 4096\n"
        ".text\n");

/* Behind the arguments and the environment, as the kernel lays them out. */
void nsd_find_image(struct nsd_launch *launch, const uintptr_t *stack)
{
    const uintptr_t *at = stack + 1 + stack[0] + 1;
    uintptr_t headers = 0;

    while (*at++ != 0)
        continue;
    for (; at[0] != AT_NULL; at += 2) {
        if (at[0] == AT_PHDR)
            headers = at[1];
        if (at[0] == AT_PAGESZ && at[1] != NSD_PAGE)
            return;
    }
    launch->image = headers & ~(uintptr_t)(NSD_PAGE - 1); /* in the first page */
}

_Noreturn void nsd_exit(int status)
{
    sys1(__NR_exit_group, status);
    __builtin_trap(); /* a seccomp filter forbids even that */
}

static NSD_STAYS void unmap_the_rest(const struct nsd_launch *launch)
{
    uintptr_t here = (uintptr_t)nsd_exit & ~(uintptr_t)(NSD_PAGE - 1);
    const char *unused =
        launch->self == NSD_FIRST ? nsd_stacks.second : nsd_stacks.thread;

    if (launch->image == 0)
        return;
    sys2(__NR_munmap, launch->image, here - launch->image);
    sys2(__NR_munmap, unused, (const char *)(&nsd_stacks + 1) - unused);
}

/* Where the kernel cannot wait just now (ENOMEM), nobody has ended. */
void nsd_wait_for_end(struct pollfd *pidfds, unsigned int count)
{
    const struct __kernel_timespec moment = {.tv_nsec = 100 * 1000 * 1000};
    long ret;

    while ((ret = sys5(__NR_ppoll, pidfds, count, 0, 0, 0)) < 0)
        if (ret != -EINTR)
            sys2(__NR_nanosleep, &moment, 0);
}

/* By its number where a filter refuses the other: it runs, so the number is its own. */
void nsd_kill_process(int pidfd, long pid)
{
    const struct __kernel_timespec now = {0};
    struct pollfd ended = {.fd = pidfd, .events = POLLIN};
    long ret = sys4(__NR_pidfd_send_signal, pidfd, SIGKILL, 0, 0);

    if (ret < 0 && ret != -ESRCH && sys5(__NR_ppoll, &ended, 1, &now, 0, 0) == 0)
        sys2(__NR_kill, pid, SIGKILL);
}

_Noreturn void nsd_watch(const struct nsd_launch *launch, struct pollfd either[2])
{
    int32_t command = launch->command, group = launch->ends_group ? command : 0;

    unmap_the_rest(launch);
    nsd_wait_for_end(either, 2);
    if (either[0].revents == 0) {
        nsd_kill_process(0, command);
        if (group != 0)
            sys2(__NR_kill, -group, SIGKILL);
    }
    nsd_exit(0);
}

#define SI_KERNEL 0x80 /* asm-generic/siginfo.h, which is at odds with linux/signal.h */

/* What of a siginfo_t is asked for here. */
union received {
    struct {
        int32_t signal, error, code;
    } of;
    uint64_t room[16];
};

/* What was sent to init, and init alone, is for the command. What the terminal sends goes to a
 * process group, and so to the command already, unless it was born after that. */
static NSD_STAYS void forward(const struct nsd_launch *launch, long command,
                              long signal, const union received *info)
{
    bool came_before = (launch->pending >> (signal - 1) & 1) != 0;

    if (signal != SIGCHLD && (info->of.code != SI_KERNEL || came_before))
        sys2(__NR_kill, command, signal);
}

/* PID 1: reaps whatever is left to it, forwards what it is sent, and ends as the command
 * ended. The kernel drops a signal that PID 1 has no handler for, unless it is blocked: all
 * are, and sigtimedwait takes them one by one. PID 1 cannot die of a signal of its own, so
 * the true status goes to the trace, and the exit status says 128+N as a shell does. */
_Noreturn void nsd_be_init(struct nsd_launch *launch, long command)
{
    const uint64_t every_signal = ~(uint64_t)0;

    unmap_the_rest(launch);
    for (;;) {
        int status = 0;
        long pid = sys4(__NR_wait4, -1, &status, WNOHANG, 0);

        if (pid == command) {
            int signal = status & 0x7f;

            launch->trace->status = status;
            __atomic_store_n(&launch->trace->has_status, 1, __ATOMIC_RELEASE);
            nsd_exit(signal == 0 ? (status >> 8) & 0xff : 128 + signal);
        }
        if (pid == 0) {
            union received info;
            long signal;

            info.of.code = 0;
            signal = sys4(__NR_rt_sigtimedwait, &every_signal, &info, 0, 8);

            if (signal > 0) {
                forward(launch, command, signal, &info);
                launch->pending &= ~((uint64_t)1 << (signal - 1));
            }
        } else if (pid < 0 && pid != -EINTR) {
            nsd_exit(255);
        }
    }
}
