/* overlay.c - directories laid over each other, on a target in the root or on the root itself. */
#include "files.h"

#include "held.h"
#include "mount.h"

#include <asm/stat.h>
#include <linux/errno.h>
#include <linux/fcntl.h>

#define OPTIONS_MAX 4096

/* Appends text to the options, if there is room: the kernel refuses what was cut. */
static size_t add(char options[OPTIONS_MAX], size_t length, const char *text)
{
    while (*text != '\0' && length < OPTIONS_MAX - 1)
        options[length++] = *text++;
    options[length] = '\0';
    return length;
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

/* The lower directories, and what is to be above them, by their descriptors: no name in them
 * can have a comma, and nobody can swap them. Returns what the overlay may not allow, as those
 * do not. */
static long list_layers(const struct nsd_launch *launch, const struct nsd_step *step,
                        const long upper[2], char options[OPTIONS_MAX])
{
    const char *more = nsd_text(launch, step, 2);
    long first = NSD_OVERLAY_FIRST(step->number[2]);
    long count = NSD_OVERLAY_LOWER(step->number[2]);
    char path[NSD_FD_PATH];
    size_t length = 0;
    long limits = nsd_limits_of(upper[0]);

    for (long i = 0; i < count && limits >= 0; i++) {
        long ret = nsd_limits_of(launch->slot[first + i]);

        limits = ret < 0 ? ret : limits | ret;
        length = add(options, length, i == 0 ? "lowerdir=" : ":");
        length = add(options, length, nsd_path_of(launch->slot[first + i], path));
    }
    length = add(options, length, ",upperdir=");
    length = add(options, length, nsd_path_of(upper[0], path));
    length = add(options, length, ",workdir=");
    length = add(options, length, nsd_path_of(upper[1], path));
    add(options, length, more == NULL ? "" : more);
    return limits;
}

/* numbers: MS_* flags, slot to compare the root with or -1, NSD_OVERLAY_*;
 * texts: the directories in words, target, more options, root or absent
 *
 * Without an upper directory of its own, the file system in memory that the step before mounted
 * on the target takes the changes. */
long nsd_overlay_at(struct nsd_launch *launch, const struct nsd_step *step)
{
    char options[OPTIONS_MAX];
    long first = NSD_OVERLAY_FIRST(step->number[2]);
    long count = NSD_OVERLAY_LOWER(step->number[2]);
    bool in_memory = (step->number[2] & NSD_OVERLAY_UPPER) == 0;
    long target = in_memory ? nsd_open_mount(launch, step)
                            : nsd_open_target(launch, step, NSD_A_DIRECTORY);
    long upper[2] = {-1, -1};
    long limits = 0, ret = target < 0 ? target : 0, mount;

    if (ret == 0 && in_memory) {
        ret = make_upper(target, launch->slot[first], upper);
    } else if (ret == 0) {
        upper[0] = launch->slot[first + count];
        upper[1] = launch->slot[first + count + 1];
    }
    if (ret == 0)
        ret = limits = nsd_limits_of(target);
    if (ret >= 0)
        ret = list_layers(launch, step, upper, options);
    mount = ret < 0 ? ret
                    : nsd_mount_new("overlay", options, step->number[0] | limits | ret,
                                    target);
    ret = mount < 0 ? mount
                    : nsd_keep_mount(launch, nsd_text(launch, step, 3),
                                     nsd_text(launch, step, 1), mount);
    if (ret == 0 && (step->number[2] & NSD_OVERLAY_IS_ROOT) != 0) {
        launch->slot[NSD_UPPER_SLOT] = (int)upper[0]; /* for hand_over */
        upper[0] = -1;
    }
    for (int i = 0; in_memory && i < 2; i++)
        if (upper[i] >= 0)
            sys1(__NR_close, upper[i]);
    return target < 0 ? ret : close_after(target, ret);
}
