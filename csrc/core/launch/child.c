#include "child.h"

#include "guard.h"
#include "orphans.h"
#include "pins.h"
#include "slate.h"
#include "trace.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif
#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif
#define SIGNAL_PROCESS_GROUP (1u << 2) /* PIDFD_SIGNAL_PROCESS_GROUP, Linux 6.9 */

int64_t nsd_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t nsd_child_time(const struct nsd_child *child, uint64_t counter)
{
    double ticks = (double)(child->counter[1] - child->counter[0]);
    double span = (double)(child->clock[1] - child->clock[0]);

    if (counter <= child->counter[0] || ticks <= 0)
        return child->clock[0];
    if (counter >= child->counter[1])
        return child->clock[1];
    return child->clock[0] +
           (int64_t)((double)(counter - child->counter[0]) * span / ticks);
}

/* The kernel's own memory of a process that somebody else has reaped (Linux 6.15): laid out
 * as struct pidfd_info, which older headers do not have. Who reaps takes the status first, and
 * a moment later the kernel notes it and hangs the pidfd up; patience: ms that are waited. */
static bool exit_status_of_pidfd(int pidfd, int patience, int *ret_status)
{
    struct {
        uint64_t mask;
        uint64_t cgroup;
        uint32_t ids[11];
        int32_t exit_code;
    } info;
    struct pollfd reaped = {.fd = pidfd};

    _Static_assert(sizeof(info) == 64, "PIDFD_INFO_SIZE_VER0");
    for (;;) {
        info.mask = 1u << 3; /* PIDFD_INFO_EXIT */
        if (pidfd < 0 || ioctl(pidfd, _IOWR(0xFF, 11, info), &info) < 0)
            return false;
        if ((info.mask & 1u << 3) != 0)
            break;
        if (patience == 0)
            return false;
        poll(&reaped, 1, patience);
        patience = 0;
    }
    *ret_status = info.exit_code;
    return true;
}

/* init cannot die of its command's signal, so it leaves the true status in the trace. That
 * is shared memory, so it must look like a status. */
static void prefer_noted_status(struct nsd_child *child)
{
    int status;

    if (!child->has_init || !nsd_trace_status(child, &status))
        return;
    if (child->status_lost ||
        (WIFEXITED(child->status) &&
         WEXITSTATUS(child->status) ==
             (WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status))))
        child->status = status;
    child->status_lost = false;
}

static void lock(struct nsd_child *child)
{
    pthread_mutex_lock(nsd_lock_of(&child->owner, &child->lock));
}

static void unlock(struct nsd_child *child)
{
    pthread_mutex_unlock(nsd_lock_of(&child->owner, &child->lock));
}

bool nsd_child_is_ours(const struct nsd_child *child)
{
    return !child->adopted && nsd_is_owner(&child->owner);
}

/* The page of the wards is not mapped in a fork of their owner. */
void nsd_child_leaves_ward(struct nsd_child *child)
{
    if (nsd_child_is_ours(child))
        nsd_ward_give_back(child->ward);
    child->ward = NULL;
}

void nsd_child_wipe_trace(struct nsd_child *child, bool is_over)
{
    if (child->slate_used > 0 && nsd_child_is_ours(child))
        nsd_slate_give_back(is_over ? child->slate_used : 0);
    else if (child->slate_used == 0 && child->trace != NULL)
        munmap(child->trace, child->trace_size);
    child->slate_used = 0;
    child->trace = NULL;
}

void nsd_child_note_pidfd(struct nsd_child *child)
{
    struct stat file;

    if (child->pidfd < 0 || fstat(child->pidfd, &file) < 0)
        return;
    child->pidfd_device = file.st_dev;
    child->pidfd_inode = file.st_ino;
}

static bool is_commands(const struct nsd_child *child, int fd)
{
    struct stat file;

    return fstat(fd, &file) == 0 && file.st_dev == child->pidfd_device &&
           file.st_ino == child->pidfd_inode;
}

/* With the lock held, before the pidfd is used: a daemoniser may have closed it. */
static void check_pidfd(struct nsd_child *child)
{
    if (child->pidfd < 0 ? child->pidfd_error == 0
                         : child->pidfd_inode == 0 || is_commands(child, child->pidfd))
        return;
    child->pidfd = (int)syscall(SYS_pidfd_open, child->command, 0);
    /* Without a descriptor to spare nobody knows, and it is tried again. */
    child->pidfd_error = child->pidfd < 0 && errno != ESRCH ? errno : 0;
    if (child->pidfd >= 0 && !is_commands(child, child->pidfd)) {
        close(child->pidfd); /* the number is another process's by now */
        child->pidfd = -1;
    }
}

static int look(const struct nsd_child *child, int options, siginfo_t *ret_info)
{
    int ret;

    if (child->pidfd < 0)
        return -1;
    do
        ret = waitid((idtype_t)P_PIDFD, (id_t)child->pidfd, ret_info,
                     WEXITED | WNOHANG | options);
    while (ret < 0 && errno == EINTR);
    return ret;
}

