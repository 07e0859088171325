/* start.c - the first half of a launch: the vfork child becomes the launcher, or the command,
 * while the calling thread waits for that.
 */
#include "../../counter.h"
#include "../../steps/steps.h"
#include "borrowed.h"
#include "direct.h"
#include "guard.h"
#include "orphans.h"
#include "pins.h"
#include "vfork.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int compare_ints(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

/* All descriptors above 2 that must survive in the child's table, ascending. */
static int collect_kept(struct nsd_start *start)
{
    const struct nsd_launch_options *options = start->options;
    int count = 0, unique = 0;

    start->kept = malloc(((size_t)options->pass_count + NSD_SLOTS + 6) * sizeof(int));
    if (start->kept == NULL)
        return -ENOMEM;
    for (int i = 0; i < options->pass_count; i++)
        start->kept[count++] = options->pass_fds[i];
    for (int i = 0; i < NSD_SLOTS; i++)
        if (start->plan->slot[i] > 2)
            start->kept[count++] = start->plan->slot[i];
    for (int i = 0; i < 3; i++)
        if (options->stdio[i] > 2)
            start->kept[count++] = options->stdio[i];
    if (options->terminal > 2)
        start->kept[count++] = options->terminal;
    if (start->image.fd > 2)
        start->kept[count++] = start->image.fd;
    if (start->slate != NULL)
        start->kept[count++] = start->slate->file.fd;
    qsort(start->kept, (size_t)count, sizeof(int), compare_ints);
    for (int i = 0; i < count; i++)
        if (unique == 0 || start->kept[unique - 1] != start->kept[i])
            start->kept[unique++] = start->kept[i];
    start->kept_count = unique;
    return 0;
}

static int larger(int a, int b)
{
    return a > b ? a : b;
}

/* The layout of plan.h, in one piece. */
static int serialize(struct nsd_start *start)
{
    const struct nsd_builder *plan = start->plan;
    const struct nsd_vector *vectors[] = {&plan->argv, &plan->envp, &plan->paths};
    struct nsd_plan_head head = {
        .step_count = plan->step_count,
        .argv_count = plan->argv.count,
        .envp_count = plan->envp.count,
        .path_count = plan->paths.count,
        .parent = start->child->owner.pid,
    };
    size_t steps_size = plan->step_count * sizeof(struct nsd_step);
    char *at;

    memcpy(head.slot, plan->slot, sizeof(head.slot));
    if (start->options->terminal > 2)
        head.slot[NSD_TERMINAL_SLOT] = start->options->terminal;
    for (int i = 0; i < NSD_SLOTS; i++)
        head.highest = larger(head.highest, head.slot[i]);
    for (int i = 0; i < start->options->pass_count; i++)
        head.highest = larger(head.highest, start->options->pass_fds[i]);
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
    bool leads_group = false, maps = false, moves_child = false, has_session = false;

    for (uint32_t i = 0; i < plan->step_count; i++)
        maps |= plan->steps[i].operation == NSD_MAP_IDS;
    if (maps)
        size += NSD_SAID;
    if (size < shared)
        size = shared;

    *child = (struct nsd_child){
        .owner = nsd_owner_now(),
        .pidfd = -1,
        .maps = maps,
        .early_count = nsd_early_steps(plan),
    };
    child->trace_size = (size + NSD_PAGE - 1) & ~(size_t)(NSD_PAGE - 1);
    child->step_count = plan->step_count;
    for (uint32_t i = 0; i < plan->step_count; i++) {
        const struct nsd_step *step = &plan->steps[i];

        child->forked |= step->operation == NSD_FORK;
        moves_child |=
            step->operation == NSD_UNSHARE && (step->number[0] & CLONE_NEWPID) != 0;
        child->ends_all |=
            (step->operation == NSD_FORK && moves_child) ||
            (step->operation == NSD_CLONE && (step->number[0] & CLONE_NEWPID) != 0);
        child->has_init |= step->operation == NSD_INIT;
        child->has_watchdog |=
            step->operation == NSD_WATCH || step->operation == NSD_INIT;
        has_session |= step->operation == NSD_SETSID;
        child->dies_with_thread |= step->operation == NSD_DIE_WITH_PARENT;
        leads_group |= step->operation == NSD_SETSID ||
                       (step->operation == NSD_SETPGID && step->number[0] == 0);
    }
    child->own_group = leads_group && !child->has_init;
    if (!has_session)
        nsd_foreground_note(&child->foreground);
    pthread_mutex_init(&child->lock, NULL);
}

