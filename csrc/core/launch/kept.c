#include "kept.h"

#include "../../steps/sys.h"

#include <fcntl.h>
#include <sys/stat.h>

#define CHEAP_DESCRIPTORS 64

long nsd_keep_file(long fd, struct nsd_kept *ret_file)
{
    long low = fd, ret;
    struct stat found;

    *ret_file = (struct nsd_kept){.fd = -1};
    if (fd >= 0 && fd < 3) {
        low = sys3(__NR_fcntl, fd, F_DUPFD_CLOEXEC, 3);
        sys1(__NR_close, fd);
    }
    if (low < 0)
        return low;
    ret = low >= CHEAP_DESCRIPTORS ? -ERANGE : sys2(__NR_fstat, low, &found);
    if (ret < 0)
        sys1(__NR_close, low);
    else
        *ret_file =
            (struct nsd_kept){(int)low, found.st_dev, found.st_ino, found.st_mode};
    return ret;
}

bool nsd_is_still(const struct nsd_kept *file)
{
    struct stat found;

    return file->fd >= 0 && sys2(__NR_fstat, file->fd, &found) == 0 &&
           found.st_dev == file->device && found.st_ino == file->inode &&
           found.st_mode == file->mode;
}

long nsd_raw_write(long fd, const void *data, size_t size)
{
    const char *bytes = data;

    while (size > 0) {
        long written = sys3(__NR_write, fd, bytes, size);

        if (written < 0)
            return written;
        bytes += written;
        size -= (size_t)written;
    }
    return 0;
}

long nsd_raw_memfd(const char *name, unsigned int flags, unsigned int newer_flag)
{
    long fd = sys2(__NR_memfd_create, name, flags | newer_flag);

    if (fd == -EINVAL) /* before Linux 6.3 */
        fd = sys2(__NR_memfd_create, name, flags);
    return fd;
}

/* A file without a name, for where memfds are refused. */
long nsd_raw_tmpfile(void)
{
    static const char *const places[] = {"/dev/shm", "/tmp", "/var/tmp", "/run"};
    long fd = -ENOENT;

    for (size_t i = 0; fd < 0 && i < sizeof(places) / sizeof(places[0]); i++)
        fd = sys4(__NR_openat, AT_FDCWD, places[i], O_TMPFILE | O_RDWR | O_CLOEXEC,
                  0700);
    return fd;
}
