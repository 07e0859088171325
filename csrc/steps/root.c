/* root.c - the root, the working directory, and what is mounted by its path. */
#include "constants.h"
#include "held.h"
#include "mount.h"

#include <asm/stat.h>
#include <linux/fcntl.h>
#include <linux/mount.h>

static long open_directory(const char *path)
{
    return sys4(__NR_openat, AT_FDCWD, path, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
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

/* owner_slot: of the process whose root it is; again: the slot has it already, and this is to open
 * it in another mount namespace. */
long nsd_open_root(struct nsd_launch *launch, const struct nsd_step *step)
{
    long owner = step->number[1];
    long fd;

    if (step->number[2] != 0)
        return open_root_here(launch, step);
    fd = open_directory(nsd_text(launch, step, 0));
    if (owner >= 0) {
        /* A /proc/PID path is this process's only if it still lives now. */
        long alive = nsd_check_alive(launch->slot[owner]);

        if (alive < 0 || fd == -ENOENT)
            return close_after(fd, alive < 0 ? alive : -ESRCH);
    }
    if (fd < 0)
        return fd;
    launch->slot[step->number[0]] = (int)fd;
    return 0;
}

/* Who may not look into where we are would not come back, and be left in what is covered. */
long nsd_mount_on(long target, const char *source, const char *type, long flags,
                  const char *options)
{
    char path[NSD_FD_PATH];
    long here = open_directory(".");
    long ret;

    if (here < 0)
        return sys5(__NR_mount, source == NULL ? nsd_path_of(target, path) : source,
                    nsd_path_of(target, path), type, flags, options);
    ret = sys1(__NR_fchdir, target);
    if (ret == 0) {
        long back;

        ret =
            sys5(__NR_mount, source == NULL ? "." : source, ".", type, flags, options);
        back = sys1(__NR_fchdir, here);
        ret = ret == 0 ? back : ret;
    }
    return close_after(here, ret);
}

/* pivot_root wants a mount point. From here on the root is that mount: whatever follows holds
 * it, and no longer looks at its name. */
static long bind_root(struct nsd_launch *launch, const struct nsd_step *step, long slot)
{
    const char *path = nsd_text(launch, step, 0);
    long root = nsd_open_root_again(launch, path, slot);
    long ret = root < 0 ? root : 0;
    long mount;

    if (ret == 0 && (step->flags & NSD_STAYS_INSIDE) != 0)
        ret = nsd_keep_inside(root);
    if (ret == 0)
        ret = nsd_mount_on(root, NULL, NULL, step->number[0], NULL);
    mount = ret < 0 ? ret : nsd_open_top(root);

    if (mount >= 0) {
        ret = nsd_same_file(mount, root);
        if (ret < 0)
            mount = close_after(mount, ret);
    }
    close_after(root, 0);
    return mount < 0 ? mount : nsd_keep_mount(launch, path, NULL, mount);
}

static bool is_same(const char *a, const char *b)
{
    while (*a == *b && *a != '\0') {
        a++;
        b++;
    }
    return *a == *b;
}

/* is_root: it is the root, which is bound on itself; root_slot: to compare it with */
long nsd_bind(struct nsd_launch *launch, const struct nsd_step *step)
{
    const char *source = nsd_text(launch, step, 0), *target = nsd_text(launch, step, 1);

    if (step->number[2] != 0)
        return bind_root(launch, step, step->number[1]);
    if (is_same(source, target)) { /* by hand; a file is bound below */
        long ret = bind_root(launch, step, -1);

        if (ret != -ENOTDIR)
            return ret;
    }
    nsd_forget(launch, NULL, target);
    return sys5(__NR_mount, source, target, 0, step->number[0], 0);
}

/* root: that the target lies in; root_slot: to compare it with
 *
 * The target is opened without following a link, and mounted on as ".": a rootfs whose
 * /proc points elsewhere mounts nothing elsewhere. */
long nsd_mount(struct nsd_launch *launch, const struct nsd_step *step)
{
    const char *root = nsd_text(launch, step, 3), *none = NULL;
    long base = root == NULL ? AT_FDCWD
                             : nsd_open_held(launch, root, "", step->number[1], &none);
    long target, ret;

    if (base < 0 && base != AT_FDCWD)
        return base;
    target = sys4(__NR_openat, base, nsd_text(launch, step, 1),
                  O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
    if (base >= 0)
        sys1(__NR_close, base);
    if (target < 0)
        return target;
    nsd_forget(launch, root, nsd_text(launch, step, 1));
    ret = (step->flags & NSD_STAYS_INSIDE) == 0 ? 0 : nsd_keep_inside(target);
    if (ret == 0)
        ret = nsd_mount_on(target, nsd_text(launch, step, 0), nsd_text(launch, step, 2),
                           step->number[0], 0);
    return close_after(target, ret);
}

/* is_private: all mounts are already
 *
 * pivot_root(".", ".") stacks the old root on the new one; it is taken off from above. The
 * slave propagation keeps that from reaching anybody who shares mounts with us. */
long nsd_pivot_root(struct nsd_launch *launch, const struct nsd_step *step)
{
    const char *none = NULL;
    long root =
        nsd_open_held(launch, nsd_text(launch, step, 0), "", step->number[0], &none);
    long old, ret;

    if (root < 0)
        return root;
    old = open_directory("/");
    if (old < 0)
        return close_after(root, old);
    ret = sys1(__NR_fchdir, root);
    if (ret == 0)
        ret = sys2(__NR_pivot_root, ".", ".");
    if (ret == 0)
        ret = sys1(__NR_fchdir, old);
    if (ret == 0 && step->number[1] == 0)
        ret = sys5(__NR_mount, 0, ".", 0, MS_SLAVE | MS_REC, 0);
    if (ret == 0)
        ret = sys2(__NR_umount2, ".", MNT_DETACH);
    if (ret == 0)
        ret = sys1(__NR_chdir, "/");
    nsd_let_go(launch);
    sys1(__NR_close, old);
    return close_after(root, ret);
}

/* Without the chdir the old root would stay reachable through "." and "..". */
long nsd_chroot(struct nsd_launch *launch, const struct nsd_step *step)
{
    const char *path = nsd_text(launch, step, 0), *none = NULL;
    long slot = step->number[0];
    /* A descriptor from before an unshare leads into the old mount namespace, so a path is
     * opened again. */
    long root = path != NULL ? nsd_open_held(launch, path, "", slot, &none)
                             : launch->slot[slot];
    long ret;

    if (root < 0)
        return root;
    ret = sys1(__NR_fchdir, root);
    if (ret == 0)
        ret = sys1(__NR_chroot, ".");
    if (ret == 0)
        ret = sys1(__NR_chdir, "/");
    nsd_let_go(launch);
    return path != NULL ? close_after(root, ret) : ret;
}

/* Where we are, by its path: "/" for a directory that has none and is not needed. */
static long find_path(char where[PATH_MAX], enum nsd_where need)
{
    long ret = sys2(__NR_getcwd, where, PATH_MAX);

    if (ret > 0 && where[0] != '/')
        ret = -EXDEV;
    if (ret == -ENOENT && need == NSD_UNLESS_DELETED) {
        where[0] = '/';
        where[1] = '\0';
        ret = 0;
    }
    return ret < 0 ? ret : 0;
}

static long go_to(const char *path)
{
    char where[PATH_MAX];
    long ret = sys1(__NR_chdir, path);

    if (ret == 0 && is_same(path, "/")) /* that is the root, whatever lies over it */
        return 0;
    if (ret == 0)
        ret = find_path(where, NSD_WHERE_WE_ARE);
    return ret < 0 ? ret : sys1(__NR_chdir, where);
}

/* need: enum nsd_where, if there is no path: to where we are. A mount may have been laid
 * over it, and we would stay below; as would who is led there by a link of /proc.
 *
 * The kernel writes "(unreachable)" before a directory that lies outside the root: a
 * descriptor or a link led there. One that was deleted has no path; its ".." leads below the
 * mounts, too. */
long nsd_chdir(struct nsd_launch *launch, const struct nsd_step *step)
{
    const char *path = nsd_text(launch, step, 0);
    enum nsd_where need = (enum nsd_where)step->number[0];
    char where[PATH_MAX];
    long ret = path == NULL ? find_path(where, need) : 0;

    if (ret == 0)
        ret = go_to(path == NULL ? where : path);
    return ret < 0 && path == NULL && need == NSD_IF_IT_CAN_BE ? sys1(__NR_chdir, "/")
                                                               : ret;
}
