/* steps.c - one function per operation: what the kernel is asked to do.
 *
 * A step returns a value or -errno; nsdemo/_explain.py finds the words. The comment over each
 * function names its numbers and texts, in the order in which core/primitives.c and
 * nsdemo/_plan.py give them.
 */
#include "steps.h"
#include "held.h"
#include "power.h"

#include <asm/stat.h>
#include <asm/statfs.h>
#include <linux/errno.h>
#include <linux/fcntl.h>
#include <linux/magic.h>
#include <linux/poll.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/signal.h>
#include <linux/sockios.h>
#include <linux/time_types.h>

#define AF_INET 2
#define SOCK_DGRAM 2
#define SOCK_CLOEXEC 02000000
#define IFF_UP 0x1
#define IFF_RUNNING 0x40

static long open_at(long dirfd, const char *path, int flags)
{
    return sys4(__NR_openat, dirfd, path, flags | O_CLOEXEC, 0);
}

static long open_directory(const char *path)
{
    return open_at(AT_FDCWD, path, O_PATH | O_DIRECTORY);
}

long nsd_same_file(long a, long b)
{
    struct stat one, two;
    long ret = sys2(__NR_fstat, a, &one);

    if (ret == 0)
        ret = sys2(__NR_fstat, b, &two);
    if (ret < 0)
        return ret;
    return one.st_dev == two.st_dev && one.st_ino == two.st_ino ? 0 : -ESTALE;
}

/* Opens a root by its path, and compares it with the slot that was opened first, if any. */
long nsd_open_root_again(const struct nsd_launch *launch, const char *path, long slot)
{
    long fd = open_directory(path);
    long ret;

    if (fd < 0 || slot < 0)
        return fd;
    ret = nsd_same_file(fd, launch->slot[slot]);
    return ret < 0 ? close_after(fd, ret) : fd;
}

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

/* numbers: pid, its birth (nsd_process_birth), slot */
static long open_process(struct nsd_launch *launch, const struct nsd_step *step)
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

/* A pidfd can be read from when its process has ended. */
static long check_alive(long pidfd)
{
    const struct __kernel_timespec at_once = {0};
    struct pollfd process = {.fd = (int)pidfd, .events = POLLIN};
    long ret = sys5(__NR_ppoll, &process, 1, &at_once, 0, 0);

    if (ret < 0)
        return ret;
    return ret == 0 ? 0 : (process.revents & POLLNVAL) != 0 ? -EBADF : -ESRCH;
}

/* A root in a mount namespace that was made after it was opened: the descriptor leads into the
 * old one. The name leads to the same directory, or the launch ends; from here on whatever works
 * on the root holds it. */
static long open_root_here(struct nsd_launch *launch, const struct nsd_step *step)
{
    const char *path = nsd_text(launch, step, 0);
    long slot = step->number[0];
    long root = nsd_open_root_again(launch, path, slot);
    long held = root < 0 ? root : sys3(__NR_fcntl, root, F_DUPFD_CLOEXEC, 0);

    if (held < 0)
        return root < 0 ? root : close_after(root, held);
    sys1(__NR_close, launch->slot[slot]);
    launch->slot[slot] = (int)root;
    return nsd_keep_mount(launch, path, NULL, held);
}

/* numbers: slot, slot of the process whose root it is or -1, whether the slot has it already, and
 * this is to open it in another mount namespace; texts: path */
static long open_root(struct nsd_launch *launch, const struct nsd_step *step)
{
    long owner = step->number[1];
    long fd;

    if (step->number[2] != 0)
        return open_root_here(launch, step);
    fd = open_directory(nsd_text(launch, step, 0));
    if (owner >= 0) {
        /* A /proc/PID path is this process's only if it still lives now. */
        long alive = check_alive(launch->slot[owner]);

        if (alive < 0 || fd == -ENOENT)
            return close_after(fd, alive < 0 ? alive : -ESRCH);
    }
    if (fd < 0)
        return fd;
    launch->slot[step->number[0]] = (int)fd;
    return 0;
}

/* numbers: whether the command's process group is ended too */
static long watch(struct nsd_launch *launch, const struct nsd_step *step)
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

/* numbers: slot, CLONE_NEW* flags */
static long join(struct nsd_launch *launch, const struct nsd_step *step)
{
    return sys2(__NR_setns, launch->slot[step->number[0]], step->number[1]);
}

/* Writes to a file of the kernel's, if it is one: another may be mounted there, and after a join
 * anything may, also a FIFO, which would keep us waiting for a reader. */
