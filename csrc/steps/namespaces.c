/* namespaces.c - new ones, joined ones, and what is set in them. */
#include "constants.h"
#include "steps.h"
#include "text.h"

#include <asm/statfs.h>
#include <linux/errno.h>
#include <linux/fcntl.h>
#include <linux/magic.h>
#include <linux/sockios.h>

long nsd_unshare(struct nsd_launch *launch, const struct nsd_step *step)
{
    (void)launch;
    return sys1(__NR_unshare, step->number[0]);
}

long nsd_join(struct nsd_launch *launch, const struct nsd_step *step)
{
    return nsd_hide_again(
        launch, sys2(__NR_setns, launch->slot[step->number[0]], step->number[1]));
}

/* Writes to a file of the kernel's, if it is one: another may be mounted there, and after a join
 * anything may, also a FIFO, which would keep us waiting for a reader. */
static long write_file(const char *path, const char *content, long type, long or_type)
{
    struct statfs filesystem;
    long fd = sys4(__NR_openat, AT_FDCWD, path,
                   O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0);
    long ret;

    if (fd < 0)
        return fd == -ENXIO ? -ENOTDIR : fd;
    ret = sys2(__NR_fstatfs, fd, &filesystem);
    if (ret == 0 && filesystem.f_type != type && filesystem.f_type != or_type)
        ret = -ENOTDIR;
    if (ret == 0)
        ret = sys3(__NR_write, fd, content, nsd_length(content));
    return close_after(fd, ret < 0 ? ret : 0);
}

long nsd_write_proc(const char *path, const char *content)
{
    return write_file(path, content, PROC_SUPER_MAGIC, PROC_SUPER_MAGIC);
}

long nsd_write(struct nsd_launch *launch, const struct nsd_step *step)
{
    return nsd_write_proc(nsd_text(launch, step, 0), nsd_text(launch, step, 1));
}

/* path: the cgroup.procs of a cgroup, where "0" is who writes */
long nsd_join_cgroup(struct nsd_launch *launch, const struct nsd_step *step)
{
    return write_file(nsd_text(launch, step, 0), "0", CGROUP_SUPER_MAGIC,
                      CGROUP2_SUPER_MAGIC);
}

long nsd_loopback_up(struct nsd_launch *launch, const struct nsd_step *step)
{
    struct {
        char name[16];
        int16_t flags;
        char rest[22];
    } request = {.name = "lo", .flags = IFF_UP | IFF_RUNNING};
    long fd = sys3(__NR_socket, AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    (void)launch;
    (void)step;
    return fd < 0 ? fd : close_after(fd, sys3(__NR_ioctl, fd, SIOCSIFFLAGS, &request));
}

static long set_name(const struct nsd_launch *launch, const struct nsd_step *step,
                     long call)
{
    const char *name = nsd_text(launch, step, 0);

    return sys2(call, name, nsd_length(name));
}

long nsd_sethostname(struct nsd_launch *launch, const struct nsd_step *step)
{
    return set_name(launch, step, __NR_sethostname);
}

long nsd_setdomainname(struct nsd_launch *launch, const struct nsd_step *step)
{
    return set_name(launch, step, __NR_setdomainname);
}