/* Of a zombie that its parent has not reaped yet: the last field of /proc/PID/stat, which
 * reads 0 for those who may not look at the process. */
static bool exit_status_of_zombie(const struct nsd_child *child, int *ret_status)
{
    char path[40], text[1024], *last;
    ssize_t size = -1;
    int fd;

    snprintf(path, sizeof(path), "/proc/%d/ns/user", (int)child->command);
    if (readlink(path, text, sizeof(text)) < 0)
        return false;
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)child->command);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        size = read(fd, text, sizeof(text) - 1);
        close(fd);
    }
    /* Still not reaped, so the number was its own all the time. */
    if (size <= 0 || syscall(SYS_pidfd_send_signal, child->pidfd, 0, NULL, 0) < 0)
        return false;
    text[size] = '\0';
    last = strrchr(text, ' ');
    if (last == NULL)
        return false;
    *ret_status = (int)strtol(last, NULL, 10);
    return true;
}

/* With the lock held. Its number is the command's only if that is an unreaped child of ours;
 * a pidfd is the group's whoever has the number by now. */
static void end_group(struct nsd_child *child)
{
    siginfo_t info = {0};

    if (child->pidfd >= 0 && syscall(SYS_pidfd_send_signal, child->pidfd, SIGKILL, NULL,
                                     SIGNAL_PROCESS_GROUP) == 0)
        return;
    if (nsd_child_is_ours(child) && look(child, WNOWAIT, &info) == 0)
        kill(-child->command, SIGKILL);
}

/* With the lock held. Somebody else's child is watched, and never waited for. */
static bool has_others_ended(struct nsd_child *child)
{
    struct pollfd ended = {.fd = child->pidfd, .events = POLLIN};

    if (child->pidfd >= 0 && poll(&ended, 1, 0) <= 0)
        return false;
    if (child->stopping && child->own_group)
        end_group(child);
    child->status_lost = !exit_status_of_pidfd(child->pidfd, 0, &child->status) &&
                         !exit_status_of_zombie(child, &child->status);
    prefer_noted_status(child);
    child->reaped = true;
    return true;
}

/* With the lock held. Reaps the command if it has ended, and then the watchdog, which ends
 * for the same reason. */
static bool reap_if_ended(struct nsd_child *child)
{
    siginfo_t info = {0};
    int ret;

    if (child->reaped)
        return true;
    if (child->pidfd_error != 0)
        return false;
    if (!nsd_child_is_ours(child))
        return has_others_ended(child);
    if (child->stopping && child->own_group && look(child, WNOWAIT, &info) == 0) {
        if (info.si_pid == 0)
            return false;
        end_group(child);
    }
    ret = look(child, 0, &info);
    if (ret == 0 && info.si_pid == 0)
        return false;
    if (ret == 0) {
        child->status = info.si_code == CLD_EXITED ? (info.si_status & 0xff) << 8
                                                   : info.si_status & 0x7f;
    } else { /* ECHILD: taken by another waitpid(-1), or SIGCHLD is ignored */
        child->status_lost = !exit_status_of_pidfd(child->pidfd, 100, &child->status);
    }
    prefer_noted_status(child);
    if (child->first != child->command)
        nsd_see_off(child->first);
    child->first = 0;
    nsd_child_leaves_ward(child);
    nsd_child_wipe_trace(child, false);
    child->reaped = true;
    return true;
}

bool nsd_child_reap(struct nsd_child *child, bool waits)
{
    bool reaped;

    lock(child);
    check_pidfd(child);
    reaped = reap_if_ended(child);
    if (reaped && nsd_is_owner(&child->owner))
        nsd_foreground_restore(&child->foreground, child->command, waits);
    unlock(child);
    return reaped;
}

/* A signal that comes before poll sleeps, or that another thread is given, does not wake it. */
#define PATIENCE 250000000 /* ns */

int nsd_sleep_until(int64_t deadline, struct pollfd *fds, nfds_t count)
{
    int64_t left = deadline - nsd_now();
    struct timespec time = {.tv_nsec = PATIENCE};
    int ret;

    if (left < PATIENCE)
        time.tv_nsec = left < 0 ? 0 : (long)left;
    ret = ppoll(fds, count, &time, NULL);
    if (ret < 0)
        return -errno;
    if (ret == 0)
        return left <= PATIENCE ? -ETIMEDOUT : -EINTR;
    return ret;
}

int nsd_child_wait(struct nsd_child *child, int64_t deadline)
{
    struct pollfd ended = {.events = POLLIN};
    int ret;

    nsd_reap_orphans();
    if (nsd_child_reap(child, deadline != 0))
        return 0;
    if (deadline == 0)
        return -ETIMEDOUT;
    for (;;) {
        ended.fd = child->pidfd; /* another thread may have opened it anew */
        ret = nsd_sleep_until(deadline, &ended, 1);
        if (ret != -EINTR && nsd_child_reap(child, true))
            return 0;
        if (ret < 0)
            return ret;
    }
}

