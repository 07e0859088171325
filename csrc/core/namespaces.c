#include "namespaces.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/nsfs.h>
#include <linux/sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

const struct nsd_namespace nsd_namespaces[NSD_NAMESPACE_COUNT] = {
    [NSD_MOUNT_NS] = {"mount", "mnt", CLONE_NEWNS}, /* NEWNS: it was the first */
    [NSD_UTS_NS] = {"uts", "uts", CLONE_NEWUTS},
    [NSD_IPC_NS] = {"ipc", "ipc", CLONE_NEWIPC},
    [NSD_PID_NS] = {"pid", "pid", CLONE_NEWPID},
    [NSD_NET_NS] = {"net", "net", CLONE_NEWNET},
    [NSD_USER_NS] = {"user", "user", CLONE_NEWUSER},
    [NSD_CGROUP_NS] = {"cgroup", "cgroup", CLONE_NEWCGROUP},
    [NSD_TIME_NS] = {"time", "time", CLONE_NEWTIME},
};

int nsd_identity_of(pid_t pid, enum nsd_namespace_kind kind,
                    struct nsd_identity *ret_identity)
{
    char path[64];
    struct stat found;

    if (pid == 0)
        snprintf(path, sizeof(path), "/proc/thread-self/ns/%s",
                 nsd_namespaces[kind].file);
    else
        snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)pid,
                 nsd_namespaces[kind].file);
    if (stat(path, &found) < 0) {
        int64_t started;

        if (errno == ENOENT && pid != 0 && nsd_process_started(pid, &started) < 0)
            return -ESRCH;
        return -errno;
    }
    ret_identity->device = found.st_dev;
    ret_identity->inode = found.st_ino;
    return 0;
}

int nsd_kind_of_file(int fd)
{
    int flag = ioctl(fd, NS_GET_NSTYPE);

    for (int i = 0; flag >= 0 && i < NSD_NAMESPACE_COUNT; i++)
        if (nsd_namespaces[i].flag == flag)
            return i;
    return -EINVAL;
}

int nsd_process_started(pid_t pid, int64_t *ret_started)
{
    char path[32], buffer[1024];
    const char *field;
    ssize_t length;
    int fd;

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? -ESRCH : -errno;
    length = read(fd, buffer, sizeof(buffer) - 1);
    close(fd);
    if (length <= 0)
        return -ESRCH;
    buffer[length] = '\0';
    /* The name, field 2, may hold spaces and brackets; nothing behind its last one does. */
    field = strrchr(buffer, ')');
    if (field == NULL || field[1] == '\0' || field[2] == 'Z' || field[2] == 'X')
        return -ESRCH;
    for (int i = 2; i < 22; i++) {
        field = strchr(field + 1, ' ');
        if (field == NULL)
            return -ESRCH;
    }
    *ret_started = strtoll(field, NULL, 10);
    return 0;
}

/* Has each process an inode of its own (Linux 6.9)? What one pidfd says goes for all. */
static bool has_pidfs(int pidfd)
{
    static int known; /* 0: not asked yet, 1: yes, -1: no */
    int answer = __atomic_load_n(&known, __ATOMIC_RELAXED);

    if (answer == 0) {
        struct statfs filesystem;

        if (fstatfs(pidfd, &filesystem) < 0)
            return false;
        answer = filesystem.f_type == 0x50494446 /* PID_FS_MAGIC */ ? 1 : -1;
        __atomic_store_n(&known, answer, __ATOMIC_RELAXED);
    }
    return answer > 0;
}

int nsd_process_birth(pid_t pid, int64_t *ret_birth)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    struct stat found = {0};
    int ret = fd < 0 ? -errno : 0;

    if (ret == -ESRCH)
        return ret;
    if (ret == 0 && (!has_pidfs(fd) || fstat(fd, &found) < 0))
        ret = -ENOSYS;
    if (fd >= 0)
        close(fd);
    if (ret < 0)
        return nsd_process_started(pid, ret_birth);
    *ret_birth = -(int64_t)found.st_ino;
    return 0;
}

#define LINK_SIZE 64

/* What a link like "net:[4026531840]" says, with the inode of the namespace. Reading it is all it
 * takes; a stat would have the kernel make an inode for the look. */
static int read_name(int directory, const char *file, char name[LINK_SIZE])
{
    ssize_t length = readlinkat(directory, file, name, LINK_SIZE - 1);

    if (length < 0)
        return -errno;
    name[length] = '\0';
    return 0;
}

/* What this thread's namespaces were called when it last looked. A look takes three microseconds,
 * so it is taken only where the other's has the same name: nothing is left out that is not ours
 * at this moment. Should somebody have moved the thread into a namespace of the other since
 * then, that one is joined again, which changes nothing; but not a user namespace, for which
 * the kernel says EINVAL. */
static _Thread_local char remembered[NSD_NAMESPACE_COUNT][LINK_SIZE];

/* 1: another namespace than ours; 0: ours, or none in this kernel. */
static int is_foreign(int theirs, int ours, enum nsd_namespace_kind kind)
{
    char name[LINK_SIZE], *own = remembered[kind];
    int ret = read_name(theirs, nsd_namespaces[kind].file, name);

    if (ret == 0 && kind != NSD_USER_NS && own[0] != '\0' && strcmp(name, own) != 0)
        return 1;
    own[0] = '\0';
    if (ret == 0 || ret == -ENOENT) {
        int known = read_name(ours, nsd_namespaces[kind].file, own);

        if (known < 0)
            return known == -ENOENT ? 0 : known;
    }
    return ret < 0 ? ret : strcmp(name, own) != 0;
}

int nsd_foreign_namespaces(pid_t pid, int wanted, int *ret_flags)
{
    char path[32];
    int theirs, ours, ret = 0, flags = 0;

    snprintf(path, sizeof(path), "/proc/%d/ns", (int)pid);
    theirs = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (theirs < 0)
        return errno == ENOENT ? -ESRCH : -errno;
    ours = open("/proc/thread-self/ns", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (ours < 0)
        ret = -errno;
    for (int i = 0; ret >= 0 && i < NSD_NAMESPACE_COUNT; i++) {
        if ((wanted & nsd_namespaces[i].flag) == 0)
            continue;
        ret = is_foreign(theirs, ours, (enum nsd_namespace_kind)i);
        if (ret > 0)
            flags |= nsd_namespaces[i].flag;
    }
    if (ours >= 0)
        close(ours);
    close(theirs);
    if (ret < 0)
        return ret == -ENOENT ? -ESRCH : ret;
    *ret_flags = flags;
    return 0;
}

int nsd_has_capability(int capability)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];

    if (syscall(SYS_capget, &header, data) < 0)
        return -errno;
    if ((data[capability / 32].effective >> (capability % 32) & 1) == 0)
        return 0;
    return geteuid() == 0 ||
           prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, capability, 0, 0) == 1;
}
