/* steps.h - the steps of a plan, for whoever performs them: the launcher, or the core's vfork
 * child.
 *
 * The law here: no libc, no malloc, no errno, no words. Raw system calls on memory that was
 * laid out before, so that it works in a program without a C library, and in a child that
 * borrows the memory of a threaded Python.
 */
#ifndef NSD_STEPS_H
#define NSD_STEPS_H

#include "../plan.h"
#include "sys.h"

#include <linux/errno.h>
#include <stdbool.h>

#define NSD_HELD 448

/* A mount that a step made: held.c. */
struct nsd_held {
    const char *root, *target;
    int fd;
};

/* One launch, as its processes see it. */
struct nsd_launch {
    struct nsd_trace *trace;    /* shared with the core; NULL in the core's own child */
    struct nsd_result *results; /* one for each step */
    struct nsd_plan_head *head; /* NULL once it has been unmapped */
    size_t plan_size;
    size_t trace_size;
    const struct nsd_step *steps;
    char **vectors; /* argv, envp, paths: turned from offsets into pointers */
    const char *text;
    uint32_t text_size;
    char *name;      /* argv[0], what ps shows */
    uintptr_t image; /* where the launcher's program begins; 0: that is not known */
    enum nsd_process self;
    int slot[NSD_SLOTS];
    int held_count;
    int parent; /* pidfd of the Python process, -1 without a watchdog */
    int helper; /* socket of the helper that writes id maps, or -1 */
    long helper_pid;
    int ends_group;  /* the watchdog ends the command's process group too */
    int highest;     /* of the descriptors that were handed over */
    long parent_pid; /* of the Python process, if we are to end with it; else 0 */
    int32_t command; /* pid of the second process */
    uint64_t
        pending; /* what init was sent before the command was born; bit N-1 for N */
    const uint64_t *ignored; /* as in struct nsd_trace; NULL: not known */
    bool defaults;           /* the signals have been set to their defaults */
    bool hides;     /* nobody may read us through /proc until the command is executed */
    bool ready;     /* for the command: nothing but execve is left to do */
    bool in_thread; /* who goes on is a thread of the first process */
    long
        absent; /* so many of the paths lead nowhere, and the next does: -1 before the look */
    struct nsd_held held[NSD_HELD]; /* last: what comes before it fits in one page */
};

/* Finds the steps of a plan and their texts as it lies in memory, before anybody has laid it out;
 * head and its size are the caller's to set. false: what lies there is no plan. */
bool nsd_find_steps(struct nsd_launch *launch);

/* And turns what is in it into what is needed here; so with self. */
bool nsd_lay_out(struct nsd_launch *launch);

/* check.c. Does all that a step's numbers and texts lead to exist? 0 or -EINVAL. */
long nsd_check_step(const struct nsd_step *step, const char *text, uint32_t text_size);

/* Does a step ask for what lies in this slot? */
bool nsd_needs_slot(const struct nsd_step *step, int slot);

const char *nsd_text(const struct nsd_launch *launch, const struct nsd_step *step,
                     int n);

/* Asks the kernel for one step; a value, or -errno. */
long nsd_perform(struct nsd_launch *launch, const struct nsd_step *step);

/* Performs step number index and notes its result; false: the plan ends here. */
bool nsd_perform_noted(struct nsd_launch *launch, uint32_t index);

/* Which signals this process ignores, as in struct nsd_trace. */
uint64_t nsd_ignored_signals(void);

/* An ignored signal stays ignored across execve, and CPython ignores some; a command expects
 * the defaults. Handlers are reset by execve itself. */
void nsd_default_signals(struct nsd_launch *launch);

/* Makes the process what a command expects, and closes whatever the command is not to have: at an
 * execve of a path somebody may look at it, and a path may lead through a descriptor that is
 * still open. Before the first system call filter, which may refuse all of that. 0 or -errno. */
long nsd_get_ready(struct nsd_launch *launch);

/* Executes the command, which is the last step; returns only on failure, which is noted. */
void nsd_execute(struct nsd_launch *launch);

