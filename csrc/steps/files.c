/* files.c - what is mounted in a new root, apart from the root itself.
 *
 * A target is found component by component below the root, and no link is followed on the way:
 * a root whose /data points elsewhere has nothing mounted, or made, elsewhere. The source was
 * opened before anything was mounted.
 *
 * Or below the last mount of this plan that the path leads through: see held.c.
 */
#include "files.h"

#include "constants.h"
#include "held.h"
#include "mount.h"

#include <asm/stat.h>
#include <asm/statfs.h>
#include <linux/errno.h>
#include <linux/fcntl.h>
#include <linux/mount.h>

static long kind_of(long fd)
{
    struct stat file;
    long ret = sys2(__NR_fstat, fd, &file);

    return ret < 0 ? ret : (long)(file.st_mode & S_IFMT);
}

/* Makes what is missing, whatever the umask is: the command's shall not close a mount point. */
static long make(long folder, const char *name, enum nsd_kind kind)
{
    long umask = sys1(__NR_umask, 0);
    long ret = kind == NSD_A_FILE
                   ? sys4(__NR_openat, folder, name,
                          O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0644)
                   : sys3(__NR_mkdirat, folder, name, 0755);

    sys1(__NR_umask, umask);
    if (ret >= 0 && kind == NSD_A_FILE)
        ret = close_after(ret, 0);
    return ret == -EEXIST ? 0 : ret;
}

/* The descriptor, or it is closed and the errno is returned. */
static long check_kind(long fd, enum nsd_kind kind)
{
    long found = kind_of(fd);

    if (found < 0)
        return close_after(fd, found);
    if (found == S_IFLNK)
        return close_after(fd, -ELOOP);
    if (kind == NSD_A_DIRECTORY && found != S_IFDIR)
        return close_after(fd, -ENOTDIR);
    if (kind == NSD_A_FILE && found == S_IFDIR)
        return close_after(fd, -EISDIR);
    return fd;
}

long nsd_open_name(long folder, const char *name, enum nsd_kind kind)
{
    long fd = sys4(__NR_openat, folder, name, O_PATH | O_NOFOLLOW | O_CLOEXEC, 0);

    if (fd == -ENOENT && kind != NSD_ANYTHING) {
        long ret = make(folder, name, kind);

        if (ret < 0)
            return ret;
        fd = sys4(__NR_openat, folder, name, O_PATH | O_NOFOLLOW | O_CLOEXEC, 0);
    }
    return fd < 0 ? fd : check_kind(fd, kind);
}

/* A path below folder, which is closed. */
static long walk(long folder, const char *path, enum nsd_kind kind, bool stays_inside)
{
    char name[NAME_MAX + 1];

    while (folder >= 0) {
        size_t length = 0;
        bool last;
        long next;

        while (*path == '/')
            path++;
        if (*path == '\0')
            break;
        while (*path != '\0' && *path != '/') {
            if (length == NAME_MAX)
                return close_after(folder, -ENAMETOOLONG);
            name[length++] = *path++;
        }
        name[length] = '\0';
        while (*path == '/')
            path++;
        last = *path == '\0';
        if (length == 2 && name[0] == '.' && name[1] == '.')
            return close_after(folder, -EXDEV);
        next = last && kind == NSD_A_FILE && stays_inside ? nsd_keep_inside(folder) : 0;
        if (next < 0)
            return close_after(folder, next);
        if (kind == NSD_ANYTHING)
            next = nsd_open_name(folder, name, NSD_ANYTHING);
        else
            next = nsd_open_name(folder, name, last ? kind : NSD_A_DIRECTORY);
        folder = close_after(folder, next);
    }
    return folder;
}

long nsd_open_target(const struct nsd_launch *launch, const struct nsd_step *step,
                     enum nsd_kind kind)
{
    const char *rest = NULL;
    bool stays_inside = kind != NSD_ANYTHING && (step->flags & NSD_STAYS_INSIDE) != 0;
    long target = nsd_open_held(launch, nsd_text(launch, step, 3),
                                nsd_text(launch, step, 1), step->number[1], &rest);
    long ret;

    if (target >= 0 && *rest == '\0')
        target = check_kind(target, kind);
    else
        target = walk(target, rest, kind, stays_inside);
    ret = target < 0 || !stays_inside ? 0 : nsd_keep_inside(target);
    return ret < 0 ? close_after(target, ret) : target;
}

