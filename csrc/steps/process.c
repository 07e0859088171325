/* process.c - which process it is, who its parent and its session are, and what ids it has. */
#include "steps.h"

#include <asm/stat.h>
#include <linux/errno.h>
#include <linux/fcntl.h>
#include <linux/poll.h>
#include <linux/prctl.h>
#include <linux/signal.h>
#include <linux/time_types.h>

/* Negative: the inode of a process's pidfds; else when it started. */
static long birth_of(long pid, long pidfd, int64_t like, int64_t *ret_birth)
{
    struct stat file;
    long ret;

    if (like >= 0)
        return nsd_started_at(pid, ret_birth);
    file.st_ino = 0;
    ret = sys2(__NR_fstat, pidfd, &file);
    *ret_birth = -(int64_t)file.st_ino;
    return ret;
}

/* birth: nsd_process_birth */
long nsd_open_process(struct nsd_launch *launch, const struct nsd_step *step)
{
    int64_t birth = 0;
    long fd = sys2(__NR_pidfd_open, step->number[0], 0);
    long ret;

    if (fd < 0)
        return fd;
    ret = birth_of(step->number[0], fd, step->number[1], &birth);
    if (ret == 0 && birth != step->number[1])
        ret = -ESRCH;
    if (ret < 0)
        return close_after(fd, ret);
    launch->slot[step->number[2]] = (int)fd;
    return 0;
}

long nsd_check_alive(long pidfd)
{
    const struct __kernel_timespec at_once = {0};
    struct pollfd process = {.fd = (int)pidfd, .events = POLLIN};
    long ret = sys5(__NR_ppoll, &process, 1, &at_once, 0, 0);

    if (ret < 0)
        return ret;
    return ret == 0 ? 0 : (process.revents & POLLNVAL) != 0 ? -EBADF : -ESRCH;
}

long nsd_watch_parent(struct nsd_launch *launch, const struct nsd_step *step)
{
    long parent = launch->head->parent;
    long fd;

    if (sys0(__NR_getppid) != parent)
        return -ESRCH;
    fd = sys2(__NR_pidfd_open, parent, 0);
    if (fd < 0)
        return fd;
    /* Still our parent, so the number named it when it was opened. */
    if (sys0(__NR_getppid) != parent)
        return close_after(fd, -ESRCH);
    launch->parent = (int)fd;
    launch->ends_group = (int)step->number[0];
    return 0;
}

/* Only for a call that keeps its thread until the command has ended: the kernel sends this
 * signal when the thread that started us ends, not the process. */
long nsd_die_with_parent(struct nsd_launch *launch, const struct nsd_step *step)
{
    long ret = sys5(__NR_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);

    (void)step;
    launch->parent_pid = launch->head->parent;
    /* In another pid namespace nobody can tell who the parent is: the first process looks. */
    if (ret == 0 && launch->self == NSD_FIRST &&
        sys0(__NR_getppid) != launch->parent_pid)
        ret = -ESRCH;
    return ret;
}

/* Nobody inside may read this process through /proc. */
long nsd_hide(struct nsd_launch *launch, const struct nsd_step *step)
{
    (void)step;
    launch->hides = true;
    return sys5(__NR_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);
}

long nsd_hide_again(struct nsd_launch *launch, long ret)
{
    return ret == 0 && launch->hides ? nsd_hide(launch, NULL) : ret;
}

/* After joining a user namespace nobody is anybody yet: become its root. Groups can be kept
 * from changing by the namespace ("setgroups" reads deny). */
long nsd_become_root(struct nsd_launch *launch, const struct nsd_step *step)
{
    long ret = sys2(__NR_setgroups, 0, 0);

    (void)step;
    if (ret < 0 && ret != -EPERM)
        return ret;
    ret = sys3(__NR_setresgid, 0, 0, 0);
    if (ret == 0)
        ret = sys3(__NR_setresuid, 0, 0, 0);
    return nsd_hide_again(launch, ret);
}

/* groups: that many 32-bit ids */
long nsd_setgroups(struct nsd_launch *launch, const struct nsd_step *step)
{
    return sys2(__NR_setgroups, step->number[0], nsd_text(launch, step, 0));
}

long nsd_setgid(struct nsd_launch *launch, const struct nsd_step *step)
{
    int64_t id = step->number[0];

    return nsd_hide_again(launch, sys3(__NR_setresgid, id, id, id));
}

long nsd_setuid(struct nsd_launch *launch, const struct nsd_step *step)
{
    int64_t id = step->number[0];

    return nsd_hide_again(launch, sys3(__NR_setresuid, id, id, id));
}

long nsd_setsid(struct nsd_launch *launch, const struct nsd_step *step)
{
    (void)launch;
    (void)step;
    return sys0(__NR_setsid);
}

/* group: 0 for one of its own */
long nsd_setpgid(struct nsd_launch *launch, const struct nsd_step *step)
{
    (void)launch;
    return sys2(__NR_setpgid, 0, step->number[0]);
}

long nsd_umask(struct nsd_launch *launch, const struct nsd_step *step)
{
    (void)launch;
    return sys1(__NR_umask, step->number[0]);
}
