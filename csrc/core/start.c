/* start.c - the first half of a launch: the vfork child becomes the launcher, or the command,
 * while the calling thread sleeps.
 */
#include "../counter.h"
#include "direct.h"
#include "guard.h"
#include "pins.h"
#include "vfork.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The child's stack; that of the calling thread may have no room for another. */
#define STACK_SIZE (32 * 1024)

/* ---- descriptors ---------------------------------------------------------------------- */

static int compare_ints(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

/* All descriptors above 2 that must survive in the child's table, ascending. slots: those
 * that a plan names; -1 and the standard ones are passed over. */
static int collect_kept(struct nsd_start *start,
                        const struct nsd_launch_options *options, const int *slots,
                        int slot_count)
{
    size_t room = (size_t)options->pass_count + (size_t)slot_count + 4;
    int count = 0, unique = 0;

    start->kept = malloc(2 * room * sizeof(int));
    if (start->kept == NULL)
        return -ENOMEM;
    start->handed = start->kept + room;
    for (int i = 0; i < options->pass_count; i++)
        start->handed[count++] = options->pass_fds[i];
    for (int i = 0; i < slot_count; i++)
        if (slots[i] > 2)
            start->handed[count++] = slots[i];
    if (options->terminal > 2)
        start->handed[count++] = options->terminal;
    start->handed_count = count;
    memcpy(start->kept, start->handed, (size_t)count * sizeof(int));
    for (int i = 0; i < 3; i++) {
        start->stdio[i] = options->stdio[i];
        if (options->stdio[i] > 2)
            start->kept[count++] = options->stdio[i];
    }
    qsort(start->kept, (size_t)count, sizeof(int), compare_ints);
    for (int i = 0; i < count; i++)
        if (unique == 0 || start->kept[unique - 1] != start->kept[i])
            start->kept[unique++] = start->kept[i];
    start->kept_count = unique;
    return 0;
}

/* ---- plan and trace ------------------------------------------------------------------- */

/* The layout of plan.h, in one piece. */
static int serialize(struct nsd_start *start, const struct nsd_builder *plan,
                     int terminal)
{
    const struct nsd_vector *vectors[] = {&plan->argv, &plan->envp, &plan->paths};
    struct nsd_plan_head head = {
        .step_count = plan->step_count,
        .argv_count = plan->argv.count,
        .envp_count = plan->envp.count,
        .path_count = plan->paths.count,
        .parent = getpid(),
    };
    size_t steps_size = plan->step_count * sizeof(struct nsd_step);
    char *at;

    memcpy(head.slot, plan->slot, sizeof(head.slot));
    if (terminal > 2)
        head.slot[NSD_TERMINAL_SLOT] = terminal;
    start->size = sizeof(head) + steps_size + plan->text_size;
    for (int i = 0; i < 3; i++)
        start->size += (vectors[i]->count + 1u) * sizeof(uint64_t);
    start->bytes = at = malloc(start->size);
    if (at == NULL)
        return -ENOMEM;
    memcpy(at, &head, sizeof(head));
    memcpy(at += sizeof(head), plan->steps, steps_size);
    at += steps_size;
    for (int i = 0; i < 3; i++) {
        size_t size = vectors[i]->count * sizeof(uint64_t);

        if (size > 0)
            memcpy(at, vectors[i]->offsets, size);
        memset(at + size, 0, sizeof(uint64_t));
        at += size + sizeof(uint64_t);
    }
    memcpy(at, plan->text, plan->text_size);
    return 0;
}

static void describe(struct nsd_child *child, const struct nsd_builder *plan,
                     size_t shared)
{
    size_t size =
        sizeof(struct nsd_trace) + plan->step_count * sizeof(struct nsd_result);
    bool leads_group = false, maps = false;

    for (uint32_t i = 0; i < plan->step_count; i++)
        maps |= plan->steps[i].operation == NSD_MAP_IDS;
    if (maps)
        size += NSD_SAID;
    if (size < shared)
        size = shared;

    *child = (struct nsd_child){.owner = getpid(), .pidfd = -1, .maps = maps};
    child->trace_size = (size + NSD_PAGE - 1) & ~(size_t)(NSD_PAGE - 1);
    child->step_count = plan->step_count;
    for (uint32_t i = 0; i < plan->step_count; i++) {
        const struct nsd_step *step = &plan->steps[i];

        child->forked |= step->operation == NSD_FORK;
        child->has_init |= step->operation == NSD_INIT;
        child->has_watchdog |=
            step->operation == NSD_WATCH || step->operation == NSD_INIT;
        leads_group |= step->operation == NSD_SETSID ||
                       (step->operation == NSD_SETPGID && step->number[0] == 0);
    }
    child->own_group = leads_group && !child->has_init;
    pthread_mutex_init(&child->lock, NULL);
}

void nsd_read_clocks(struct nsd_child *child, int which)
{
    child->counter[which] = nsd_counter();
    child->clock[which] = nsd_now();
}

/* ---- the child ------------------------------------------------------------------------- */

static int prepare(struct nsd_start *start, const struct nsd_launch_options *options,
                   const int *slots, int slot_count)
{
    start->image_path = options->image_path;
    start->stack = aligned_alloc(16, STACK_SIZE);
    return start->stack == NULL ? -ENOMEM
                                : collect_kept(start, options, slots, slot_count);
}

static void clear(struct nsd_start *start)
{
    free(start->bytes);
    free(start->kept);
    free(start->stack);
}

/* clone(2) with our memory (no page tables to copy, however large the heap) and our
 * descriptors (until the child has copied those few that it needs). The kernel writes the pid
 * before the child runs. A pid, or a negative errno. */
static pid_t clone_child(struct nsd_start *start, int flags, pid_t *ret_pid)
{
    const uint64_t every_signal = ~(uint64_t)0;
    uint64_t mask = 0;
    pid_t pid;
    int error;

    /* Raw, because libc keeps two signals for itself, and those must wait as well. */
    syscall(SYS_rt_sigprocmask, SIG_BLOCK, &every_signal, &mask, sizeof(mask));
    pid = clone(nsd_child_main, start->stack + STACK_SIZE,
                CLONE_VM | CLONE_FILES | CLONE_PARENT_SETTID | SIGCHLD | flags, start,
                ret_pid);
    error = errno;
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, sizeof(mask));
    return pid < 0 ? -error : pid;
}

