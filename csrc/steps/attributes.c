/* flags.c - what is allowed on mounts that are there already: read-only, no devices, ...
 *
 * mount_setattr(2) does it for a tree of mounts at once. Where the kernel, or a seccomp filter,
 * does not have it, the tree is read from mountinfo, and each mount is mounted again with more
 * flags. A mount that another one covers cannot be reached that way, by nobody inside either.
 */
#include "held.h"
#include "text.h"

#include <asm/statfs.h>
#include <linux/fcntl.h>
#include <linux/mman.h>
#include <linux/mount.h>

struct line {
    int64_t id, parent;
    char *point;
    bool below; /* the mount that we look at, or itself */
};

static const char *path_below(const char *folder, long fd, char path[NSD_FD_PATH])
{
    nsd_append_number(nsd_append(path, folder), (uint32_t)fd);
    return path;
}

const char *nsd_path_of(long fd, char path[NSD_FD_PATH])
{
    return path_below("/proc/self/fd/", fd, path);
}

long nsd_set_attributes(long tree, long flags, long cleared, bool recursive)
{
    struct mount_attr attributes = {.attr_set = (uint64_t)flags,
                                    .attr_clr = (uint64_t)cleared};

    return sys5(__NR_mount_setattr, tree, "",
                AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), &attributes,
                sizeof(attributes));
}

/* A remount sets all flags, so those that are there are repeated: in a user namespace the
 * kernel lets nobody take them away. */
static long remount_one(long fd, long flags)
{
    struct statfs filesystem;
    char path[NSD_FD_PATH];
    long ret = sys2(__NR_fstatfs, fd, &filesystem);
    long kept;

    if (ret < 0)
        return ret;
    /* The flags of statfs(2) are those of mount(2), but for the last two. */
    kept = (long)filesystem.f_flags &
           (MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME | MS_NODIRATIME);
    if ((filesystem.f_flags & 0x1000) != 0)
        kept |= MS_RELATIME;
    if ((filesystem.f_flags & 0x2000) != 0)
        kept |= MS_NOSYMFOLLOW;
    return sys5(__NR_mount, 0, nsd_path_of(fd, path), 0,
                MS_REMOUNT | MS_BIND | kept | flags, 0);
}

long nsd_limits_of(long fd)
{
    struct statfs filesystem;
    long ret = sys2(__NR_fstatfs, fd, &filesystem);

    return ret < 0 ? ret
                   : (long)filesystem.f_flags & (MS_NOSUID | MS_NODEV | MS_NOEXEC);
}

static int64_t number(char **at)
{
    int64_t value = 0;

    while (**at == ' ' || **at == '\t')
        (*at)++;
    for (; **at >= '0' && **at <= '9'; (*at)++)
        if (value <= (INT64_MAX - 9) / 10) /* a longer one is nobody's */
            value = value * 10 + (**at - '0');
    return value;
}

long nsd_mount_of(long fd, int64_t *ret_id)
{
    static const char word[] = "mnt_id:";
    char path[NSD_FD_PATH], text[512];
    long file = sys4(__NR_openat, AT_FDCWD, path_below("/proc/self/fdinfo/", fd, path),
                     O_RDONLY | O_CLOEXEC, 0);
    long got = file < 0
                   ? file
                   : close_after(file, sys3(__NR_read, file, text, sizeof(text) - 1));

    if (got < 0)
        return got;
    text[got] = '\0';
    for (char *at = text; *at != '\0'; at++) {
        size_t n = 0;

        while (word[n] != '\0' && at[n] == word[n])
            n++;
        if (word[n] != '\0')
            continue;
        at += n;
        *ret_id = number(&at);
        return 0;
    }
    return -ENOSYS;
}

