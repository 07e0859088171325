/* pin.c - namespaces that outlive their processes: a bind mount of /proc/PID/ns/X on a file.
 *
 * It is made where the caller is, with the caller's power: both are behind us by then. So the
 * Python process, which waits for us anyway, does it (core/pins.c). In a mount namespace that
 * was joined the launcher's first process does, which keeps its power until the end.
 */
#include "steps.h"

#include <asm/stat.h>
#include <asm/statfs.h>
#include <linux/errno.h>
#include <linux/fcntl.h>
#include <linux/futex.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <linux/poll.h>
#include <linux/time_types.h>

#define ROUNDS 600 /* of 100 ms: by then nobody will answer any more */
#define MNT_DETACH 2
#define UMOUNT_NOFOLLOW 8
#define S_IFMT 0170000
#define S_IFREG 0100000
#define S_IFDIR 0040000
#define S_IFLNK 0120000

/* PROC self/fd/N */
static void name_descriptor(char *at, const char *proc, long fd)
{
    const char *middle = "self/fd/";
    char digits[12];
    int n = 0;

    while (*proc != '\0')
        *at++ = *proc++;
    while (*middle != '\0')
        *at++ = *middle++;
    do
        digits[n++] = (char)('0' + fd % 10);
    while ((fd /= 10) > 0);
    while (n > 0)
        *at++ = digits[--n];
    *at = '\0';
}

/* The file to mount on, following no link; it is made if it is missing. */
static long open_place(const char *path, long *ret_made)
{
    struct statfs filesystem;
    struct stat found;
    unsigned int kind;
    long fd = sys4(__NR_openat, AT_FDCWD, path, O_PATH | O_NOFOLLOW | O_CLOEXEC, 0);
    long ret;

    *ret_made = 0;
    if (fd == -ENOENT) {
        fd = sys4(__NR_openat, AT_FDCWD, path,
                  O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0);
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
    return ret;
}

long nsd_pin_file(long namespace, const char *path, const char *proc)
{
    char source[40], target[40];
    long made;
    long place = open_place(path, &made);
    long ret;

    if (place < 0)
        return place;
    name_descriptor(source, proc, namespace);
    name_descriptor(target, proc, place);
    ret = sys5(__NR_mount, source, target, 0, MS_BIND, 0);
    sys1(__NR_close, place);
    if (ret < 0 && made)
        sys3(__NR_unlinkat, AT_FDCWD, path, 0);
    return ret < 0 ? ret : made;
}

void nsd_unpin_file(const char *path, long made)
{
    sys2(__NR_umount2, path, MNT_DETACH | UMOUNT_NOFOLLOW);
    if (made)
        sys3(__NR_unlinkat, AT_FDCWD, path, 0);
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
static long pin_here(const struct nsd_launch *launch, const struct nsd_step *step)
{
    const char *file = nsd_text(launch, step, 0);
    char name[40] = "self/ns/";
    size_t length = 8;
    long here, namespace, ret;

    while (*file != '\0' && length < sizeof(name) - 1)
        name[length++] = *file++;
    name[length] = '\0';
    namespace = sys4(__NR_openat, launch->slot[step->number[1]], name, O_CLOEXEC, 0);
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

/* numbers: CLONE_NEW* flag, slot of the caller's /proc to do it here, or -1 to ask;
 * texts: its file in /proc/PID/ns, path
 *
 * The value says whether the file was made. */
long nsd_pin(const struct nsd_launch *launch, const struct nsd_step *step)
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
            nsd_unpin_file(nsd_text(launch, step, 1), result->value);
    }
}
