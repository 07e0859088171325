/* overlay.c - directories laid over each other, on a target in the root or on the root itself;
 * and what is mounted below such a root, or cannot be covered with it.
 */
#include "files.h"

#include "constants.h"
#include "held.h"
#include "mount.h"
#include "text.h"

#include <asm/stat.h>
#include <asm/statfs.h>
#include <linux/errno.h>
#include <linux/fcntl.h>
#include <linux/magic.h>
#include <linux/mount.h>

#define OPTIONS_MAX 4096
#define NAME_SIZE 28 /* "upper" and a number */

/* Appends text to the options, if there is room: the kernel refuses what was cut. */
static size_t add(char options[OPTIONS_MAX], size_t length, const char *text)
{
    while (*text != '\0' && length < OPTIONS_MAX - 1)
        options[length++] = *text++;
    options[length] = '\0';
    return length;
}

/* The first has no number. */
static void add_number(char name[NAME_SIZE], const char *word, int64_t number)
{
    char *end = nsd_append(name, word);

    if (number > 0)
        nsd_append_number(end, (uint64_t)number);
}

/* The permissions and, where the namespace knows him, the owner of what is covered: they are
 * those of the overlay. By the descriptor: whoever may put a link in the place of a name would
 * have them given to a file of his choice. */
static long make_alike(long folder, long lower)
{
    struct stat file;
    char path[NSD_FD_PATH];
    long ret;

    file.st_mode = 0;
    file.st_uid = file.st_gid = 0;
    ret = sys2(__NR_fstat, lower, &file);
    if (ret < 0)
        return ret;
    ret = sys5(__NR_fchownat, folder, "", file.st_uid, file.st_gid, AT_EMPTY_PATH);
    if (ret < 0 && ret != -EPERM && ret != -EINVAL) /* an id that is not ours to give */
        return ret;
    return sys3(__NR_fchmodat, AT_FDCWD, nsd_path_of(folder, path),
                file.st_mode & 07777);
}

/* An upper and a work directory, in memory. */
static long make_upper(long memory, long lower, int64_t number, long upper[2])
{
    char name[2][NAME_SIZE];

    add_number(name[0], "upper", number);
    add_number(name[1], "work", number);
    for (int i = 0; i < 2; i++) {
        upper[i] = nsd_open_name(memory, name[i], NSD_A_DIRECTORY);
        if (upper[i] < 0)
            return upper[i];
    }
    return make_alike(upper[0], lower);
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
    add(options, length, more);
    return limits;
}

static void put(struct nsd_launch *launch, int slot, long fd)
{
    close_after(launch->slot[slot], 0);
    launch->slot[slot] = (int)fd;
}

/* layers: NSD_OVERLAY_*; directories: in words; more: options
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
        ret = make_upper(target, launch->slot[first], 0, upper);
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
        put(launch, NSD_UPPER_SLOT, upper[0]); /* for hand_over */
        put(launch, NSD_MEMORY_SLOT, target);
        upper[0] = target = -1;
    }
    for (int i = 0; in_memory && i < 2; i++)
        if (upper[i] >= 0)
            sys1(__NR_close, upper[i]);
    return target < 0 ? ret : close_after(target, ret);
}

/* File systems that are views of the kernel, not files: nobody needs a copy of them, and most
 * take no overlay. */
static bool is_of_the_kernel(unsigned long type)
{
    static const unsigned int types[] = {
        PROC_SUPER_MAGIC,     SYSFS_MAGIC,     CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC,
        DEVPTS_SUPER_MAGIC,   DEBUGFS_MAGIC,   TRACEFS_MAGIC,      SECURITYFS_MAGIC,
        BPF_FS_MAGIC,         PSTOREFS_MAGIC,  EFIVARFS_MAGIC,     SELINUX_MAGIC,
        SMACK_MAGIC,          HUGETLBFS_MAGIC, NSFS_MAGIC,         BINFMTFS_MAGIC,
        RDTGROUP_SUPER_MAGIC, AUTOFS_MAGIC,    MQUEUE_MAGIC,       FUSECTL_MAGIC,
        CONFIGFS_MAGIC,
    };

    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
        if (type == types[i])
            return true;
    return false;
}

/* Of these, a process writes to what is its own. */
static bool stays_writable(unsigned long type)
{
    return type == PROC_SUPER_MAGIC || type == DEVPTS_SUPER_MAGIC ||
           type == MQUEUE_MAGIC;
}

