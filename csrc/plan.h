/* plan.h - the vocabulary that both sides of a launch share. Data only. Read this first.
 *
 * Python (through csrc/core) writes a plan: an ordered list of steps. The launcher
 * (csrc/launcher) performs it, notes each result, and executes the command. Both live in
 * one anonymous file, in two parts:
 *
 *     | struct nsd_trace, results[]  | struct nsd_plan_head, steps[], vectors[], text |
 *     | written by the launcher      | written by the core, read once                 |
 *
 * The core maps only the first part, and believes none of it without a check: a container
 * may write to it where it can reach it.
 *
 * To add a system call: an operation here, a function in launcher/steps.c, its words in
 * nsdemo/_explain.py. The compiler and a test name what was forgotten.
 */
#ifndef NSD_PLAN_H
#define NSD_PLAN_H

#include <stdint.h>

#define NSD_MAGIC 0x6f6d6564736e0002u /* "nsdemo", version of this layout */
#define NSD_PAGE 4096u
#define NSD_MAX_STEPS 1000u
#define NSD_SLOTS 16

/* X(NAME, name as Python shows it): the numbers and texts of each are described beside
 * its function in launcher/steps.c. */
#define NSD_OPERATIONS(X)                                                              \
    X(OPEN_PROCESS, "open_process")                                                    \
    X(OPEN_ROOT, "open_root")                                                          \
    X(WATCH, "watch")                                                                  \
    X(JOIN, "join")                                                                    \
    X(UNSHARE, "unshare")                                                              \
    X(WRITE_PROC, "write")                                                             \
    X(HIDE, "hide")                                                                    \
    X(FORK, "fork")                                                                    \
    X(BECOME_ROOT, "become_root")                                                      \
    X(LOOPBACK_UP, "loopback_up")                                                      \
    X(SETHOSTNAME, "sethostname")                                                      \
    X(PROPAGATION, "propagation")                                                      \
    X(BIND, "bind")                                                                    \
    X(MOUNT, "mount")                                                                  \
    X(PIVOT_ROOT, "pivot_root")                                                        \
    X(CHROOT, "chroot")                                                                \
    X(INIT, "init")                                                                    \
    X(CHDIR, "chdir")                                                                  \
    X(SETSID, "setsid")                                                                \
    X(SETPGID, "setpgid")                                                              \
    X(UMASK, "umask")                                                                  \
    X(DROP_INHERITABLE, "drop_inheritable")                                            \
    X(SETGROUPS, "setgroups")                                                          \
    X(SETGID, "setgid")                                                                \
    X(SETUID, "setuid")                                                                \
    X(DIE_WITH_PARENT, "die_with_parent")                                              \
    X(EXEC, "exec")

enum nsd_operation {
#define X(name, word) NSD_##name,
    NSD_OPERATIONS(X)
#undef X
    NSD_OPERATION_COUNT
};

enum nsd_step_flag {
    NSD_TOLERATED = 1, /* the kernel's refusal is recorded and the plan goes on */
};

struct nsd_step {
    uint32_t operation;
    uint32_t flags;
    int64_t number[3];
    uint32_t text[4]; /* offsets into the plan's text; 0 = absent */
};

/* Who performed a step: the launcher's first process, the one that it cloned to become the
 * command (or init), or init's child. */
enum nsd_process {
    NSD_NOBODY,
    NSD_FIRST,
    NSD_SECOND,
    NSD_THIRD,
};

struct nsd_result {
    uint32_t process; /* enum nsd_process; NSD_NOBODY: never reached */
    int32_t error;    /* 0, or the errno */
    int64_t value;
    uint64_t
        start; /* of the CPU's counter: asking the kernel for the time would show in
                       strace, and is shifted inside a time namespace */
    uint64_t end;
};

/* The life of a launch, in nsd_trace.state. The word is a robust futex that belongs to the
 * launcher's first process: the kernel marks it FUTEX_OWNER_DIED and wakes the waiter when
 * that process is killed, exits, or executes the command. */
#define NSD_LAUNCHED 0x00000000u

struct nsd_trace {
    uint32_t state;
    int32_t command; /* pid of the second process, written by the kernel (clone) */
    int32_t command_inner; /* pid of the third process as init sees it */
    int32_t has_status;    /* 1: status is valid */
    int32_t status;        /* the command's wait status, noted by init */
    uint32_t plan_offset;  /* where struct nsd_plan_head begins: whole pages */
    uint32_t failed;       /* 1: a process gave up before the command was executed */
    uint32_t reserved[9];
    struct nsd_result results[];
};

struct nsd_plan_head {
    uint64_t magic;
    uint32_t step_count;
    uint32_t argv_count; /* vectors[]: argv, envp, the paths to try, each NULL-ended */
    uint32_t envp_count;
    uint32_t path_count;
    int32_t
        parent; /* pid of the Python process that launches; a plan may outlive a fork */
    int32_t reserved;
    int32_t slot[NSD_SLOTS]; /* descriptors that the core hands over; -1 = free */
};

/* The text begins with one NUL, so that offset 0 can mean "absent". */
_Static_assert(sizeof(struct nsd_trace) == 64, "results begin on a cache line");
_Static_assert(sizeof(struct nsd_result) == 32, "two results in a cache line");
_Static_assert(sizeof(struct nsd_step) == 48, "steps are packed without holes");
_Static_assert(sizeof(struct nsd_plan_head) % 8 == 0, "steps follow aligned");

#endif
