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
#include "steps.h"

#include <asm/stat.h>
#include <asm/statfs.h>
#include <linux/errno.h>
#include <linux/fcntl.h>
#include <linux/magic.h>
#include <linux/mount.h>

#define S_IFMT 0170000
#define S_IFCHR 0020000
#define S_IFDIR 0040000
#define S_IFLNK 0120000
#define NAME_MAX 255
#define OPTIONS_MAX 4096

/* What a path must lead to. A kind that may be made is, where nothing is there. */
enum kind {
    ANYTHING,
    A_DIRECTORY,
    A_FILE,
};

static long close_after(long fd, long result)
{
    sys1(__NR_close, fd);
    return result;
}

static long kind_of(long fd)
{
    struct stat file;
    long ret = sys2(__NR_fstat, fd, &file);

    return ret < 0 ? ret : (long)(file.st_mode & S_IFMT);
}

/* Makes what is missing, whatever the umask is: the command's shall not close a mount point. */
static long make(long folder, const char *name, enum kind kind)
{
    long umask = sys1(__NR_umask, 0);
    long ret = kind == A_FILE
                   ? sys4(__NR_openat, folder, name,
                          O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0644)
                   : sys3(__NR_mkdirat, folder, name, 0755);

    sys1(__NR_umask, umask);
    if (ret >= 0 && kind == A_FILE)
        ret = close_after(ret, 0);
    return ret == -EEXIST ? 0 : ret;
}

static long open_name(long folder, const char *name, enum kind kind)
{
    long fd = sys4(__NR_openat, folder, name, O_PATH | O_NOFOLLOW | O_CLOEXEC, 0);
    long found;

    if (fd == -ENOENT && kind != ANYTHING) {
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
    if (kind == A_DIRECTORY && found != S_IFDIR)
        return close_after(fd, -ENOTDIR);
    if (kind == A_FILE && found == S_IFDIR)
        return close_after(fd, -EISDIR);
    return fd;
}

/* A path below folder, which is closed. */
static long walk(long folder, const char *path, enum kind kind)
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
        if (kind == ANYTHING)
            next = open_name(folder, name, ANYTHING);
        else
            next = open_name(folder, name, last ? kind : A_DIRECTORY);
        folder = close_after(folder, next);
    }
    return folder;
}

/* The target of a step: text 1, below the root in text 3, which is compared with the slot in
 * number 1. */
static long open_target(const struct nsd_launch *launch, const struct nsd_step *step,
                        enum kind kind)
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
    top = open_target(launch, step, ANYTHING);
    if (top < 0)
        return top;
    return close_after(
        top, nsd_remount(top, flags, recursive ? NSD_READONLY_ALL : NSD_READONLY_TOP));
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
    target = open_target(launch, step, found == S_IFDIR ? A_DIRECTORY : A_FILE);
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
    long here = sys4(__NR_openat, AT_FDCWD, ".", O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
    long target = open_target(launch, step, A_DIRECTORY);
    long ret = target < 0 ? target : sys1(__NR_fchdir, target);

    if (ret == 0)
        ret = sys5(__NR_mount, type, ".", type, step->number[0],
                   nsd_text(launch, step, 0));
    if (target >= 0)
        sys1(__NR_close, target);
    if (here >= 0) {
        sys1(__NR_fchdir, here);
        sys1(__NR_close, here);
    }
    return ret;
}

/* numbers: unused, slot to compare the root with or -1;
 * texts: content, directory, name, root or absent */
long nsd_link_at(const struct nsd_launch *launch, const struct nsd_step *step)
{
    long folder = open_target(launch, step, A_DIRECTORY);

    if (folder < 0)
        return folder;
    return close_after(folder, sys3(__NR_symlinkat, nsd_text(launch, step, 0), folder,
                                    nsd_text(launch, step, 2)));
}

/* Appends text to the options, if there is room: the kernel refuses what was cut. */
static size_t add(char options[OPTIONS_MAX], size_t length, const char *text)
{
    while (*text != '\0' && length < OPTIONS_MAX - 1)
        options[length++] = *text++;
    options[length] = '\0';
    return length;
}

/* What is on top of the target now. The root itself may be it, which is then another directory
 * than the one to compare with. */
static long open_top(const struct nsd_launch *launch, const struct nsd_step *step)
{
    const char *root = nsd_text(launch, step, 3);

    if ((step->number[2] & NSD_OVERLAY_IS_ROOT) != 0)
        return nsd_open_root_again(launch, root, -1);
    return open_target(launch, step, ANYTHING);
}

