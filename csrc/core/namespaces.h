/* namespaces.h - the eight namespaces: names, flags, identities, owners.
 *
 * Every function returns 0 or a negative errno, and sets its ret_ argument on success only.
 */
#ifndef NSD_NAMESPACES_H
#define NSD_NAMESPACES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum nsd_namespace_kind {
    NSD_MOUNT_NS,
    NSD_UTS_NS,
    NSD_IPC_NS,
    NSD_PID_NS,
    NSD_NET_NS,
    NSD_USER_NS,
    NSD_CGROUP_NS,
    NSD_TIME_NS,
    NSD_NAMESPACE_COUNT
};

struct nsd_namespace {
    const char *keyword; /* as in Python, and in unshare(1)'s flags */
    const char *file;    /* under /proc/PID/ns */
    int flag;            /* CLONE_NEW* */
};

extern const struct nsd_namespace nsd_namespaces[NSD_NAMESPACE_COUNT];

/* Two namespaces are the same when device and inode are. */
struct nsd_identity {
    uint64_t device;
    uint64_t inode;
};

/* A process that cannot be mistaken for a later one with its number. */
struct nsd_process_id {
    pid_t pid;
    int64_t birth; /* what nsd_process_birth says */
    int pidfd;     /* instead of birth: a descriptor the caller keeps open; else -1 */
};

/* pid 0: the calling thread. -ESRCH: no such process; -ENOENT: not in this kernel;
 * -EACCES: somebody else's. */
int nsd_identity_of(pid_t pid, enum nsd_namespace_kind kind,
                    struct nsd_identity *ret_identity);

/* Which kind of namespace a descriptor is (an index), or -EINVAL. */
int nsd_kind_of_file(int fd);

/* When a process started, in clock ticks since boot (field 22 of /proc/PID/stat); -ESRCH when
 * there is none, or only a zombie is left. */
int nsd_process_started(pid_t pid, int64_t *ret_started);

/* A number that, with its pid, names one process and no later one: the negative inode of its
 * pidfds (Linux 6.9 gives each process one of its own), which is quickly had; else when it
 * started. -ESRCH: there is none. */
int nsd_process_birth(pid_t pid, int64_t *ret_birth);

/* The CLONE_NEW* flags of those of wanted that differ between the process and the calling
 * thread. */
int nsd_foreign_namespaces(pid_t pid, int wanted, int *ret_flags);

/* Will the launcher hold a capability (CAP_*) that the caller has? Only root keeps what it
 * has across an exec, or who made it ambient. 0, 1, or a negative errno. */
int nsd_has_capability(int capability);

#endif
