/* mount.c - making a mount, and getting hold of it: the two ways of the kernel.
 *
 * In the new interface a mount is a descriptor first, with all its flags, and is attached then:
 * what we hold is what we made, wherever its place is moved to. The old one, for kernels and
 * seccomp filters without the other, mounts on a place; what lies there now is asked for.
 */
#include "mount.h"

#include <linux/fcntl.h>
#include <linux/mount.h>
#include <linux/openat2.h>

#define OPTION_MAX 256 /* the kernel takes no longer value */
#define ATTEMPTS 8

static long attach(long mount, long target)
{
    return sys5(__NR_move_mount, mount, "", target, "",
                MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}

static long set_option(long context, char *option)
{
    char *value = option;

    while (*value != '\0' && *value != '=')
        value++;
    if (*value == '\0')
        return sys5(__NR_fsconfig, context, FSCONFIG_SET_FLAG, option, 0, 0);
    *value++ = '\0';
    return sys5(__NR_fsconfig, context, FSCONFIG_SET_STRING, option, value, 0);
}

/* Options as mount(2) takes them, parted by commas. */
static long configure(long context, const char *type, const char *options)
{
    char option[OPTION_MAX];
    long ret = sys5(__NR_fsconfig, context, FSCONFIG_SET_STRING, "source", type, 0);

    while (ret == 0 && *options != '\0') {
        size_t length = 0;

        while (*options != '\0' && *options != ',' && length < sizeof(option) - 1)
            option[length++] = *options++;
        if (*options != '\0' && *options != ',')
            return -ENOSYS; /* the old way takes it */
        option[length] = '\0';
        while (*options == ',')
            options++;
        if (length > 0)
            ret = set_option(context, option);
    }
    return ret == 0 ? sys5(__NR_fsconfig, context, FSCONFIG_CMD_CREATE, 0, 0, 0) : ret;
}

static long mount_the_new_way(const char *type, const char *options, long flags,
                              long target)
{
    long context = sys2(__NR_fsopen, type, FSOPEN_CLOEXEC);
    long mount, ret;

    if (context < 0)
        return context;
    ret = configure(context, type, options);
    mount = ret < 0 ? ret : sys3(__NR_fsmount, context, FSMOUNT_CLOEXEC, flags);
    sys1(__NR_close, context);
    ret = mount < 0 ? mount : attach(mount, target);
    return ret < 0 && mount >= 0 ? close_after(mount, ret) : ret < 0 ? ret : mount;
}

/* By a change of the root, for kernels that cannot pretend one. */
static long open_top_from_inside(long folder)
{
    long here = sys4(__NR_openat, AT_FDCWD, ".", O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
    long root = sys4(__NR_openat, AT_FDCWD, "/", O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
    long ret = here < 0 ? here : root < 0 ? root : sys1(__NR_fchdir, folder);
    long top = -1;

    if (ret == 0)
        ret = sys1(__NR_chroot, ".");
    if (ret == 0) {
        top = sys4(__NR_openat, AT_FDCWD, "..", O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
        ret = sys1(__NR_fchdir, root);
        if (ret == 0)
            ret = sys1(__NR_chroot, ".");
    }
    if (here >= 0 && root >= 0) {
        long back = sys1(__NR_fchdir, here);

        ret = ret == 0 ? back : ret;
    }
    close_after(here, 0);
    close_after(root, 0);
    return ret < 0 ? close_after(top, ret) : top;
}

/* A directory that is renamed anywhere at that moment is EAGAIN. */
long nsd_open_top(long folder)
{
    struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
                           .resolve = RESOLVE_IN_ROOT};
    long top = -EAGAIN;

    for (int i = 0; top == -EAGAIN && i < ATTEMPTS; i++)
        top = sys4(__NR_openat2, folder, "..", &how, sizeof(how));
    return top == -EAGAIN || nsd_is_missing(top) ? open_top_from_inside(folder) : top;
}

/* Who owns the place may have removed it, and the mount with it: then we would hold the place
 * itself, which is his. */
static long open_new_top(long target)
{
    int64_t below = 0, above = 0;
    long top = nsd_open_top(target);
    long ret = top < 0 ? top : nsd_mount_of(top, &above);

    if (ret == 0)
        ret = nsd_mount_of(target, &below);
    if (ret == 0 && above == below)
        ret = -ESTALE;
    return ret < 0 && top >= 0 ? close_after(top, ret) : top;
}

static long mount_the_old_way(const char *type, const char *options, long flags,
                              long target)
{
    long ret = nsd_mount_on(target, type, type, flags, options);

    return ret < 0 ? ret : open_new_top(target);
}

long nsd_mount_new(const char *type, const char *options, long flags, long target)
{
    long mount = mount_the_new_way(type, options, flags, target);

    return nsd_is_missing(mount) ? mount_the_old_way(type, options, flags, target)
                                 : mount;
}

static long bind_the_new_way(long source, long target, long flags, bool recursive)
{
    long tree = sys3(__NR_open_tree, source, "",
                     OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH |
                         (recursive ? AT_RECURSIVE : 0));
    long ret = 0;

    if (tree < 0)
        return tree;
    if (flags != 0)
        ret = nsd_set_attributes(tree, flags, 0, recursive);
    if (ret == 0)
        ret = attach(tree, target);
    return ret < 0 ? close_after(tree, ret) : tree;
}

long nsd_bind_without_flags(long source, long target, bool recursive)
{
    char from[NSD_FD_PATH], to[NSD_FD_PATH];

    return sys5(__NR_mount, nsd_path_of(source, from), nsd_path_of(target, to), 0,
                MS_BIND | (recursive ? MS_REC : 0), 0);
}

static long bind_the_old_way(long source, long target, long flags, bool recursive)
{
    long ret = nsd_bind_without_flags(source, target, recursive);
    long top = ret < 0 ? ret : open_new_top(target);

    if (top < 0 || flags == 0)
        return top;
    ret = nsd_remount(top, flags, recursive ? NSD_READONLY_ALL : NSD_READONLY_TOP);
    return ret < 0 ? close_after(top, ret) : top;
}

long nsd_bind_new(long source, long target, long flags, bool recursive, bool is_folder)
{
    long mount = bind_the_new_way(source, target, flags, recursive);

    return nsd_is_missing(mount) && is_folder
               ? bind_the_old_way(source, target, flags, recursive)
               : mount;
}
