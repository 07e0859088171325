/* direct.c - the short way: the vfork child performs the plan itself and becomes the command.
 *
 * It saves the launcher: a program to load, a file for plan and trace. It may be gone only in our
 * own tree of files, and where the child's memory, which is Python's, is shown to nobody and
 * changed for nobody:
 *   - until execve /proc/self/exe is Python's program: a command under another root might be a
 *     link to it (CVE-2019-5736), and nobody can look before who is to be believed then;
 *   - new namespaces hold nobody else before the command is executed; a joined one may hold a
 *     hostile process that reads /proc/PID/mem, so a joiner is a launcher;
 *   - who stays (init, a watchdog) must not keep Python's memory;
 *   - a change of ids, or of the dumpable flag, would change Python's flag with it;
 *   - unshare() of user and time namespaces is refused to a process that shares its memory;
 *     clone() is given the first.
 * The steps themselves are those of the launcher, without libc: errno and locks are Python's.
 */
#include "vfork.h"

#include "../steps/steps.h"
#include "direct.h"

#include <linux/sched.h>
#include <string.h>

bool nsd_is_direct(const struct nsd_builder *plan)
{
    for (int i = 0; i < NSD_SLOTS; i++)
        if (plan->slot[i] >= 0)
            return false;
    for (uint32_t i = 0; i < plan->step_count; i++) {
        switch ((enum nsd_operation)plan->steps[i].operation) {
        case NSD_CLONE:
        case NSD_WRITE_PROC:
        case NSD_LOOPBACK_UP:
        case NSD_SETHOSTNAME:
        case NSD_SETDOMAINNAME:
        case NSD_PROPAGATION:
        case NSD_CHDIR:
        case NSD_SETSID:
        case NSD_SETPGID:
        case NSD_UMASK:
        case NSD_DROP_INHERITABLE:
        case NSD_NO_NEW_PRIVS: /* the flag is of a thread, not of the memory */
        case NSD_DIE_WITH_PARENT:
        case NSD_EXEC:
            break;
        case NSD_MOUNT: /* any other file system may hold what somebody else has written */
            if (strcmp(nsd_builder_text(plan, plan->steps[i].text[2]), "proc") != 0)
                return false;
            break;
        case NSD_OPEN_ROOT:
        case NSD_BIND:
        case NSD_PIVOT_ROOT:
        case NSD_CHROOT:
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
        case NSD_THREAD:
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
        case NSD_LAYER_AT:
        case NSD_HAND_OVER:
        case NSD_TERMINAL:
        case NSD_RLIMIT:
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

uint32_t nsd_early_steps(const struct nsd_builder *plan)
{
    uint32_t count = 0;

    if (plan->step_count == 0 || plan->steps[0].operation != NSD_CLONE)
        return 0;
    do
        count++;
    while ((plan->steps[0].number[0] & CLONE_NEWUSER) != 0 && count < NSD_EARLY_STEPS &&
           count < plan->step_count && plan->steps[count].operation == NSD_WRITE_PROC);
    return count;
}

void nsd_child_perform(struct nsd_start *start)
{
    struct nsd_launch launch = {
        .head = (struct nsd_plan_head *)(void *)start->bytes,
        .plan_size = start->size,
        .results = start->child->results,
        .self = NSD_FIRST,
        .ignored = &start->child->ignored,
    };
    uint32_t i = 0;

    if (!nsd_lay_out(&launch))
        return;
    if (launch.steps[0].operation == NSD_CLONE) {
        launch.results[0].end = nsd_counter();
        i++;
    }
    while (launch.steps[i].operation != NSD_EXEC)
        if (!nsd_perform_noted(&launch, i++))
            return;
    nsd_execute(&launch);
}