/* With the lock held. Where a filter refuses pidfds, a child that we have not reaped has its
 * number still. */
static int send_signal(struct nsd_child *child, int signal)
{
    siginfo_t info = {0};
    int ret;

    if (child->pidfd_error != 0)
        return -child->pidfd_error;
    if (child->reaped || child->pidfd < 0 ||
        syscall(SYS_pidfd_send_signal, child->pidfd, signal, NULL, 0) == 0)
        return 0;
    ret = -errno;
    if ((ret == -EPERM || ret == -ENOSYS) && nsd_child_is_ours(child) &&
        look(child, WNOWAIT, &info) == 0)
        ret = info.si_pid != 0 || kill(child->command, signal) == 0 ? 0 : -errno;
    return ret == -ESRCH ? 0 : ret;
}

int nsd_child_signal(struct nsd_child *child, int signal)
{
    int ret;

    lock(child);
    check_pidfd(child);
    ret = send_signal(child, signal);
    unlock(child);
    return ret;
}

/* With the lock held. The watchdog, or what is left of it: our child, so its number is its own. */
static void end_watchdog(struct nsd_child *child)
{
    if (child->first > 0 && child->first != child->command)
        nsd_end(child->first, NULL, NULL);
    child->first = 0;
}

int nsd_child_detach(struct nsd_child *child)
{
    if (child->adopted)
        return 0;
    if (!nsd_child_is_ours(child))
        return -ECHILD;
    lock(child);
    nsd_child_leaves_ward(child);
    end_watchdog(child);
    child->detached = true;
    unlock(child);
    return 0;
}

void nsd_child_adopt(struct nsd_child *ret_child, pid_t pid, int pidfd, bool is_init)
{
    *ret_child = (struct nsd_child){
        .owner = nsd_owner_now(),
        .command = pid,
        .pidfd = pidfd,
        .has_init = is_init,
        .detached = true,
        .adopted = true,
    };
    nsd_child_note_pidfd(ret_child);
    pthread_mutex_init(&ret_child->lock, NULL);
}

bool nsd_child_status(struct nsd_child *child, int *ret_status)
{
    bool known;

    lock(child);
    /* Its parent may have reaped it meanwhile: then the kernel tells everybody. */
    if (child->reaped && child->status_lost && !nsd_child_is_ours(child))
        child->status_lost = !exit_status_of_pidfd(child->pidfd, 100, &child->status);
    known = child->reaped && !child->status_lost;
    *ret_status = child->status;
    unlock(child);
    return known;
}

void nsd_child_stopping(struct nsd_child *child)
{
    lock(child);
    child->stopping = true;
    unlock(child);
}

int nsd_child_kill(struct nsd_child *child)
{
    int ret;

    lock(child);
    check_pidfd(child);
    if (!child->reaped && child->own_group)
        end_group(child);
    ret = send_signal(child, SIGKILL);
    unlock(child);
    return ret;
}

void nsd_child_close(struct nsd_child *child)
{
    lock(child);
    check_pidfd(child);
    if (child->reaped && child->pidfd >= 0) {
        close(child->pidfd);
        child->pidfd = -1;
    }
    unlock(child);
}

static void give_ward_back(void *ward)
{
    nsd_ward_give_back(ward);
}

static void leave_to_orphans(struct nsd_child *child)
{
    lock(child);
    if (!child->reaped) {
        nsd_orphan(child->command, give_ward_back, child->ward);
        child->ward = NULL;
        end_watchdog(child);
        nsd_child_wipe_trace(child, false);
        child->reaped = child->status_lost = true;
    }
    unlock(child);
}

void nsd_child_end(struct nsd_child *child)
{
    int64_t deadline = nsd_now() + NSD_GRACE;

    if (!nsd_child_is_ours(child) || child->reaped || child->detached ||
        child->command <= 0)
        return;
    nsd_child_kill(child);
    if (child->pidfd < 0) {
        /* There is only the number, which is the command's until we reap it. */
        kill(child->command, SIGKILL);
        if (nsd_reap_until(child->command, deadline, NULL))
            nsd_child_reap(child, true);
    } else {
        while (nsd_child_wait(child, deadline) == -EINTR)
            continue;
    }
    leave_to_orphans(child);
}

void nsd_child_release(struct nsd_child *child)
{
    check_pidfd(child);
    nsd_child_end(child);
    nsd_pins_undo(child);
    nsd_child_wipe_trace(child, false);
    if (child->pidfd >= 0)
        close(child->pidfd);
    free(child->results);
    free(child->said);
    child->said = NULL;
    child->results = NULL;
    child->pidfd = -1;
    child->command = 0;
}
