/* closing.c - every descriptor closed but some, where there is no close_range(2).
 *
 * It came with Linux 5.9, and old seccomp filters refuse it. A descriptor may have any number, also
 * one above the limit, which may have been lowered since: so the kernel is asked which there are.
 */
#include "steps.h"

#include <asm/statfs.h>
#include <linux/errno.h>
#include <linux/fcntl.h>
#include <linux/magic.h>
#include <linux/resource.h>

/* Before anybody raises the sysctl fs.nr_open, no number is higher. */
#define USUAL_MOST (1024 * 1024)

/* As getdents64(2) has it. */
struct entry {
    uint64_t inode;
    int64_t offset;
    uint16_t size;
    uint8_t type;
    char name[];
};

static bool is_kept(long fd, const int *kept, int count)
{
    if (fd < 3)
        return true;
    for (int i = 0; i < count; i++)
        if (kept[i] == fd)
            return true;
    return false;
}

/* -1: it is no number. */
static long number_of(const char *name)
{
    long number = 0;

    if (*name == '\0')
        return -1;
    for (; *name != '\0'; name++) {
        if (*name < '0' || *name > '9' || number > USUAL_MOST * 1024L)
            return -1;
        number = number * 10 + (*name - '0');
    }
    return number;
}

/* Our own /proc/self/fd, and no other's. */
static long open_list(void)
{
    struct statfs filesystem;
    long fd = sys4(__NR_openat, AT_FDCWD, "/proc/self/fd",
                   O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    long ret = fd < 0 ? fd : sys2(__NR_fstatfs, fd, &filesystem);

    if (ret == 0 && filesystem.f_type != PROC_SUPER_MAGIC)
        ret = -ENOTDIR;
    return ret < 0 ? close_after(fd, ret) : fd;
}

/* What is closed while the list is read is not listed twice, and nothing is left out. */
static long close_listed(const int *kept, int count)
{
    char buffer[1024] __attribute__((aligned(8)));
    long list = open_list();
    long got = list < 0 ? list : 1;

    while (got > 0) {
        got = sys3(__NR_getdents64, list, buffer, sizeof(buffer));
        for (long at = 0; at < got;) {
            const struct entry *entry = (const struct entry *)(void *)(buffer + at);
            long fd = number_of(entry->name);

            if (fd >= 0 && fd != list && !is_kept(fd, kept, count))
                sys1(__NR_close, fd);
            at += entry->size;
        }
    }
    return close_after(list, got);
}

long nsd_close_all_but(const int *kept, int count)
{
    struct rlimit64 limit = {0, 0};
    long ret;

    for (long fd = 3; fd < 4L + count; fd++) /* so that one is free for the list */
        if (!is_kept(fd, kept, count))
            sys1(__NR_close, fd);
    ret = close_listed(kept, count);
    if (ret == 0)
        return 0;
    /* Without /proc: all numbers that there may be, if those can be tried. */
    ret = sys4(__NR_prlimit64, 0, RLIMIT_NOFILE, 0, &limit);
    if (ret == 0 && limit.rlim_max > USUAL_MOST)
        ret = -EMFILE;
    for (long fd = 3; ret == 0 && fd < USUAL_MOST; fd++)
        if (!is_kept(fd, kept, count))
            sys1(__NR_close, fd);
    return ret;
}