static long add_skeleton(struct nsd_launch *launch, const struct nsd_step *step,
                         long lower)
{
    const char *path = nsd_text(launch, step, 1);
    long memory, folder, mount, ret;

    if (path[0] != '/' || path[1] != '\0') {
        folder = nsd_open_target(launch, step, NSD_A_DIRECTORY);
        ret = folder < 0 ? folder : make_alike(folder, lower);
        put(launch, NSD_UPPER_SLOT, folder < 0 ? -1 : folder);
        return ret;
    }
    memory = nsd_open_mount(launch, step);
    if (memory < 0)
        return memory;
    put(launch, NSD_MEMORY_SLOT, memory);
    folder = nsd_open_name(memory, "root", NSD_A_DIRECTORY);
    if (folder < 0)
        return folder;
    put(launch, NSD_UPPER_SLOT, folder);
    ret = make_alike(folder, lower);
    mount = ret < 0 ? ret : nsd_bind_new(folder, memory, 0, false, true);
    return mount < 0 ? mount
                     : nsd_keep_mount(launch, nsd_text(launch, step, 3), path, mount);
}

/* As it is, but nothing can be written to it. */
static long add_as_it_is(struct nsd_launch *launch, const struct nsd_step *step,
                         unsigned long type)
{
    struct nsd_step bind = *step;
    long ret;

    bind.number[0] = MS_REC | (stays_writable(type) ? 0 : MS_RDONLY);
    bind.number[1] = -1;
    bind.number[2] = NSD_LAYER_SLOT;
    ret = nsd_bind_at(launch, &bind);
    if (step->number[0] == NSD_LAYER_FILE) /* nothing will be mounted below */
        nsd_forget(launch, nsd_text(launch, step, 3), nsd_text(launch, step, 1));
    return ret;
}

static long add_layer(struct nsd_launch *launch, const struct nsd_step *step,
                      long lower)
{
    struct nsd_step overlay = *step;
    long target = nsd_open_target(launch, step, NSD_A_DIRECTORY);
    long memory = launch->slot[NSD_MEMORY_SLOT];
    long upper[2] = {-1, -1};
    char options[OPTIONS_MAX];
    long mount =
        target < 0 ? target : make_upper(memory, lower, step->number[2], upper);

    overlay.number[2] = NSD_LAYER_SLOT | 1 << 8;
    if (mount >= 0)
        mount = list_layers(launch, &overlay, upper, options);
    if (mount >= 0) /* in it, limits of the memory and of what is below */
        mount = nsd_mount_new("overlay", options, mount, target);
    if (mount >= 0)
        mount = nsd_keep_mount(launch, nsd_text(launch, step, 3),
                               nsd_text(launch, step, 1), mount);
    close_after(target, 0);
    close_after(upper[1], 0);
    put(launch, NSD_UPPER_SLOT, mount < 0 ? close_after(upper[0], -1) : upper[0]);
    return mount;
}

/* what: enum nsd_layer; root_slot: the root below its overlay; target: what lies in both
 *
 * The value says whether there is a layer, whose upper directory is handed over then. */
long nsd_layer_at(struct nsd_launch *launch, const struct nsd_step *step)
{
    enum nsd_layer what = (enum nsd_layer)step->number[0];
    long lower = nsd_open_below(launch->slot[step->number[1]],
                                nsd_text(launch, step, 1), NSD_ANYTHING);
    struct statfs filesystem;
    struct stat file;
    bool is_folder;
    long ret;

    put(launch, NSD_LAYER_SLOT, lower < 0 ? -1 : lower);
    put(launch, NSD_UPPER_SLOT, -1);
    if (lower == -ENOENT || lower == -ELOOP)
        return 0; /* it was covered by another mount, or is gone by now */
    filesystem.f_type = 0;
    file.st_mode = 0;
    ret = lower < 0 ? lower : sys2(__NR_fstat, lower, &file);
    if (ret == 0)
        ret = sys2(__NR_fstatfs, lower, &filesystem);
    if (ret < 0)
        return ret;
    is_folder = (file.st_mode & S_IFMT) == S_IFDIR;
    if (what == NSD_LAYER_SKELETON)
        return is_folder ? add_skeleton(launch, step, lower) : 0;
    if (what == NSD_LAYER_PLACE) {
        ret = is_folder ? nsd_open_target(launch, step, NSD_A_DIRECTORY) : 0;
        return ret < 0 || !is_folder ? ret : close_after(ret, make_alike(ret, lower));
    }
    ret = -ENOTDIR;
    if (is_folder && !is_of_the_kernel((unsigned long)filesystem.f_type))
        ret = add_layer(launch, step, lower);
    return ret == 0 ? 1 : add_as_it_is(launch, step, (unsigned long)filesystem.f_type);
}
