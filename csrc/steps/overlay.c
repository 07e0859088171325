/* overlay.c - directories laid over each other, on a target in the root or on the root itself. */
#include "files.h"

#include <asm/stat.h>
#include <asm/statfs.h>
#include <linux/errno.h>
#include <linux/fcntl.h>
#include <linux/magic.h>
#include <linux/mount.h>

#define OPTIONS_MAX 4096

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
    return nsd_open_target(launch, step, NSD_ANYTHING);
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

static long device_of(long fd, uint64_t *ret_device)
{
    struct stat file;
    long ret;

    file.st_dev = 0;
    ret = sys2(__NR_fstat, fd, &file);
    *ret_device = file.st_dev;
    return ret;
}

/* A file system in memory on the target, which the overlay will cover; returns what is on top
 * now. Who may rename the directories on the way could lead us to another one, so it must be a
 * new file system. */
static long open_memory(const struct nsd_launch *launch, const struct nsd_step *step)
{
    uint64_t covered = 0, device = 0;
    long target = nsd_open_target(launch, step, NSD_A_DIRECTORY);
    long ret = target < 0 ? target : device_of(target, &covered);
    long memory;

    if (ret == 0)
        ret = nsd_mount_on(target, "tmpfs", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755");
    if (target >= 0)
        sys1(__NR_close, target);
    if (ret < 0)
        return ret;
    memory = open_top(launch, step);
    ret = memory < 0 ? memory : check_type(memory, TMPFS_MAGIC);
    if (ret == 0)
        ret = device_of(memory, &device);
    if (ret == 0 && device == covered)
        ret = -ESTALE;
    return ret == 0 || memory < 0 ? memory : close_after(memory, ret);
}

/* An upper and a work directory. The upper one gets the permissions and, where the namespace
 * knows him, the owner of the lower one: they are those of the overlay. By their descriptors:
 * whoever may put a link in the place of a name would have them given to a file of his
 * choice. */
static long make_upper(long memory, long lower, long upper[2])
{
    struct stat file;
    char path[NSD_FD_PATH];
    long ret;

    file.st_mode = 0;
    file.st_uid = file.st_gid = 0;
    ret = sys2(__NR_fstat, lower, &file);
    if (ret < 0)
        return ret;
    upper[0] = nsd_open_name(memory, "upper", NSD_A_DIRECTORY);
    upper[1] = nsd_open_name(memory, "work", NSD_A_DIRECTORY);
    if (upper[0] < 0 || upper[1] < 0)
        return upper[0] < 0 ? upper[0] : upper[1];
    sys5(__NR_fchownat, upper[0], "", file.st_uid, file.st_gid, AT_EMPTY_PATH);
    return sys3(__NR_fchmodat, AT_FDCWD, nsd_path_of(upper[0], path),
                file.st_mode & 07777);
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
    bool in_memory = (step->number[2] & NSD_OVERLAY_UPPER) == 0;
    long upper[2] = {-1, -1};
    size_t length = 0;
    long target, ret = 0;

    if (in_memory) {
        target = open_memory(launch, step);
        ret = target < 0 ? target : make_upper(target, launch->slot[first], upper);
    } else {
        target = nsd_open_target(launch, step, NSD_A_DIRECTORY);
        upper[0] = launch->slot[first + count];
        upper[1] = launch->slot[first + count + 1];
    }
    for (long i = 0; i < count; i++) {
        length = add(options, length, i == 0 ? "lowerdir=" : ":");
        length = add(options, length, nsd_path_of(launch->slot[first + i], path));
    }
    if (ret == 0 && target < 0)
        ret = target;
    if (ret == 0) {
        length = add(options, length, ",upperdir=");
        length = add(options, length, nsd_path_of(upper[0], path));
        length = add(options, length, ",workdir=");
        length = add(options, length, nsd_path_of(upper[1], path));
        add(options, length, more == NULL ? "" : more);
        ret = nsd_mount_on(target, "overlay", "overlay", step->number[0], options);
    }
    if (ret == 0 && (step->number[2] & NSD_OVERLAY_IS_ROOT) != 0) {
        launch->slot[NSD_UPPER_SLOT] = (int)upper[0]; /* for hand_over */
        upper[0] = -1;
    }
    for (int i = 0; in_memory && i < 2; i++)
        if (upper[i] >= 0)
            sys1(__NR_close, upper[i]);
    if (target >= 0)
        sys1(__NR_close, target);
    if (ret == 0 && (step->number[2] & NSD_OVERLAY_IS_ROOT) != 0)
        ret = replace_root(launch, step);
    return ret;
}
