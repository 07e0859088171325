/* mask.c - what a container is not shown of /proc and /sys, and what it may only read.
 *
 * Something empty is bound over the first: a file or a directory of a file system in memory
 * that is ours alone. No /dev/null of anybody is needed, which could be something else.
 */
#include "constants.h"
#include "held.h"

#include <asm/stat.h>
#include <linux/errno.h>
#include <linux/fcntl.h>
#include <linux/mount.h>

#define NAME_SIZE 64
#define NOTHING_MAY (MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC)

static long open_path(long folder, const char *name)
{
    return sys4(__NR_openat, folder, name, O_PATH | O_NOFOLLOW | O_CLOEXEC, 0);
}

static long bind_over(long source, long folder, const char *name, long flags)
{
    char from[NSD_FD_PATH], to[NSD_FD_PATH];
    long target = open_path(folder, name);
    long ret = target < 0 ? target
                          : sys5(__NR_mount, nsd_path_of(source, from),
                                 nsd_path_of(target, to), 0, MS_BIND | MS_REC, 0);

    close_after(target, 0);
    if (ret < 0)
        return ret;
    target = open_path(folder, name); /* what is on top of it now */
    if (target < 0)
        return target;
    return close_after(target, sys5(__NR_mount, 0, nsd_path_of(target, to), 0,
                                    MS_REMOUNT | MS_BIND | flags, 0));
}

/* The next of names that are parted by colons; NULL after the last. */
static const char *next_name(const char *names, char name[NAME_SIZE])
{
    size_t length = 0;

    if (*names == '\0')
        return NULL;
    for (; *names != '\0' && *names != ':'; names++)
        if (length < NAME_SIZE - 1)
            name[length++] = *names;
    name[length] = '\0';
    return *names == ':' ? names + 1 : names;
}

/* Not every kernel has each of them. */
static bool is_absent(long error)
{
    return error == -ENOENT || error == -ENOTDIR;
}

static long hide(long folder, const char *names, long empty_file, long empty_folder)
{
    char name[NAME_SIZE];
    long ret = 0;

    while (ret == 0 && (names = next_name(names, name)) != NULL) {
        struct stat status;
        long hidden = open_path(folder, name);
        bool is_folder;

        if (is_absent(hidden))
            continue;
        ret = hidden < 0 ? hidden : sys2(__NR_fstat, hidden, &status);
        close_after(hidden, 0);
        if (ret < 0)
            break;
        is_folder = (status.st_mode & S_IFMT) == S_IFDIR;
        ret =
            bind_over(is_folder ? empty_folder : empty_file, folder, name, NOTHING_MAY);
    }
    return ret;
}

static long make_readonly(long folder, const char *names, long flags)
{
    char name[NAME_SIZE];
    long ret = 0;

    while (ret == 0 && (names = next_name(names, name)) != NULL) {
        long closed = open_path(folder, name);

        if (is_absent(closed))
            continue;
        ret = closed < 0 ? closed : bind_over(closed, folder, name, flags | MS_RDONLY);
        close_after(closed, 0);
    }
    return ret;
}

/* flags: that the mount has; hidden, closed: names, parted by colons
 *
 * The file system in memory needs a place while it is bound: "fs", which both have. */
long nsd_mask_at(struct nsd_launch *launch, const struct nsd_step *step)
{
    long folder = nsd_open_mount(launch, step);
    long place = folder < 0 ? folder : open_path(folder, "fs");
    long memory = -1, empty_file = -1, empty_folder = -1;
    char path[NSD_FD_PATH];
    long ret, umask;

    ret = place;
    if (ret >= 0)
        ret = sys5(__NR_mount, "tmpfs", nsd_path_of(place, path), "tmpfs",
                   NOTHING_MAY & ~MS_RDONLY, "mode=555,nr_inodes=3");
    close_after(place, 0);
    if (ret < 0)
        return close_after(folder, ret);
    memory = open_path(folder, "fs");
    if (memory < 0)
        return close_after(folder, memory);
    umask = sys1(__NR_umask, 0); /* the command's shall not make them unreadable */
    empty_file = sys4(__NR_openat, memory, "file",
                      O_CREAT | O_EXCL | O_RDONLY | O_NOFOLLOW | O_CLOEXEC, 0444);
    ret = sys3(__NR_mkdirat, memory, "folder", 0555);
    sys1(__NR_umask, umask);
    empty_folder = ret < 0 ? ret : open_path(memory, "folder");
    ret = empty_file < 0 ? empty_file : empty_folder;
    if (ret >= 0)
        ret = hide(folder, nsd_text(launch, step, 0), empty_file, empty_folder);
    close_after(empty_file, 0);
    close_after(empty_folder, 0);
    if (ret == 0)
        ret = sys2(__NR_umount2, nsd_path_of(memory, path), MNT_DETACH);
    close_after(memory, 0);
    if (ret == 0)
        ret = make_readonly(folder, nsd_text(launch, step, 2), step->number[0]);
    return close_after(folder, ret);
}