static long check_type(long fd, long type)
{
    struct statfs filesystem;
    long ret = sys2(__NR_fstatfs, fd, &filesystem);

    return ret < 0 ? ret : filesystem.f_type == type ? 0 : -ESTALE;
}

/* From here on the root is the overlay: the steps that follow compare with that. */
static long replace_root(struct nsd_launch *launch, const struct nsd_step *step)
{
    long root = open_top(launch, step);
    long ret = root < 0 ? root : check_type(root, OVERLAYFS_SUPER_MAGIC);

    if (ret < 0)
        return root < 0 ? root : close_after(root, ret);
    sys1(__NR_close, launch->slot[step->number[1]]);
    launch->slot[step->number[1]] = (int)root;
    return 0;
}

/* A file system in memory on the target, with an upper and a work directory; the overlay will
 * cover it. The upper one gets the permissions and, where the namespace knows him, the owner of
 * the lower one: they are those of the overlay. Returns the directory to mount on. */
static long open_memory(const struct nsd_launch *launch, const struct nsd_step *step,
                        long lower, long upper[2])
{
    struct stat file;
    long target = open_target(launch, step, A_DIRECTORY);
    long ret = target < 0 ? target : sys1(__NR_fchdir, target);
    long memory;

    if (ret == 0)
        ret = sys5(__NR_mount, "tmpfs", ".", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755");
    if (target >= 0)
        sys1(__NR_close, target);
    if (ret == 0)
        ret = sys2(__NR_fstat, lower, &file);
    if (ret < 0)
        return ret;
    memory = open_top(launch, step);
    ret = memory < 0 ? memory : check_type(memory, TMPFS_MAGIC);
    if (ret < 0)
        return memory < 0 ? memory : close_after(memory, ret);
    upper[0] = open_name(memory, "upper", A_DIRECTORY);
    upper[1] = open_name(memory, "work", A_DIRECTORY);
    if (upper[0] < 0 || upper[1] < 0)
        return memory < 0 ? memory
                          : close_after(memory, upper[0] < 0 ? upper[0] : upper[1]);
    sys5(__NR_fchownat, memory, "upper", file.st_uid, file.st_gid, 0);
    ret = sys3(__NR_fchmodat, memory, "upper", file.st_mode & 07777);
    return ret < 0 ? close_after(memory, ret) : memory;
}

/* numbers: MS_* flags, slot to compare the root with or -1, NSD_OVERLAY_*;
 * texts: the directories in words, target, more options, root or absent
 *
 * The directories are given to the kernel by their descriptors, so that no name in them can
 * have a comma, and nobody can swap them. */
long nsd_overlay_at(struct nsd_launch *launch, const struct nsd_step *step)
{
    char options[OPTIONS_MAX], path[NSD_FD_PATH];
    const char *more = nsd_text(launch, step, 2);
    long first = NSD_OVERLAY_FIRST(step->number[2]);
    long count = NSD_OVERLAY_LOWER(step->number[2]);
    long here = sys4(__NR_openat, AT_FDCWD, ".", O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
    bool in_memory = (step->number[2] & NSD_OVERLAY_UPPER) == 0;
    long upper[2] = {-1, -1};
    size_t length = 0;
    long target, ret;

    if (in_memory) {
        target = open_memory(launch, step, launch->slot[first], upper);
    } else {
        target = open_target(launch, step, A_DIRECTORY);
        upper[0] = launch->slot[first + count];
        upper[1] = launch->slot[first + count + 1];
    }
    for (long i = 0; i < count; i++) {
        length = add(options, length, i == 0 ? "lowerdir=" : ":");
        length = add(options, length, nsd_path_of(launch->slot[first + i], path));
    }
    ret = target < 0 ? target : sys1(__NR_fchdir, target);
    if (ret == 0) {
        length = add(options, length, ",upperdir=");
        length = add(options, length, nsd_path_of(upper[0], path));
        length = add(options, length, ",workdir=");
        length = add(options, length, nsd_path_of(upper[1], path));
        add(options, length, more == NULL ? "" : more);
        ret = sys5(__NR_mount, "overlay", ".", "overlay", step->number[0], options);
    }
    for (int i = 0; in_memory && i < 2; i++)
        if (upper[i] >= 0)
            sys1(__NR_close, upper[i]);
    if (target >= 0)
        sys1(__NR_close, target);
    if (ret == 0 && (step->number[2] & NSD_OVERLAY_IS_ROOT) != 0)
        ret = replace_root(launch, step);
    if (here >= 0) {
        sys1(__NR_fchdir, here);
        sys1(__NR_close, here);
    }
    return ret;
}
