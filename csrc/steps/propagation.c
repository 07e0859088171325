/* propagation.c - how mount events travel: what is mounted here may show on the machine, and
 * stay there when the container has ended. */
#include "steps.h"

#include <linux/fcntl.h>
#include <linux/mount.h>

long nsd_propagation(struct nsd_launch *launch, const struct nsd_step *step)
{
    return sys5(__NR_mount, 0, nsd_text(launch, step, 0), 0, step->number[0], 0);
}

/* -EINVAL: this is not the root of a mount. */
static long make_slave(long fd)
{
    struct mount_attr slave = {.propagation = MS_SLAVE};
    char path[NSD_FD_PATH];
    long ret = sys5(__NR_mount_setattr, fd, "", AT_EMPTY_PATH, &slave, sizeof(slave));

    if (nsd_is_missing(ret))
        ret = sys5(__NR_mount, 0, nsd_path_of(fd, path), 0, MS_SLAVE, 0);
    return ret;
}

/* Up to the root of the mount: renaming leads nobody out of that. */
long nsd_keep_inside(long fd)
{
    long at = fd;
    long ret = make_slave(fd);

    while (ret == -EINVAL) {
        long above = sys4(__NR_openat, at, "..", O_PATH | O_DIRECTORY | O_CLOEXEC, 0);

        if (above == -ENOTDIR && at == fd)
            return 0; /* a file lies in its folder's mount, or is the root of one */
        if (above >= 0 && nsd_same_file(above, at) == 0)
            above =
                close_after(above, -EINVAL); /* our root lies in a mount of others */
        if (at != fd)
            sys1(__NR_close, at);
        if (above < 0)
            return above;
        at = above;
        ret = make_slave(at);
    }
    return at == fd ? ret : close_after(at, ret);
}