static long write_file(const char *path, const char *content, long type, long or_type)
{
    struct statfs filesystem;
    size_t length = 0;
    long fd = open_at(AT_FDCWD, path, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    long ret;

    if (fd < 0)
        return fd == -ENXIO ? -ENOTDIR : fd;
    ret = sys2(__NR_fstatfs, fd, &filesystem);
    if (ret == 0 && filesystem.f_type != type && filesystem.f_type != or_type)
        ret = -ENOTDIR;
    while (content[length] != '\0')
        length++;
    if (ret == 0)
        ret = sys3(__NR_write, fd, content, length);
    return close_after(fd, ret < 0 ? ret : 0);
}

long nsd_write_proc(const char *path, const char *content)
{
    return write_file(path, content, PROC_SUPER_MAGIC, PROC_SUPER_MAGIC);
}

/* texts: the cgroup.procs of a cgroup, where "0" is who writes */
static long join_cgroup(const struct nsd_launch *launch, const struct nsd_step *step)
{
    return write_file(nsd_text(launch, step, 0), "0", CGROUP_SUPER_MAGIC,
                      CGROUP2_SUPER_MAGIC);
}

/* After joining a user namespace nobody is anybody yet: become its root. Groups can be kept
 * from changing by the namespace ("setgroups" reads deny). */
static long become_root(void)
{
    long ret = sys2(__NR_setgroups, 0, 0);

    if (ret < 0 && ret != -EPERM)
        return ret;
    ret = sys3(__NR_setresgid, 0, 0, 0);
    return ret < 0 ? ret : sys3(__NR_setresuid, 0, 0, 0);
}

static long loopback_up(void)
{
    struct {
        char name[16];
        int16_t flags;
        char rest[22];
    } request = {.name = "lo", .flags = IFF_UP | IFF_RUNNING};
    long fd = sys3(__NR_socket, AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    return fd < 0 ? fd : close_after(fd, sys3(__NR_ioctl, fd, SIOCSIFFLAGS, &request));
}

/* texts: host name, or domain name */
static long set_name(const struct nsd_launch *launch, const struct nsd_step *step,
                     long call)
{
    const char *name = nsd_text(launch, step, 0);
    size_t length = 0;

    while (name[length] != '\0')
        length++;
    return sys2(call, name, length);
}

/* Only for a call that keeps its thread until the command has ended: the kernel sends this
 * signal when the thread that started us ends, not the process. */
static long die_with_parent(struct nsd_launch *launch)
{
    long ret = sys5(__NR_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);

    launch->parent_pid = launch->head->parent;
    /* In another pid namespace nobody can tell who the parent is: the first process looks. */
    if (ret == 0 && launch->self == NSD_FIRST &&
        sys0(__NR_getppid) != launch->parent_pid)
        ret = -ESRCH;
    return ret;
}

static long hide(struct nsd_launch *launch)
{
    launch->hides = true;
    return sys5(__NR_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);
}

/* With other ids, or in another user namespace, the kernel sets the flag anew, to the sysctl
 * fs.suid_dumpable; where that is 1, we could be read. */
static long hide_again(struct nsd_launch *launch, long ret)
{
    return ret == 0 && launch->hides ? hide(launch) : ret;
}

static long perform(struct nsd_launch *launch, const struct nsd_step *step)
{
    switch ((enum nsd_operation)step->operation) {
    case NSD_OPEN_PROCESS:
        return open_process(launch, step);
    case NSD_OPEN_ROOT:
        return open_root(launch, step);
    case NSD_WATCH:
        return watch(launch, step);
    case NSD_MAP_HELPER:
        return nsd_map_helper(launch);
    case NSD_OWNER:
        return nsd_set_owner(step);
    case NSD_MAP_IDS:
        return nsd_map_ids(launch, step);
    case NSD_JOIN_CGROUP:
        return join_cgroup(launch, step);
    case NSD_JOIN:
        return hide_again(launch, join(launch, step));
    case NSD_UNSHARE: /* numbers: CLONE_NEW* flags */
        return sys1(__NR_unshare, step->number[0]);
    case NSD_WRITE_PROC: /* texts: path under /proc, content */
        return nsd_write_proc(nsd_text(launch, step, 0), nsd_text(launch, step, 1));
    case NSD_ENTER_TIME:
        return nsd_enter_time(launch, step);
    case NSD_PIN:
        return nsd_pin(launch, step);
    case NSD_UNPIN:
        return nsd_unpin_here(launch, step);
    case NSD_HIDE: /* nobody inside may read this process through /proc */
        return hide(launch);
    case NSD_BECOME_ROOT:
        return hide_again(launch, become_root());
    case NSD_LOOPBACK_UP:
        return loopback_up();
    case NSD_SETHOSTNAME:
        return set_name(launch, step, __NR_sethostname);
    case NSD_SETDOMAINNAME:
        return set_name(launch, step, __NR_setdomainname);
    case NSD_PROPAGATION:
        return nsd_propagation(launch, step);
    case NSD_BIND:
        return nsd_bind(launch, step);
    case NSD_MOUNT:
        return nsd_mount(launch, step);
    case NSD_OPEN_SOURCE:
        return nsd_open_source(launch, step);
    case NSD_BIND_AT:
        return nsd_bind_at(launch, step);
    case NSD_MOUNT_AT:
        return nsd_mount_at(launch, step);
    case NSD_OVERLAY_AT:
        return nsd_overlay_at(launch, step);
    case NSD_LAYER_AT:
        return nsd_layer_at(launch, step);
    case NSD_HAND_OVER:
        return nsd_hand_over(launch, step);
    case NSD_READONLY:
        return nsd_readonly(launch, step);
    case NSD_MASK_AT:
        return nsd_mask_at(launch, step);
    case NSD_LINK_AT:
        return nsd_link_at(launch, step);
    case NSD_PIVOT_ROOT:
        return nsd_pivot_root(launch, step);
    case NSD_CHROOT:
        return nsd_chroot(launch, step);
    case NSD_CHDIR:
        return nsd_chdir(launch, step);
    case NSD_SETSID:
        return sys0(__NR_setsid);
    case NSD_TERMINAL:
        return nsd_give_terminal(launch, step);
    case NSD_SETPGID: /* numbers: process group, 0 for one of its own */
        return sys2(__NR_setpgid, 0, step->number[0]);
    case NSD_UMASK: /* numbers: mask */
        return sys1(__NR_umask, step->number[0]);
    case NSD_DROP_INHERITABLE:
        return nsd_drop_inheritable();
    case NSD_RLIMIT:
        return nsd_set_limit(step);
    case NSD_DROP_BOUNDING:
        return nsd_drop_bounding(step);
    case NSD_KEEP_CAPABILITIES: /* over a change of the user, until the command */
        return sys5(__NR_prctl, PR_SET_KEEPCAPS, 1, 0, 0, 0);
    case NSD_CAPSET:
        return nsd_set_capabilities(step);
    case NSD_NO_NEW_PRIVS: /* no program gives more power than we have, setuid or not */
        return sys5(__NR_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    case NSD_SECUREBITS: /* numbers: SECBIT_*, all that will hold */
        return sys5(__NR_prctl, PR_SET_SECUREBITS, step->number[0], 0, 0, 0);
    case NSD_LANDLOCK:
        return nsd_landlock(launch);
    case NSD_LANDLOCK_ALLOW:
        return nsd_landlock_allow(launch, step);
    case NSD_LANDLOCK_RESTRICT:
        return nsd_landlock_restrict(launch);
    case NSD_SECCOMP:
        return nsd_filter_calls(launch, step);
    case NSD_SETGROUPS: /* numbers: count; texts: that many 32-bit ids */
        return sys2(__NR_setgroups, step->number[0], nsd_text(launch, step, 0));
    case NSD_SETGID: /* numbers: id */
        return hide_again(launch, sys3(__NR_setresgid, step->number[0], step->number[0],
                                       step->number[0]));
    case NSD_SETUID: /* numbers: id */
        return hide_again(launch, sys3(__NR_setresuid, step->number[0], step->number[0],
                                       step->number[0]));
    case NSD_DIE_WITH_PARENT:
        return die_with_parent(launch);
    case NSD_CLONE: /* numbers: CLONE_NEW* flags, enum nsd_end; by the core: launch.c */
    case NSD_THREAD:
    case NSD_FORK: /* these change who we are: launcher/start.c */
    case NSD_INIT:
    case NSD_GUARD:
    case NSD_EXEC:
    case NSD_END:
    case NSD_OPERATION_COUNT:
        break;
    }
    return -ENOSYS;
}

long nsd_perform(struct nsd_launch *launch, const struct nsd_step *step)
{
    long ret = nsd_check_step(step, launch->text, launch->text_size);

    return ret < 0 ? ret : perform(launch, step);
}
