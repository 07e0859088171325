/* request.h - chroot_run, spawn and enter as ordered steps.
 *
 * A request says what is wanted; a recipe appends the steps to a builder in the one order
 * that works. This is the only place where order lives. The command itself (argv, envp,
 * paths) is in the builder already; the recipe appends the step that executes it.
 */
#ifndef NSD_PRIMITIVES_H
#define NSD_PRIMITIVES_H

#include "builder.h"
#include "namespaces.h"
#include "users.h"

#include <stdbool.h>

/* Namespaces to join at one target: a process, or a descriptor of a namespace file. */
struct nsd_join {
    struct nsd_process_id process; /* .pid 0: use file */
    int file;                      /* handed over by the caller, who keeps it open */
    int flags;                     /* CLONE_NEW*, those that are not ours already */
};

#define NSD_MAX_JOINS 8
#define NSD_MAX_CGROUPS 32 /* a hierarchy each; version 1 has 14 controllers */
#define NSD_MAX_LIMITS 16  /* the kernel has that many */
#define NSD_MAX_RULES 128

/* What the command may not do; all zero: nothing is taken from it. */
struct nsd_limit {
    int resource;       /* RLIMIT_* */
    int64_t soft, hard; /* -1: no limit */
};

struct nsd_rule {
    const char *path; /* inside */
    bool writable;    /* not only readable */
};

struct nsd_power {
    bool no_new_privs;
    bool sets_capabilities;
    bool sets_securebits;
    bool has_landlock;
    int64_t kept;       /* a bit for each capability; -1: those that there are */
    int64_t ambient;    /* and of these */
    int64_t securebits; /* SECBIT_* */
    struct nsd_limit limits[NSD_MAX_LIMITS];
    const void *filter;                   /* struct sock_filter */
    struct nsd_rule rules[NSD_MAX_RULES]; /* of Landlock */
    uint32_t filter_count;
    int limit_count;
    int rule_count;
};

/* A new namespace to pin at a path. */
struct nsd_pin_wish {
    int flag; /* CLONE_NEW*, one */
    const char *path;
};

/* What mounts= asks for; csrc/core/files.h turns it into steps. */
struct nsd_file;

struct nsd_request {
    int unshare; /* CLONE_NEW* of the new namespaces */
    int join_count;
    struct nsd_join joins[NSD_MAX_JOINS];
    struct nsd_users users;        /* of the new user namespace */
    struct nsd_process_id root_of; /* take this process's root; .pid 0: no */
    bool privileged;               /* CAP_SYS_ADMIN: decides the order of joins */
    bool no_user_clone; /* we may not write the id maps of a child with our memory */
    bool fork;          /* before the command is executed, after unsharing */
    bool mount_proc;
    bool init;
    bool watch;           /* the command ends with the Python process */
    bool die_with_parent; /* the kernel does, with the calling thread */
    bool by_chroot;       /* to the root, and not by pivot_root */
    const char *root;     /* NULL: stay; absolute */
    int64_t propagation;  /* MS_* for the whole tree; -1: leave it unchanged */
    const char *hostname;
    const char *cwd;
    bool new_session;
    int process_group; /* -1: leave it; 0: one of its own */
    int terminal;      /* which of 0, 1, 2 get one of its own, a bit for each */
    int64_t uid, gid;  /* -1: keep */
    const uint32_t *groups;
    int group_count;     /* -1: keep */
    bool groups_implied; /* not asked for: where the namespace denies it, go on */
    int umask;           /* -1: keep */
    int file_count;
    const struct nsd_file *files; /* to mount, in this order */
    struct nsd_power power;
    struct nsd_pin_wish pins[NSD_NAMESPACE_COUNT];
    const char *cgroups[NSD_MAX_CGROUPS]; /* the cgroup.procs of those to move to */
    int pin_count;
    int cgroup_count;
    const char *time_offsets; /* as /proc/PID/timens_offsets takes them; NULL: none */
    const char *domainname;
};

void nsd_request_init(struct nsd_request *request);

/* Does it join a namespace of one of these types? */
bool nsd_joins(const struct nsd_request *request, int flags);

/* New namespaces, joined ones, or both. */
void nsd_recipe_spawn(struct nsd_builder *builder, const struct nsd_request *request);

/* Another root, nothing else: one process, no fork. */
void nsd_recipe_chroot_run(struct nsd_builder *builder,
                           const struct nsd_request *request);

/* Visits: a mount namespace is joined, one thing is done there, and nothing is executed. Takes
 * away a pin, the request's only one; or hands the root of the namespace over, by the socket that
 * the caller puts in NSD_SOCKET_SLOT. */
void nsd_recipe_release(struct nsd_builder *builder, const struct nsd_request *request);
void nsd_recipe_root(struct nsd_builder *builder, const struct nsd_request *request);

/* Also for plans built by hand: */
void nsd_add_unshare(struct nsd_builder *builder, int flags);
void nsd_add_pin(struct nsd_builder *builder, int flag, const char *path, bool here);
void nsd_add_seccomp(struct nsd_builder *builder, const void *filter, uint32_t count);
void nsd_add_exec(struct nsd_builder *builder);

#endif