long nsd_open_below(long folder, const char *path, enum nsd_kind kind)
{
    return walk(sys3(__NR_fcntl, folder, F_DUPFD_CLOEXEC, 0), path, kind, false);
}

/* device: the number that it must have, or 0 */
long nsd_open_source(struct nsd_launch *launch, const struct nsd_step *step)
{
    long fd =
        sys4(__NR_openat, AT_FDCWD, nsd_text(launch, step, 0), O_PATH | O_CLOEXEC, 0);
    struct stat file;
    long ret;

    if (fd < 0)
        return fd;
    if (step->number[1] != 0) {
        ret = sys2(__NR_fstat, fd, &file);
        if (ret == 0 && ((file.st_mode & S_IFMT) != S_IFCHR ||
                         (int64_t)file.st_rdev != step->number[1]))
            ret = -ENODEV;
        if (ret < 0)
            return close_after(fd, ret);
    }
    launch->slot[step->number[0]] = (int)fd;
    return 0;
}

/* A file, where nobody can get hold of its mount: its name is looked up once more. */
static long bind_file(const struct nsd_launch *launch, const struct nsd_step *step,
                      long source, long target)
{
    long flags = step->number[0] & ~(long)MS_REC;
    int64_t below = 0, above = 0;
    long ret = nsd_bind_without_flags(source, target, false);
    long top;

    if (ret < 0 || flags == 0)
        return ret;
    top = nsd_open_target(launch, step, NSD_ANYTHING);
    if (top < 0)
        return top;
    ret = nsd_same_file(top, source); /* somebody may have renamed what leads there */
    if (ret == 0)
        ret = nsd_mount_of(top, &above);
    if (ret == 0)
        ret = nsd_mount_of(target, &below);
    if (ret == 0 && above == below)
        ret = -ESTALE;
    if (ret == 0)
        ret = nsd_remount(top, flags, NSD_READONLY_TOP);
    return close_after(top, ret);
}

/* flags: MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REC */
long nsd_bind_at(struct nsd_launch *launch, const struct nsd_step *step)
{
    const char *root = nsd_text(launch, step, 3), *path = nsd_text(launch, step, 1);
    long source = launch->slot[step->number[2]];
    long found = kind_of(source);
    bool is_folder = found == S_IFDIR, recursive = (step->number[0] & MS_REC) != 0;
    long target, mount, ret;

    if (found < 0)
        return found;
    target = nsd_open_target(launch, step, is_folder ? NSD_A_DIRECTORY : NSD_A_FILE);
    if (target < 0)
        return target;
    mount = nsd_bind_new(source, target, step->number[0] & ~(long)MS_REC, recursive,
                         is_folder);
    if (mount >= 0) {
        ret = nsd_keep_mount(launch, root, path, mount);
    } else if (nsd_is_missing(mount) && !is_folder) {
        nsd_forget(launch, root, path);
        ret = bind_file(launch, step, source, target);
    } else {
        ret = mount;
    }
    return close_after(target, ret);
}

/* is_limited: by the limits of what it covers */
long nsd_mount_at(struct nsd_launch *launch, const struct nsd_step *step)
{
    long target = nsd_open_target(launch, step, NSD_A_DIRECTORY);
    long limits = target < 0 || step->number[2] == 0 ? 0 : nsd_limits_of(target);
    long mount = target < 0 ? target : limits;

    if (mount >= 0)
        mount = nsd_mount_new(nsd_text(launch, step, 2), nsd_text(launch, step, 0),
                              step->number[0] | limits, target);
    if (target >= 0)
        sys1(__NR_close, target);
    return mount < 0 ? mount
                     : nsd_keep_mount(launch, nsd_text(launch, step, 3),
                                      nsd_text(launch, step, 1), mount);
}

long nsd_link_at(struct nsd_launch *launch, const struct nsd_step *step)
{
    long folder = nsd_open_target(launch, step, NSD_A_DIRECTORY);

    if (folder < 0)
        return folder;
    return close_after(folder, sys3(__NR_symlinkat, nsd_text(launch, step, 0), folder,
                                    nsd_text(launch, step, 2)));
}
