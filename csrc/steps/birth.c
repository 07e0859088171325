/* birth.c - when a process started. */
#include "steps.h"

#include <linux/errno.h>
#include <linux/fcntl.h>

/* A pid and this number together name one process. The process's name, field 2, may hold
 * anything, so the count begins behind its last ")". */
long nsd_started_at(long pid, int64_t *ret_ticks)
{
    char path[32] = "/proc/", buffer[1024], digits[16];
    size_t length = 6, n = 0;
    long fd, got, i;
    int field = 1;
    int64_t ticks = 0;

    for (long rest = pid; rest > 0 && n < sizeof(digits); rest /= 10)
        digits[n++] = (char)('0' + rest % 10);
    while (n > 0)
        path[length++] = digits[--n];
    for (const char *tail = "/stat"; *tail != '\0'; tail++)
        path[length++] = *tail;
    path[length] = '\0';

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
