/* begin.c - first the launcher, then the plan.
 *
 * To start the launcher takes as long as looking at a target and making a plan. Here both
 * happen at once: the child of nsd_launch_begin is no vfork, and the calling thread goes on.
 * The launcher waits for its plan, and has done nothing that would have to be undone.
 */
#include "direct.h"
#include "start.h"

#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* What the plan may take; a longer one is started when it exists. */
#define ROOM ((size_t)4 * NSD_PAGE)

static void wait_while(uint32_t *futex, uint32_t value)
{
    /* Of a child that was killed the kernel tells us nothing but its end. */
    const struct timespec patience = {.tv_nsec = 50 * 1000 * 1000};

    syscall(SYS_futex, futex, FUTEX_WAIT, value, &patience);
}

/* Until the child has left our memory: it executes, ends or is killed. */
static void wait_until_gone(struct nsd_start *start)
{
    uint32_t tid;

    while ((tid = (uint32_t)__atomic_load_n(&start->tid, __ATOMIC_ACQUIRE)) != 0)
        wait_while((uint32_t *)&start->tid, tid);
}

static void wait_for_file(struct nsd_start *start)
{
    while (__atomic_load_n(&start->has_file, __ATOMIC_ACQUIRE) == 0 &&
           __atomic_load_n(&start->tid, __ATOMIC_ACQUIRE) != 0)
        wait_while(&start->has_file, 0);
}

static void forget(struct nsd_start *start)
{
    nsd_start_clear(start);
    free(start);
}

int nsd_launch_begin(const struct nsd_launch_options *options, const int *kept,
                     int kept_count, struct nsd_child *ret_child,
                     enum nsd_start_stage *reterr_stage)
{
    struct nsd_start *start = calloc(1, sizeof(*start));
    int ret =
        start == NULL ? -ENOMEM : nsd_start_prepare(start, options, kept, kept_count);

    *reterr_stage = NSD_START_CLONE;
    *ret_child = (struct nsd_child){.owner = getpid(), .pidfd = -1};
    pthread_mutex_init(&ret_child->lock, NULL);
    if (ret == 0) {
        start->trace_size = NSD_PAGE;
        start->room = ROOM;
        start->later = true;
        ret = nsd_start_clone(start, CLONE_CHILD_CLEARTID, &start->tid);
    }
    if (ret < 0) {
        if (start != NULL)
            forget(start);
        return ret;
    }
    ret_child->first = ret;
    ret_child->begun = start;
    return 0;
}

void nsd_launch_cancel(struct nsd_child *child)
{
    struct nsd_start *start = child->begun;

    child->begun = NULL;
    if (start == NULL)
        return;
    if (child->owner == getpid()) {
        /* Our child, which nobody has reaped: its number is still its own. */
        if (!nsd_has_exited(child->first))
            kill(child->first, SIGKILL);
        wait_until_gone(start);
        nsd_reap(child->first);
    }
    if (start->trace != NULL)
        munmap(start->trace, start->trace_size + start->room);
    forget(start);
    child->first = 0;
    child->reaped = true;
}

static bool has_what_it_needs(const struct nsd_start *start,
                              const struct nsd_builder *plan)
{
    for (int i = 0; i < NSD_SLOTS; i++) {
        bool found = plan->slot[i] < 0;

        for (int k = 0; k < start->handed_count && !found; k++)
            found = start->handed[k] == plan->slot[i];
        if (!found)
            return false;
    }
    return true;
}

/* The launcher waits for the plan, but not for ever. */
static bool hand_over(struct nsd_start *start)
{
    uint32_t planned = NSD_UNPLANNED;

    wait_for_file(start);
    if (start->trace == NULL)
        return true; /* nsd_start_result tells why */
    memcpy((char *)start->trace + start->trace_size, start->bytes, start->size);
    if (!__atomic_compare_exchange_n(&start->trace->planned, &planned, NSD_PLANNED,
                                     false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        return false;
    syscall(SYS_futex, &start->trace->planned, FUTEX_WAKE, 1);
    return true;
}

int nsd_launch_continue(const struct nsd_builder *plan,
                        const struct nsd_launch_options *options,
                        struct nsd_child *child, enum nsd_start_stage *reterr_stage)
{
    struct nsd_start *start = child->begun;
    struct nsd_child described;
    int ret = -EAGAIN;

    nsd_start_describe(&described, plan, options->shared);
    described.tidies_late = options->waits;
    described.first = described.first_pid = child->first;
    nsd_read_clocks(&described, 0);
    if (child->owner == getpid() && !nsd_is_direct(plan) && options->terminal == 0 &&
        described.trace_size == start->trace_size && has_what_it_needs(start, plan) &&
        nsd_start_serialize(start, plan, 0) == 0 && start->size <= start->room &&
        hand_over(start))
        ret = 0;
    if (ret < 0) {
        nsd_launch_cancel(child);
        return ret;
    }
    wait_until_gone(start);
    *child = described;
    ret = nsd_start_result(start, child, reterr_stage);
    forget(start);
    if (ret < 0)
        nsd_child_release(child);
    return ret;
}
