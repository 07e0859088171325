#include "set_id.h"

#include "../steps/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

int nsd_is_set_id(int root, const char *cwd, const char *path)
{
    char joined[PATH_MAX];
    struct open_how how = {.flags = 010000000 | O_CLOEXEC, /* O_PATH */
                           .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
    struct stat file;
    long fd;
    int ret;

    if (path[0] != '/') {
        if (snprintf(joined, sizeof(joined), "%s/%s", cwd, path) >= (int)sizeof(joined))
            return 0; /* execve refuses it */
        path = joined;
    }
    fd = sys4(__NR_openat2, root, path, &how, sizeof(how));
    if (fd == -ENOENT || fd == -ENOTDIR)
        return (int)fd;
    /* Before Linux 5.6 there is no such call, and old seccomp filters refuse it. */
    if (fd < 0)
        return fd == -ENOSYS || fd == -EPERM;
    ret = fstat((int)fd, &file) == 0 && (file.st_mode & (S_ISUID | S_ISGID)) != 0;
    close((int)fd);
    return ret;
}
