/* birth.c - when a process started. */
#include "steps.h"
#include "text.h"

#include <linux/errno.h>
#include <linux/fcntl.h>

/* A pid and this number together name one process. The process's name, field 2, may hold
 * anything, so the count begins behind its last ")". */
long nsd_started_at(long pid, int64_t *ret_ticks)
{
    char path[32], buffer[1024];
    long fd, got, i;
    int field = 1;
    int64_t ticks = 0;

    nsd_append(nsd_append_number(nsd_append(path, "/proc/"), (uint64_t)pid), "/stat");
    fd = sys4(__NR_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0)
        return fd == -ENOENT ? -ESRCH : fd;
    got = close_after(fd, sys3(__NR_read, fd, buffer, sizeof(buffer)));
    if (got <= 0)
        return got < 0 ? got : -ESRCH;
    for (i = got - 1; i > 0 && buffer[i] != ')'; i--)
        continue;
    for (; i < got && field < 21; i++)
        field += buffer[i] == ' ';
    for (; i < got && buffer[i] >= '0' && buffer[i] <= '9'; i++) {
        if (ticks > (INT64_MAX - 9) / 10)
            return -EOVERFLOW;
        ticks = ticks * 10 + (buffer[i] - '0');
    }
    *ret_ticks = ticks;
    return 0;
}