/* Does a launch of this plan leave nobody behind who could write on the slate? The launcher hides
 * at once if it has no maps of its own to write, else by a step. */
static bool may_have_slate(const struct nsd_start *start)
{
    const struct nsd_child *child = start->child;
    bool hides = true;

    for (uint32_t i = child->early_count; i < start->plan->step_count; i++) {
        switch (start->plan->steps[i].operation) {
        case NSD_WRITE_PROC:
        case NSD_MAP_IDS:
            hides = false;
            break;
        case NSD_HIDE:
            hides = true;
            break;
        }
    }
    return hides && !child->has_watchdog && child->pins == NULL &&
           child->trace_size + start->size <= NSD_SLATE_SIZE;
}

static void take_what_is_kept(struct nsd_start *start)
{
    struct nsd_child *child = start->child;

    start->image = nsd_image_kept();
    if (may_have_slate(start))
        start->slate = nsd_slate_take();
    if (start->slate == NULL)
        return;
    child->trace = start->slate->trace;
    child->slate_used = child->trace_size + start->size;
    memcpy((char *)child->trace + child->trace_size, start->bytes, start->size);
}

void nsd_read_clocks(struct nsd_child *child, int which)
{
    child->counter[which] = nsd_counter();
    child->clock[which] = nsd_now();
}

/* The kernel wakes us when the child has executed: that is when its last step ended. */
static void note_execution(struct nsd_child *child)
{
    struct nsd_result *last = &child->results[child->step_count - 1];

    if (last->process != NSD_NOBODY && last->end == 0)
        last->end = nsd_counter();
}

static const struct nsd_step *find_step(const struct nsd_builder *plan,
                                        enum nsd_operation operation)
{
    for (uint32_t i = 0; i < plan->step_count; i++)
        if (plan->steps[i].operation == operation)
            return &plan->steps[i];
    return NULL;
}

/* What the guard has to end. The kernel is asked by a step to end some commands with their parent,
 * but forgets it where a program brings power of its own (set-user-ID, file capabilities), so the
 * guard knows of those, too; and of those that have a watchdog, which may be killed. */
static enum nsd_end what_ends(const struct nsd_start *start)
{
    const struct nsd_child *child = start->child;
    const struct nsd_step *first = start->plan->steps;
    const struct nsd_step *watch = find_step(start->plan, NSD_WATCH);

    if (first->operation == NSD_CLONE && first->number[1] != NSD_ENDS_NOTHING)
        return (enum nsd_end)first->number[1];
    if (watch != NULL && child->forked) /* that of a guard forks no command */
        return watch->number[0] != 0 ? NSD_ENDS_GROUP : NSD_ENDS_COMMAND;
    if (!child->dies_with_thread || child->has_watchdog)
        return NSD_ENDS_NOTHING;
    return child->own_group ? NSD_ENDS_GROUP : NSD_ENDS_COMMAND;
}

static int64_t deadline_of(const struct nsd_launch_options *options)
{
    return options->deadline == 0 ? NSD_FOREVER : options->deadline;
}

/* Until the child has left our memory. */
static int wait_for_child(struct nsd_start *start)
{
    const struct nsd_launch_options *options = start->options;
    int64_t deadline = deadline_of(options);
    struct nsd_child *child = start->child;
    int ret;

    while ((ret = nsd_borrower_wait(child->borrower, deadline)) == -EINTR)
        if (options->gives_up != NULL && options->gives_up(options->asked))
            break;
    if (ret < 0)
        return ret;
    nsd_borrower_forget(child->borrower);
    child->borrower = NULL;
    if (start->direct)
        note_execution(child);
    return 0;
}

/* The child has our descriptors still: what we open must not become a stream of the command. */
static bool has_standard_streams(void)
{
    for (int i = 0; i < 3; i++)
        if (fcntl(i, F_GETFD) < 0)
            return false;
    return true;
}

