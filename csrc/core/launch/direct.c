/* direct.c - the short way: the vfork child performs the plan itself and becomes the command.
 *
 * It saves the launcher: a program to load, a file for plan and trace. It may be taken only in our
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

#include "../../steps/steps.h"
#include "direct.h"

#include <linux/sched.h>
#include <string.h>

enum way {
    LONG,
    SHORT,
    SHORT_IF_PROC, /* any other file system may hold what somebody else has written */
};

static const unsigned char ways[] = {
#define ROW(name, word, function, way, numbers, texts) way,
#include "../../operations.def"
};

bool nsd_is_direct(const struct nsd_builder *plan)
{
    for (int i = 0; i < NSD_SLOTS; i++)
        if (plan->slot[i] >= 0)
            return false;
    for (uint32_t i = 0; i < plan->step_count; i++) {
        const struct nsd_step *step = &plan->steps[i];
        enum way way = (enum way)ways[step->operation];

        if (way == LONG || (way == SHORT_IF_PROC &&
                            strcmp(nsd_builder_text(plan, step->text[2]), "proc") != 0))
            return false;
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