static long map_memory(size_t size)
{
    return sys6(__NR_mmap, 0, (long)size, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

/* An address is no error, even if it is negative. */
static bool is_error(long ret)
{
    return ret < 0 && ret > -4096;
}

/* All of mountinfo, ended by NUL, in memory of that size. */
static long read_mounts(size_t *ret_size)
{
    long file =
        sys4(__NR_openat, AT_FDCWD, "/proc/self/mountinfo", O_RDONLY | O_CLOEXEC, 0);
    size_t size = 64 * 1024, used = 0;
    long memory = file < 0 ? file : map_memory(size);
    long got = 1;

    if (is_error(memory))
        return file < 0 ? file : close_after(file, memory);
    while (got > 0) {
        if (used + 1 == size) {
            long larger =
                sys4(__NR_mremap, memory, size, size * 2, 1 /* MREMAP_MAYMOVE */);

            if (is_error(larger)) {
                got = larger;
                break;
            }
            memory = larger;
            size *= 2;
        }
        got = sys3(__NR_read, file, memory + (long)used, size - 1 - used);
        if (got > 0)
            used += (size_t)got;
    }
    sys1(__NR_close, file);
    if (got < 0) {
        sys2(__NR_munmap, memory, size);
        return got;
    }
    *ret_size = size;
    return memory;
}

/* A space in a path is \040 there; ends the path with NUL. */
static void unescape(char *at)
{
    char *to = at;

    while (*at != ' ' && *at != '\0') {
        if (at[0] == '\\' && at[1] >= '0' && at[1] <= '3' && at[2] >= '0' &&
            at[2] <= '7' && at[3] >= '0' && at[3] <= '7') {
            *to++ = (char)((at[1] - '0') << 6 | (at[2] - '0') << 3 | (at[3] - '0'));
            at += 4;
        } else {
            *to++ = *at++;
        }
    }
    *to = '\0';
}

/* id parent major:minor root point options ... */
static void parse_line(char *text, struct line *ret_line)
{
    *ret_line = (struct line){.id = number(&text)};
    ret_line->parent = number(&text);
    for (int spaces = 0; spaces < 3 && *text != '\0'; text++)
        spaces += *text == ' ';
    ret_line->point = text;
    unescape(text);
}

/* Returns how many lines there are: as many as newlines, and one that ends without. */
static size_t parse(char *text, struct line *ret_lines)
{
    size_t count = 0;

    while (*text != '\0') {
        char *end = text;

        while (*end != '\0' && *end != '\n')
            end++;
        if (*end == '\n')
            *end++ = '\0';
        parse_line(text, &ret_lines[count++]);
        text = end;
    }
    return count;
}

/* A mount that was moved may stand before its parent: so until nothing is found any more. */
static void find_below(struct line *lines, size_t count, int64_t top)
{
    bool found = true;

    for (size_t i = 0; i < count; i++)
        lines[i].below = lines[i].id == top;
    while (found) {
        found = false;
        for (size_t i = 0; i < count; i++)
            for (size_t n = 0; n < count && !lines[i].below; n++)
                if (lines[n].below && lines[n].id == lines[i].parent)
                    lines[i].below = found = true;
    }
}

static bool leads_through(const char *path, const char *point)
{
    while (*point != '\0' && *path == *point) {
        path++;
        point++;
    }
    return *point == '\0' && (*path == '\0' || *path == '/');
}

/* Is something mounted over this one, or over one that it lies in? */
static bool is_covered(const struct line *lines, size_t count, const struct line *line)
{
    const struct line *at = line;

    for (size_t i = 0; i < count; i++)
        if (&lines[i] != line && lines[i].parent == line->id &&
            leads_through(line->point, lines[i].point))
            return true;
    /* The first mount of all may be its own parent. */
    for (size_t depth = 0; at != NULL && at->below && depth < count; depth++) {
        const struct line *parent = NULL;

        for (size_t i = 0; i < count; i++) {
            if (lines[i].id == at->parent)
                parent = &lines[i];
            else if (lines[i].parent == at->parent && &lines[i] != at &&
                     leads_through(at->point, lines[i].point))
                return true;
        }
        at = parent;
    }
    return false;
}

/* The path may lead elsewhere because the mount is covered; else somebody moved what it lies in. */
static long remount_line(const struct line *lines, size_t count,
                         const struct line *line, long flags)
{
    long fd =
        sys4(__NR_openat, AT_FDCWD, line->point, O_PATH | O_NOFOLLOW | O_CLOEXEC, 0);
    int64_t id = 0;
    long ret = fd < 0 ? fd : nsd_mount_of(fd, &id);

    if (ret == 0 && id != line->id)
        ret = -ESTALE;
    if (ret == 0)
        ret = remount_one(fd, flags);
    else if (is_covered(lines, count, line))
        ret = 0;
    return fd < 0 ? ret : close_after(fd, ret);
}

static long remount_below(int64_t top, long flags)
{
    size_t size = 0, most = 1, count;
    long text = read_mounts(&size);
    long memory, ret = 0;
    struct line *lines;

    if (is_error(text))
        return text;
    for (const char *at = (const char *)text; *at != '\0'; at++)
        most += *at == '\n';
    memory = map_memory(most * sizeof(struct line));
    if (is_error(memory)) {
        sys2(__NR_munmap, text, size);
        return memory;
    }
    lines = (struct line *)memory;
    count = parse((char *)text, lines);
    find_below(lines, count, top);
    for (size_t i = 0; i < count && ret == 0; i++)
        if (lines[i].below && lines[i].id != top)
            ret = remount_line(lines, count, &lines[i], flags);
    sys2(__NR_munmap, memory, most * sizeof(struct line));
    sys2(__NR_munmap, text, size);
    return ret;
}

long nsd_remount(long top, long flags, enum nsd_readonly which)
{
    int64_t id = 0;
    long ret = 0;

    if (which != NSD_READONLY_TOP)
        ret = nsd_mount_of(top, &id);
    if (ret == 0 && which != NSD_READONLY_TOP)
        ret = remount_below(id, flags);
    if (ret == 0 && which != NSD_READONLY_BELOW)
        ret = remount_one(top, flags);
    return ret;
}

/* which: enum nsd_readonly
 *
 * What is to be mounted below the root may need a directory there first: so what came along
 * with the root is closed at once, and its own mount in the end. */
long nsd_readonly(struct nsd_launch *launch, const struct nsd_step *step)
{
    const char *path = nsd_text(launch, step, 3);
    long root = nsd_open_held(launch, path, "", step->number[1], &path);
    bool recursive = step->number[0] != NSD_READONLY_TOP;
    struct statfs before;
    long ret;

    if (root < 0)
        return root;
    ret = sys2(__NR_fstatfs, root, &before);
    if (ret == 0)
        ret = nsd_set_attributes(root, MS_RDONLY, 0, recursive);
    if (nsd_is_missing(ret))
        ret = nsd_remount(root, MS_RDONLY, (enum nsd_readonly)step->number[0]);
    else if (ret == 0 && step->number[0] == NSD_READONLY_BELOW &&
             (before.f_flags & MS_RDONLY) == 0)
        ret = nsd_set_attributes(root, 0, MS_RDONLY, false);
    return close_after(root, ret);
}