/* Opens a root by its path, and compares it with the slot that was opened first, if any. */
long nsd_open_root_again(const struct nsd_launch *launch, const char *path, long slot);

/* Are two descriptors the same file? 0, or -ESTALE: a path that is opened a second time may
 * have been swapped for another in between. */
long nsd_same_file(long a, long b);

/* A result, and a descriptor that is no longer needed. */
static inline long close_after(long fd, long result)
{
    if (fd >= 0)
        sys1(__NR_close, fd);
    return result;
}

/* Is there no such call, or does a seccomp filter refuse it? Old ones say EPERM. */
static inline bool nsd_is_missing(long ret)
{
    return ret == -ENOSYS || ret == -EPERM;
}

/* The operations, each beside its kind; their numbers and texts have names in the table. */
#define ROW(name, word, function, way, numbers, texts)                                 \
    long function(struct nsd_launch *launch, const struct nsd_step *step);
#include "../operations.def"

/* process.c. A pidfd can be read from when its process has ended: 0, or -ESRCH. */
long nsd_check_alive(long pidfd);

/* With other ids, or in another user namespace, the kernel sets the flag that hides us anew, to the
 * sysctl fs.suid_dumpable; where that is 1, we could be read. Returns ret, unless that is 0. */
long nsd_hide_again(struct nsd_launch *launch, long ret);

/* propagation.c. What will be mounted on this file or directory shows nowhere else. For a file, the folder
 * that it lies in comes first. */
long nsd_keep_inside(long fd);

/* root.c. Mounts on an open directory, and stays where we are. source: NULL is that directory. */
long nsd_mount_on(long target, const char *source, const char *type, long flags,
                  const char *options);

/* held.c: closes all that is held. */
void nsd_let_go(struct nsd_launch *launch);

/* flags.c: what is allowed on a mount. */
#define NSD_FD_PATH 32

/* The path of a descriptor, for a call that takes none. */
const char *nsd_path_of(long fd, char path[NSD_FD_PATH]);

/* mount_setattr(2) on the mount of a descriptor; MOUNT_ATTR_* are MS_* for those we have. */
long nsd_set_attributes(long tree, long flags, long cleared, bool recursive);

/* The same with the old mount(2): adds flags to the mounts that a descriptor leads to. */
long nsd_remount(long top, long flags, enum nsd_readonly which);

/* The number that mountinfo gives to the mount of a descriptor. */
long nsd_mount_of(long fd, int64_t *ret_id);

/* What a mount over this one may not allow either: MS_NOSUID, MS_NODEV, MS_NOEXEC. */
long nsd_limits_of(long fd);

/* handover.c. One or two descriptors to a socket. */
long nsd_send_descriptors(long socket, int count, long first, long second);

/* closing.c. Closes all above 2 but those kept, whatever their numbers; before anything is joined
 * or mounted, since it reads /proc. 0 or -errno: there may be others left. */
long nsd_close_all_but(const int *kept, int count);

/* users.c. Lets the helper that writes id maps go, if there is one, and waits until it has. */
void nsd_dismiss_helper(struct nsd_launch *launch);

/* namespaces.c. Writes to a file of a real /proc. */
long nsd_write_proc(const char *path, const char *content);

/* pin.c. What the first process does when a launch fails after it has pinned. */
void nsd_unpin_all(const struct nsd_launch *launch);

/* Pins an open namespace on a file; proc is where descriptors have names: "/proc/", or "" in
 * that directory. 0, 1 if the file was made for it, or -errno. */
long nsd_pin_file(long namespace, const char *path, const char *proc);
/* Takes away the pin of the namespace with this inode (0: of any), and if asked its file, where
 * that is empty and of mode 0. -EINVAL: there is none; -ESRCH: proc is not ours. */
long nsd_unpin_file(const char *path, uint64_t inode, bool removes, const char *proc);

/* birth.c. Field 22 of /proc/PID/stat: when a process started, in clock ticks since boot. */
long nsd_started_at(long pid, int64_t *ret_ticks);

#endif