/* The clone itself, as the first step of a plan or before it. */
static int start_child(struct nsd_start *start, enum nsd_start_stage *reterr_stage)
{
    const struct nsd_step *first = start->plan->steps;
    bool is_step = first->operation == NSD_CLONE;
    enum nsd_end end = what_ends(start);
    struct nsd_child *child = start->child;
    struct nsd_result *result = start->direct ? child->results : child->early;
    pid_t *pid_place = NULL;
    int error;

    if (end != NSD_ENDS_NOTHING) {
        int ret =
            nsd_ward_take(deadline_of(start->options), &child->ward, reterr_stage);

        if (ret < 0)
            return ret;
        if (child->ward != NULL) {
            child->ward->group = end == NSD_ENDS_GROUP;
            if (!child->forked) /* else the command is born later: nsd_launch_settle */
                pid_place = &child->ward->pid;
        }
    }
    *reterr_stage = NSD_START_CLONE;
    nsd_read_clocks(child, 0);
    if (is_step) {
        result->process = NSD_CALLER;
        result->start = child->counter[0];
    }
    error = -nsd_borrow(&child->borrower, nsd_child_main, start,
                        is_step ? (int)first->number[0] : 0, pid_place);
    if (error != 0) {
        nsd_child_leaves_ward(child);
        if (!is_step)
            return -error;
        result->end = nsd_counter();
        result->error = error;
        child->early_failed = true;
        return 0;
    }
    child->first = child->first_pid = child->borrower->pid;
    /* At once: where SIGCHLD is ignored nothing is left of who has ended. A guard needs none. */
    if (!child->forked && !child->has_watchdog && has_standard_streams())
        child->pidfd = (int)syscall(SYS_pidfd_open, child->first, 0);
    if (child->ward != NULL && !child->forked)
        nsd_ward_is(child->ward, child->first);
    if (start->direct || start->slate != NULL)
        __atomic_store_n(start->direct ? &child->ignored
                                       : &start->slate->trace->ignored,
                         nsd_ignored_signals(), __ATOMIC_RELAXED);
    if (is_step)
        result->value = child->first;
    return wait_for_child(start);
}

int nsd_launch_start(const struct nsd_builder *plan,
                     const struct nsd_launch_options *options,
                     struct nsd_child *ret_child, enum nsd_start_stage *reterr_stage)
{
    struct nsd_start start = {
        .plan = plan, .options = options, .child = ret_child, .image.fd = -1};
    int ret;

    nsd_reap_orphans();
    *reterr_stage = NSD_START_CLONE;
    if (!nsd_builder_is_whole(plan))
        return -EINVAL;
    describe(ret_child, plan, options->shared);
    ret_child->tidies_late = options->waits;
    start.direct = nsd_is_direct(plan);
    ret = serialize(&start);
    if (ret == 0)
        ret = nsd_pins_of(plan, &ret_child->pins);
    if (ret == 0 && !start.direct)
        take_what_is_kept(&start);
    if (ret == 0)
        ret = collect_kept(&start);
    if (ret == 0 && start.direct) {
        ret_child->results = calloc(plan->step_count, sizeof(struct nsd_result));
        if (ret_child->results == NULL)
            ret = -ENOMEM;
    }
    if (ret == 0)
        ret = start_child(&start, reterr_stage);
    if (ret_child->borrower != NULL || ret == -ETIMEDOUT)
        nsd_launch_abandon(ret_child);
    /* Closed behind our back: the child made another. */
    if (start.slate != NULL && !ret_child->abandoned &&
        ret_child->trace != start.slate->trace) {
        nsd_slate_give_back(0);
        ret_child->slate_used = 0;
    }
    if (ret == 0 && start.error != 0) {
        ret = -start.error;
        *reterr_stage = start.stage;
        nsd_see_off(ret_child->first);
    }
    /* Killed before it said anything. */
    if (ret == 0 && !start.direct && !ret_child->early_failed &&
        (ret_child->trace == NULL || ret_child->trace->magic != NSD_MAGIC)) {
        ret = -ECANCELED;
        *reterr_stage = NSD_START_KILLED;
        nsd_see_off(ret_child->first);
    }
    free(start.bytes);
    free(start.kept);
    if (ret < 0 && !ret_child->abandoned) {
        ret_child->first = 0;
        nsd_child_leaves_ward(ret_child);
        nsd_child_release(ret_child);
    }
    return ret;
}
