/* plan.h - the vocabulary that all sides of a launch share. Data only. Read this first.
 *
 * Python (through csrc/core) writes a plan: an ordered list of steps (csrc/steps). Who
 * performs it notes each result, and executes the command in the end: the launcher
 * (csrc/launcher), or the core's vfork child in our own tree of files (core/launch/direct.c).
 * For the launcher, both live in one anonymous file, in two parts:
 *
 *     | struct nsd_trace, results[]  | struct nsd_plan_head, steps[], vectors[], text |
 *     | written by the launcher      | written by the core, read once                 |
 *
 * The core maps only the first part, and believes none of it without a check: a container
 * may write to it where it can reach it.
 *
 * To add a system call: a row in operations.def, its function in steps/, a row for its words
 * in nsdemo/_plan/operations.py. The compiler, or the import, names what was forgotten.
 */
#ifndef NSD_PLAN_H
#define NSD_PLAN_H

#include <stdint.h>

#define NSD_MAGIC 0x6f6d6564736e0005u /* "nsdemo", version of this layout */
#define NSD_PAGE 4096u
#define NSD_MAX_STEPS 1000u
#define NSD_SLOTS 72
#define NSD_UPPER_SLOT 64  /* the upper directory of the overlay over the root, */
#define NSD_SOCKET_SLOT 65 /* and where Python waits for it; the others lie before */
#define NSD_RULESET_SLOT 66
#define NSD_TERMINAL_SLOT 67 /* of a launch, not of its plan: core/launch/settle.h */
#define NSD_PROC_SLOT 68     /* the /proc of the caller */
#define NSD_LAYER_SLOT 69    /* what the last layer_at lies over, */
#define NSD_MEMORY_SLOT 70   /* and the file system in memory of all of them */

enum nsd_operation {
#define ROW(name, word, function, way, numbers, texts) NSD_##name,
#include "operations.def"
    NSD_OPERATION_COUNT
};

/* TOLERATES: this refusal of the kernel is recorded, and the plan goes on; no other one.
 * STAYS_INSIDE, of steps that mount: the mount that the target lies in is shared with the
 * machine, and sends no events there from now on. */
enum nsd_step_flag {
    NSD_TOLERATES_EPERM = 1,
    NSD_TOLERATES_EINVAL = 2,
    NSD_STAYS_INSIDE = 4,
};

#define NSD_STEP_FLAGS 7u

/* The most steps that come before the launcher: clone, and its three id maps. */
#define NSD_EARLY_STEPS 4u

/* number[2] of overlay_at: where its directories were opened, and how many are lower ones. */
#define NSD_OVERLAY_FIRST(number) ((number)&0xff)
#define NSD_OVERLAY_LOWER(number) ((number) >> 8 & 0xff)
#define NSD_OVERLAY_UPPER                                                              \
    0x10000 /* upper and work follow them; else those are in memory */
#define NSD_OVERLAY_IS_ROOT 0x20000 /* its upper directory is kept, and the memory */

/* number[0] of layer_at: what becomes of a file or directory of the root below an overlay. */
enum nsd_layer {
    NSD_LAYER,          /* an overlay; read-only, where it can have none */
    NSD_LAYER_SKELETON, /* a new directory, for what cannot be covered as a whole */
    NSD_LAYER_PLACE,    /* an empty one, for what will be mounted there */
    NSD_LAYER_FILE, /* as a layer, of what is probably no directory: not handed over */
};

/* number[0] of chdir without a directory: what if where we are has no path any more? */
enum nsd_where {
    NSD_UNLESS_DELETED, /* then to "/" */
    NSD_WHERE_WE_ARE,   /* an error: a relative path follows */
    NSD_IF_IT_CAN_BE,   /* to "/", whatever is wrong: nobody asked for it */
};

/* number[0] of readonly: which mounts. */
enum nsd_readonly {
    NSD_READONLY_TOP,   /* the root's own */
    NSD_READONLY_BELOW, /* those below it */
    NSD_READONLY_ALL,
};

