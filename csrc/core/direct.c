/* direct.c - the short way: the vfork child performs the plan itself and becomes the command.
 *
 * It saves the launcher: a program to load, a file for plan and trace, a process. It may be
 * gone only where the child's memory, which is Python's, is shown to nobody and changed for
 * nobody:
 *   - new namespaces hold nobody else before the command is executed; a joined one may hold a
 *     hostile process that reads /proc/PID/mem, so a joiner is a launcher;
 *   - who stays (init, a watchdog) must not keep Python's memory;
 *   - a change of ids, or of the dumpable flag, would change Python's flag with it;
 *   - what is mounted in the root, or over ours, is left to the launcher;
 *   - unshare() of user and time namespaces is refused to a process that shares its memory;
 *     clone() is given the first;
 *   - /proc/self/exe is Python's program until execve. steps/command.c refuses a command that
 *     leads there. Who rewrites the root at that very moment might still slip one in, so this
 *     way is gone only where nothing is to be gained by it: the command has all the power of
 *     the caller anyway, or, confined by a user namespace, may not write to that program.
 * The steps themselves are those of the launcher, without libc: errno and locks are Python's.
 */
#include "vfork.h"

#include "../steps/steps.h"
#include "direct.h"

#include <linux/openat2.h>
#include <sys/stat.h>
#include <unistd.h>

bool nsd_can_check_commands(void)
{
    static int known; /* 0: not asked yet, 1: yes, -1: no */
    struct open_how how = {.flags = 010000000 | 02000000, /* O_PATH | O_CLOEXEC */
                           .resolve = RESOLVE_NO_MAGICLINKS};
    int answer = __atomic_load_n(&known, __ATOMIC_RELAXED);

    if (answer == 0) {
        long fd = sys4(__NR_openat2, -100 /* AT_FDCWD */, "/", &how, sizeof(how));

        answer = fd < 0 ? -1 : 1; /* Linux 5.6; refused by old seccomp filters */
        if (fd >= 0)
            sys1(__NR_close, fd);
        __atomic_store_n(&known, answer, __ATOMIC_RELAXED);
    }
    return answer > 0;
}

bool nsd_may_write_python(void)
{
    struct stat program;

    return stat("/proc/self/exe", &program) < 0 || program.st_uid == geteuid() ||
           (program.st_mode & (S_IWGRP | S_IWOTH)) != 0;
}

bool nsd_is_direct(const struct nsd_builder *plan)
{
    for (int i = 0; i < NSD_SLOTS; i++)
        if (plan->slot[i] >= 0)
            return false;
    if (!nsd_can_check_commands())
        return false;
    for (uint32_t i = 0; i < plan->step_count; i++) {
        switch ((enum nsd_operation)plan->steps[i].operation) {
        case NSD_CLONE:
        case NSD_OPEN_ROOT:
        case NSD_WRITE_PROC:
        case NSD_LOOPBACK_UP:
        case NSD_SETHOSTNAME:
        case NSD_SETDOMAINNAME:
        case NSD_PROPAGATION:
        case NSD_BIND:
        case NSD_MOUNT:
        case NSD_PIVOT_ROOT:
        case NSD_CHROOT:
        case NSD_CHDIR:
        case NSD_SETSID:
        case NSD_SETPGID:
        case NSD_UMASK:
        case NSD_DROP_INHERITABLE:
        case NSD_NO_NEW_PRIVS: /* the flag is of a thread, not of the memory */
        case NSD_DIE_WITH_PARENT:
        case NSD_EXEC:
            break;
        case NSD_OPEN_PROCESS:
        case NSD_WATCH:
        case NSD_MAP_HELPER: /* is a process that stays for a while */
        case NSD_OWNER:
        case NSD_MAP_IDS:
        case NSD_JOIN:
        case NSD_JOIN_CGROUP:
        case NSD_UNSHARE:
        case NSD_ENTER_TIME:
        case NSD_HIDE:
        case NSD_GUARD:
        case NSD_FORK:
        case NSD_PIN:
        case NSD_UNPIN:
        case NSD_BECOME_ROOT:
        case NSD_INIT:
        case NSD_OPEN_SOURCE:
        case NSD_BIND_AT:
        case NSD_MOUNT_AT:
        case NSD_MASK_AT:
        case NSD_LINK_AT:
        case NSD_READONLY:
        case NSD_OVERLAY_AT:
        case NSD_HAND_OVER:
        case NSD_TERMINAL:
        case NSD_RLIMIT: /* might keep us from opening the command to check it */
        case NSD_DROP_BOUNDING:
        case NSD_KEEP_CAPABILITIES:
        case NSD_CAPSET:
        case NSD_SECUREBITS:
        case NSD_LANDLOCK:
        case NSD_LANDLOCK_ALLOW:
        case NSD_LANDLOCK_RESTRICT:
        case NSD_SECCOMP:
        case NSD_SETGROUPS:
        case NSD_SETGID:
        case NSD_SETUID:
        case NSD_END: /* a visit to where others are */
        case NSD_OPERATION_COUNT:
            return false;
        }
    }
    return plan->step_count > 0;
}

bool nsd_looks_at_command(const struct nsd_builder *plan)
{
    for (uint32_t i = 0; i < plan->step_count; i++)
        if (plan->steps[i].operation == NSD_FORK)
            return true;
    return nsd_is_direct(plan);
}

void nsd_child_perform(struct nsd_start *start)
{
    struct nsd_launch launch = {
        .head = (struct nsd_plan_head *)(void *)start->bytes,
        .plan_size = start->size,
        .results = start->child->results,
        .self = NSD_FIRST,
        .guarded = start->guarded,
    };
    uint32_t i = 0;

    nsd_default_signals(nsd_ignored_signals());
    if (!nsd_lay_out(&launch))
        return;
    for (uint32_t n = 0; n < launch.head->step_count; n++)
        launch.borrowed |= launch.steps[n].operation == NSD_PIVOT_ROOT ||
                           launch.steps[n].operation == NSD_CHROOT;
    if (launch.steps[0].operation == NSD_CLONE) {
        launch.results[0].end = nsd_counter();
        i++;
    }
    while (launch.steps[i].operation != NSD_EXEC)
        if (!nsd_perform_noted(&launch, i++))
            return;
    nsd_execute(&launch);
    start->needs_guard = launch.needs_guard;
}
