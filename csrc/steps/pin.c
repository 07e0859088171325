/* pin.c - namespaces that outlive their processes: a bind mount of /proc/PID/ns/X on a file.
 *
 * It is made where the caller is, with the caller's power: both are behind us by then. So the
 * Python process, which waits for us anyway, does it (core/launch/pins.c). In a mount namespace that
 * was joined the launcher's first process does, which keeps its power until the end.
 */
#include "constants.h"
#include "steps.h"
#include "text.h"

#include <asm/stat.h>
#include <asm/statfs.h>
#include <linux/errno.h>
#include <linux/fcntl.h>
#include <linux/futex.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <linux/poll.h>
#include <linux/sched.h>
#include <linux/time_types.h>

#define ROUNDS 600 /* of 100 ms: by then nobody will answer any more */

static void name_descriptor(char *at, const char *proc, long fd)
{
    nsd_append_number(nsd_append(nsd_append(at, proc), "self/fd/"), (uint32_t)fd);
}

/* The directory a path leads to, and the name in it. */
static long open_parent(const char *path, const char **ret_name)
{
    char parent[PATH_MAX];
    size_t length = 0, name = 0;

    for (; path[length] != '\0'; length++) {
        if (length == sizeof(parent) - 1)
            return -ENAMETOOLONG;
        parent[length] = path[length];
        if (path[length] == '/')
            name = length + 1;
    }
    if (name == length)
        return -EISDIR;
    *ret_name = path + name;
    parent[name] = '\0';
    return sys4(__NR_openat, AT_FDCWD, name == 0 ? "." : parent,
                O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
}

/* The file to mount on, following no link; it is made if it is missing. */
static long open_place(long parent, const char *name, long *ret_made)
{
    struct statfs filesystem;
    struct stat found;
    unsigned int kind;
    long fd = sys4(__NR_openat, parent, name, O_PATH | O_NOFOLLOW | O_CLOEXEC, 0);
    long ret;

    *ret_made = 0;
    if (fd == -ENOENT) {
        fd = sys4(__NR_openat, parent, name, O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                  0);
        *ret_made = fd >= 0;
    }
    if (fd < 0)
        return fd;
    found.st_mode = 0;
    ret = sys2(__NR_fstat, fd, &found);
    if (ret == 0)
        ret = sys2(__NR_fstatfs, fd, &filesystem);
    kind = found.st_mode & S_IFMT;
    if (ret == 0 && (kind != S_IFREG || filesystem.f_type == NSFS_MAGIC))
        ret = kind == S_IFLNK ? -ELOOP : kind == S_IFDIR ? -EISDIR : -EEXIST;
    if (ret == 0)
        return fd;
    sys1(__NR_close, fd);
    if (*ret_made)
        sys3(__NR_unlinkat, parent, name, 0);
    return ret;
}

long nsd_pin_file(long namespace, const char *path, const char *proc)
{
    char source[40], target[40];
    const char *name;
    long parent = open_parent(path, &name);
    long made, place, ret;

    if (parent < 0)
        return parent;
    place = open_place(parent, name, &made);
    if (place < 0) {
        sys1(__NR_close, parent);
        return place;
    }
    name_descriptor(source, proc, namespace);
    name_descriptor(target, proc, place);
    ret = sys5(__NR_mount, source, target, 0, MS_BIND, 0);
    sys1(__NR_close, place);
    if (ret < 0 && made)
        sys3(__NR_unlinkat, parent, name, 0);
    sys1(__NR_close, parent);
    return ret < 0 ? ret : made;
}

/* What persist= made: empty, and of mode 0. */
static bool is_our_file(long parent, const char *name)
{
    struct stat found;
    bool ours = false;
    long fd = sys4(__NR_openat, parent, name, O_PATH | O_NOFOLLOW | O_CLOEXEC, 0);

    if (fd < 0)
        return false;
    found.st_mode = 0;
    found.st_size = 0;
    if (sys2(__NR_fstat, fd, &found) == 0)
        ours = (found.st_mode & (S_IFMT | 07777)) == S_IFREG && found.st_size == 0;
    sys1(__NR_close, fd);
    return ours;
}

long nsd_unpin_file(const char *path, uint64_t inode, bool removes, const char *proc)
{
    struct statfs filesystem;
    struct stat pinned;
    const char *name;
    char mount[40];
    long parent = open_parent(path, &name);
    long pin, ret;

    if (parent < 0)
        return parent;
    pin = sys4(__NR_openat, parent, name, O_PATH | O_NOFOLLOW | O_CLOEXEC, 0);
    if (pin < 0) {
        sys1(__NR_close, parent);
        return pin;
    }
    filesystem.f_type = 0;
    pinned.st_ino = 0;
    ret = sys2(__NR_fstatfs, pin, &filesystem);
    if (ret == 0)
        ret = sys2(__NR_fstat, pin, &pinned);
    if (ret == 0 && (filesystem.f_type != NSFS_MAGIC ||
                     (inode != 0 && (uint64_t)pinned.st_ino != inode)))
        ret = -EINVAL;
    /* By the descriptor: by now the path may lead elsewhere. */
    if (ret == 0) {
        name_descriptor(mount, proc, pin);
        ret = sys2(__NR_umount2, mount, MNT_DETACH);
        if (ret == -ENOENT)
            ret = -ESRCH;
    }
    sys1(__NR_close, pin);
    if (ret == 0 && removes && is_our_file(parent, name))
        sys3(__NR_unlinkat, parent, name, 0);
    sys1(__NR_close, parent);
    return ret;
}

static bool is_parent_dead(const struct nsd_launch *launch)
{
    const struct __kernel_timespec at_once = {0};
    struct pollfd parent = {.fd = launch->parent, .events = POLLIN};

    return launch->parent >= 0 && sys5(__NR_ppoll, &parent, 1, &at_once, 0, 0) == 1;
}

static long ask(const struct nsd_launch *launch)
{
    const struct __kernel_timespec patience = {.tv_nsec = 100 * 1000 * 1000};
    struct nsd_trace *trace = launch->trace;
    uint32_t turn = trace->asked + 1;

    __atomic_store_n(&trace->asked, turn, __ATOMIC_RELEASE);
    sys3(__NR_futex, &trace->state, FUTEX_WAKE, 1);
    for (int round = 0; round < ROUNDS && !is_parent_dead(launch); round++) {
        sys4(__NR_futex, &trace->answered, FUTEX_WAIT, turn - 1, &patience);
        if (__atomic_load_n(&trace->answered, __ATOMIC_ACQUIRE) == turn)
            return trace->answer;
    }
    return -ESRCH;
}

/* From the caller's /proc: the one that is mounted here may be anything. */
static long open_namespace(const struct nsd_launch *launch, long slot, const char *file)
{
    char name[40] = "self/ns/";
    size_t length = 8;

    while (*file != '\0' && length < sizeof(name) - 1)
        name[length++] = *file++;
    name[length] = '\0';
    return sys4(__NR_openat, launch->slot[slot], name, O_CLOEXEC, 0);
}

static long pin_here(const struct nsd_launch *launch, const struct nsd_step *step)
{
    long namespace = open_namespace(launch, step->number[1], nsd_text(launch, step, 0));
    long here, ret;

    if (namespace < 0)
        return namespace;
    here = sys4(__NR_openat, AT_FDCWD, ".", O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
    ret = here < 0 ? here : sys1(__NR_fchdir, launch->slot[step->number[1]]);
    if (ret == 0)
        ret = nsd_pin_file(namespace, nsd_text(launch, step, 1), "");
    if (here >= 0) {
        sys1(__NR_fchdir, here);
        sys1(__NR_close, here);
    }
    sys1(__NR_close, namespace);
    return ret;
}

/* The launch has failed, so nobody minds where we are: in the caller's /proc. */
static void unpin_here(const struct nsd_launch *launch, const struct nsd_step *step,
                       bool made)
{
    struct stat pinned;
    long namespace = open_namespace(launch, step->number[1], nsd_text(launch, step, 0));

    if (namespace < 0)
        return;
    pinned.st_ino = 0;
    if (sys2(__NR_fstat, namespace, &pinned) == 0 &&
        sys1(__NR_fchdir, launch->slot[step->number[1]]) == 0)
        nsd_unpin_file(nsd_text(launch, step, 1), pinned.st_ino, made, "");
    sys1(__NR_close, namespace);
}

/* numbers: slot of the caller's /proc; texts: path, absolute
 *
 * In a mount namespace that was joined; nothing of what lies there is executed for it. */
long nsd_unpin_here(struct nsd_launch *launch, const struct nsd_step *step)
{
    long ret = sys1(__NR_fchdir, launch->slot[step->number[0]]);

    return ret < 0 ? ret : nsd_unpin_file(nsd_text(launch, step, 0), 0, true, "");
}

/* numbers: CLONE_NEW* flag, slot of the caller's /proc to do it here, or -1 to ask;
 * texts: its file in /proc/PID/ns, path
 *
 * The value says whether the file was made. */
long nsd_pin(struct nsd_launch *launch, const struct nsd_step *step)
{
    return step->number[1] >= 0 ? pin_here(launch, step) : ask(launch);
}

void nsd_unpin_all(const struct nsd_launch *launch)
{
    for (uint32_t i = 0; i < launch->head->step_count; i++) {
        const struct nsd_step *step = &launch->steps[i];
        const struct nsd_result *result = &launch->results[i];

        if (step->operation == NSD_PIN && step->number[1] >= 0 &&
            result->process != NSD_NOBODY && result->error == 0)
            unpin_here(launch, step, result->value == 1);
    }
}

/* numbers: slot of the caller's /proc
 *
 * A new time namespace is for children. execve enters it, too, but since Linux 6.2 only. */
long nsd_enter_time(struct nsd_launch *launch, const struct nsd_step *step)
{
    long namespace = open_namespace(launch, step->number[0], "time_for_children");

    if (namespace < 0)
        return namespace;
    return close_after(namespace, sys2(__NR_setns, namespace, CLONE_NEWTIME));
}