/* What the guard ends with the Python process (numbers[1] of a clone step). */
enum nsd_end {
    NSD_ENDS_NOTHING,
    NSD_ENDS_COMMAND, /* and so everything in its pid namespace, if it has one of its own */
    NSD_ENDS_GROUP, /* and the process group that it leads */
};

struct nsd_step {
    uint32_t operation;
    uint32_t flags;
    int64_t number[3];
    uint32_t text[4]; /* offsets into the plan's text; 0 = absent */
};

/* Who performed a step: the launcher's first process (or the vfork child), the one that it
 * cloned to become the command (or init), init's child; or the Python process itself. */
enum nsd_process {
    NSD_NOBODY,
    NSD_FIRST,
    NSD_SECOND,
    NSD_THIRD,
    NSD_CALLER,
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

/* In nsd_trace.ignored: somebody has looked. It is the bit of SIGKILL, which nobody ignores. */
#define NSD_IS_KNOWN 0x100u

struct nsd_trace {
    uint32_t state;
    int32_t command; /* pid of the second process, written by the kernel (clone) */
    int32_t command_inner; /* pid of the third process as init sees it */
    int32_t has_status;    /* 1: status is valid */
    int32_t status;        /* the command's wait status, noted by init */
    uint32_t plan_offset;  /* where struct nsd_plan_head begins: whole pages */
    uint32_t failed;       /* 1: a process gave up before the command was executed */
    uint32_t guard; /* a robust futex, too: tid of the guard, marked when it is gone */
    uint64_t ignored; /* signals that Python ignores, bit N-1 for N, and NSD_IS_KNOWN */
    uint32_t asked;   /* how many pins the command's process has asked for */
    uint32_t answered;  /* a futex: how many the core has tried */
    int32_t answer;     /* and what came of the last: 1 with a new file, or -errno */
    uint32_t is_set_id; /* 1: the command is a program that the kernel lets go of */
    uint64_t magic;     /* NSD_MAGIC */
    struct nsd_result results[];
};

/* What the launcher ends with if it cannot map the plan: this and the errno. */
#define NSD_NOT_TAKEN 128

/* What newuidmap said, a NUL-ended text behind the results: of a plan with map_ids alone. */
#define NSD_SAID 400u

/* A command that the guard ends when the Python process ends (core/launch/guard.h). Of the file of
 * the guard's plan, page 0 is the trace and these follow. */
struct nsd_ward {
    int32_t
        pid; /* 0: free, -1: taken; written by the kernel as it clones the command */
    uint32_t group; /* its process group ends too */
    uint64_t
        since; /* clock ticks since boot when it was surely born; 0: not known yet */
};

#define NSD_WARDS_PER_PAGE (NSD_PAGE / 16u)
#define NSD_WARD_PAGES 16u
#define NSD_WARD_COUNT (NSD_WARD_PAGES * NSD_WARDS_PER_PAGE)

struct nsd_plan_head {
    uint32_t step_count;
    uint32_t argv_count; /* vectors[]: argv, envp, the paths to try, each NULL-ended */
    uint32_t envp_count;
    uint32_t path_count;
    int32_t
        parent; /* pid of the Python process that launches; a plan may outlive a fork */
    int32_t highest;         /* of all descriptors that are handed over */
    int32_t slot[NSD_SLOTS]; /* descriptors that the core hands over; -1 = free */
};

/* The text begins with one NUL, so that offset 0 can mean "absent". */
_Static_assert(sizeof(struct nsd_trace) == 64, "results begin on a cache line");
_Static_assert(sizeof(struct nsd_result) == 32, "two results in a cache line");
_Static_assert(sizeof(struct nsd_step) == 48, "steps are packed without holes");
_Static_assert(sizeof(struct nsd_ward) == 16, "wards fill their pages");
_Static_assert(sizeof(struct nsd_plan_head) % 8 == 0, "steps follow aligned");

#endif
