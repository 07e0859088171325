/* files.c - what is mounted in a new root, apart from the root itself.
 *
 * A target is found component by component below the root, and no link is followed on the way:
 * a root whose /data points elsewhere has nothing mounted, or made, elsewhere. The source was
 * opened before anything was mounted.
 *
 * Binds take the new mount interface, in which a mount gets its flags before anybody can see
 * it; and the old one where the kernel, or a seccomp filter, has no other. This is the one
 * place that chooses; for mounts that are there already, it is flags.c.
 */
#include "files.h"

#include <asm/stat.h>
#include <asm/statfs.h>
#include <linux/errno.h>
#include <linux/fcntl.h>
#include <linux/mount.h>

#define S_IFMT 0170000
#define S_IFCHR 0020000
#define S_IFDIR 0040000
#define S_IFLNK 0120000
#define NAME_MAX 255

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

long nsd_open_name(long folder, const char *name, enum nsd_kind kind)
{
    long fd = sys4(__NR_openat, folder, name, O_PATH | O_NOFOLLOW | O_CLOEXEC, 0);
    long found;

    if (fd == -ENOENT && kind != NSD_ANYTHING) {
        long ret = make(folder, name, kind);

        if (ret < 0)
            return ret;
        fd = sys4(__NR_openat, folder, name, O_PATH | O_NOFOLLOW | O_CLOEXEC, 0);
    }
    if (fd < 0)
        return fd;
    found = kind_of(fd);
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

/* A path below folder, which is closed. */
static long walk(long folder, const char *path, enum nsd_kind kind)
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
    const char *root = nsd_text(launch, step, 3);
    long base = nsd_open_root_again(launch, root == NULL ? "/" : root, step->number[1]);

    return walk(base, nsd_text(launch, step, 1), kind);
}

/* numbers: slot, number of the device that it must be or 0; texts: path */
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

static long bind_the_old_way(const struct nsd_launch *launch,
                             const struct nsd_step *step, long source, long target)
{
    long recursive = step->number[0] & MS_REC;
    long flags = step->number[0] & ~(long)MS_REC;
    char from[NSD_FD_PATH], to[NSD_FD_PATH];
    long top, ret;

    ret = sys5(__NR_mount, nsd_path_of(source, from), nsd_path_of(target, to), 0,
               MS_BIND | recursive, 0);
    if (ret < 0 || flags == 0)
        return ret;
    top = nsd_open_target(launch, step, NSD_ANYTHING);
    if (top < 0)
        return top;
    ret = nsd_same_file(top, source); /* somebody may have renamed what leads there */
    if (ret == 0)
        ret = nsd_remount(top, flags, recursive ? NSD_READONLY_ALL : NSD_READONLY_TOP);
    return close_after(top, ret);
}

static long bind_the_new_way(const struct nsd_step *step, long source, long target)
{
    bool recursive = (step->number[0] & MS_REC) != 0;
    long flags = step->number[0] & ~(long)MS_REC; /* MOUNT_ATTR_* are the same bits */
    long tree = sys3(__NR_open_tree, source, "",
                     OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH |
                         (recursive ? AT_RECURSIVE : 0));
    long ret = 0;

    if (tree < 0)
        return tree;
    if (flags != 0)
        ret = nsd_set_attributes(tree, flags, 0, recursive);
    if (ret == 0)
        ret = sys5(__NR_move_mount, tree, "", target, "",
                   MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
    return close_after(tree, ret);
}

/* numbers: MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REC; slot to compare the root with or
 * -1; slot of the source; texts: source, target, absent, root or absent */
long nsd_bind_at(const struct nsd_launch *launch, const struct nsd_step *step)
{
    long source = launch->slot[step->number[2]];
    long found = kind_of(source);
    long target, ret;

    if (found < 0)
        return found;
    target =
        nsd_open_target(launch, step, found == S_IFDIR ? NSD_A_DIRECTORY : NSD_A_FILE);
    if (target < 0)
        return target;
    ret = bind_the_new_way(step, source, target);
    if (nsd_is_missing(ret))
        ret = bind_the_old_way(launch, step, source, target);
    return close_after(target, ret);
}

/* numbers: MS_* flags, slot to compare the root with or -1;
 * texts: options, target, type, root or absent */
long nsd_mount_at(const struct nsd_launch *launch, const struct nsd_step *step)
{
    const char *type = nsd_text(launch, step, 2);
    long target = nsd_open_target(launch, step, NSD_A_DIRECTORY);

    if (target < 0)
        return target;
    return close_after(target, nsd_mount_on(target, type, type, step->number[0],
                                            nsd_text(launch, step, 0)));
}

/* numbers: unused, slot to compare the root with or -1;
 * texts: content, directory, name, root or absent */
long nsd_link_at(const struct nsd_launch *launch, const struct nsd_step *step)
{
    long folder = nsd_open_target(launch, step, NSD_A_DIRECTORY);

    if (folder < 0)
        return folder;
    return close_after(folder, sys3(__NR_symlinkat, nsd_text(launch, step, 0), folder,
                                    nsd_text(launch, step, 2)));
}