/* The kernel lets us go on when the child has executed: that is when its last step ended. */
static void note_execution(struct nsd_child *child)
{
    struct nsd_result *last = &child->results[child->step_count - 1];

    if (last->process != NSD_NOBODY && last->end == 0)
        last->end = nsd_counter();
}

/* The clone itself, as the first step of a plan or before it. */
static int start_child(struct nsd_start *start, const struct nsd_builder *plan,
                       struct nsd_child *child, enum nsd_start_stage *reterr_stage)
{
    const struct nsd_step *first = plan->steps;
    bool is_step = first->operation == NSD_CLONE;
    pid_t pid = 0, *pid_place = &pid;

    if (is_step && first->number[1] != NSD_ENDS_NOTHING) {
        int ret = nsd_ward_take(&child->ward, start->image_path, reterr_stage);

        if (ret < 0)
            return ret;
        child->ward->group = first->number[1] == NSD_ENDS_GROUP;
        pid_place = &child->ward->pid;
    }
    *reterr_stage = NSD_START_CLONE;
    nsd_read_clocks(child, 0);
    if (is_step) {
        child->results[0].process = NSD_CALLER;
        child->results[0].start = child->counter[0];
    }
    pid = clone_child(start, CLONE_VFORK | (is_step ? (int)first->number[0] : 0),
                      pid_place);
    if (pid < 0) {
        nsd_child_leaves_ward(child);
        if (!is_step)
            return pid;
        child->results[0].end = nsd_counter();
        child->results[0].error = -pid;
        return 0;
    }
    if (start->direct)
        note_execution(child);
    if (child->ward != NULL)
        nsd_ward_born(child->ward);
    if (is_step)
        child->results[0].value = pid;
    child->first = child->first_pid = pid;
    return 0;
}

/* The child is the launcher now, or has given up. */
static int look_at_child(struct nsd_start *start, struct nsd_child *child,
                         enum nsd_start_stage *reterr_stage)
{
    int ret = -start->error;

    child->trace = start->trace;
    child->waiting_state = start->waiting_state;
    if (ret < 0)
        *reterr_stage = start->stage;
    if (ret == 0 && !start->direct && child->trace == NULL) {
        ret = -ECANCELED; /* killed before it said anything */
        *reterr_stage = NSD_START_KILLED;
    }
    if (ret < 0) {
        nsd_reap(child->first);
        child->first = 0;
    }
    return ret;
}

int nsd_launch_start(const struct nsd_builder *plan,
                     const struct nsd_launch_options *options,
                     struct nsd_child *ret_child, enum nsd_start_stage *reterr_stage)
{
    struct nsd_start start = {.direct = nsd_is_direct(plan)};
    int ret;

    *reterr_stage = NSD_START_CLONE;
    describe(ret_child, plan, options->shared);
    ret_child->tidies_late = options->waits;
    ret = prepare(&start, options, plan->slot, NSD_SLOTS);
    if (ret == 0)
        ret = nsd_pins_of(plan, &ret_child->pins);
    if (ret == 0)
        ret = serialize(&start, plan, options->terminal);
    if (ret == 0 && start.direct) {
        ret_child->results = calloc(plan->step_count, sizeof(struct nsd_result));
        if (ret_child->results == NULL)
            ret = -ENOMEM;
    }
    start.trace_size = ret_child->trace_size;
    start.results = ret_child->results;
    if (ret == 0)
        ret = start_child(&start, plan, ret_child, reterr_stage);
    if (ret == 0 && ret_child->first > 0)
        ret = look_at_child(&start, ret_child, reterr_stage);
    clear(&start);
    if (ret < 0) {
        nsd_child_leaves_ward(ret_child);
        nsd_child_release(ret_child);
    }
    return ret;
}
