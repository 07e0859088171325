#include "kept.h"

#include "../steps/sys.h"

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
        *ret_file = (struct nsd_kept){(int)low, found.st_dev, found.st_ino};
    return ret;
}

bool nsd_is_still(const struct nsd_kept *file)
{
    struct stat found;

    return file->fd >= 0 && sys2(__NR_fstat, file->fd, &found) == 0 &&
           found.st_dev == file->device && found.st_ino == file->inode;
}
