/* apart.c - a second process that has nothing of ours, for whoever waits where it is born.
 *
 * In a pid namespace that was joined there are others, and one who holds CAP_SYS_PTRACE seizes
 * whoever is in sight. So what goes in there has no memory in common with who stays outside, no
 * descriptor of the caller's, and no power that the command is not to have:
 *   - the plan becomes a copy, and the page that Python reads is not mapped in the child: it takes
 *     notes in memory that is read once, by us, when it has executed the command or given up;
 *   - what is to be dropped is dropped before by the one who forks; by a thread, if somebody stays
 *     who will need power to end the command. A thread has credentials, and here descriptors, of
 *     its own.
 */
#include "launcher.h"

#include <linux/errno.h>
#include <linux/mman.h>
#include <linux/sched.h>

static bool is_error(long ret)
{
    return ret < 0 && ret > -4096;
}

static long map_memory(size_t size, long sharing)
{
    return sys6(__NR_mmap, 0, (long)size, PROT_READ | PROT_WRITE,
                sharing | MAP_ANONYMOUS, -1, 0);
}

static bool has_joined(const struct nsd_launch *launch, uint32_t before, int64_t flags)
{
    for (uint32_t i = 0; i < before; i++)
        if (launch->steps[i].operation == NSD_JOIN &&
            (launch->steps[i].number[1] & flags) != 0)
            return true;
    return false;
}

bool nsd_goes_apart(const struct nsd_launch *launch, uint32_t fork)
{
    return has_joined(launch, fork, -1);
}

/* The file may be written on again when this launch is over. */
static long copy_plan(struct nsd_launch *launch)
{
    long copy = map_memory(launch->plan_size, MAP_PRIVATE);
    const uint64_t *from = (const uint64_t *)(const void *)launch->head;
    uint64_t *to = (uint64_t *)copy;

    if (is_error(copy))
        return copy;
    for (size_t i = 0; i < launch->plan_size / sizeof(*to); i++)
        to[i] = from[i];
    for (size_t i = launch->plan_size & ~(sizeof(*to) - 1); i < launch->plan_size; i++)
        ((char *)to)[i] = ((const char *)from)[i];
    copy = sys5(__NR_mremap, copy, launch->plan_size, launch->plan_size,
                MREMAP_MAYMOVE | MREMAP_FIXED, launch->head);
    return is_error(copy) ? copy : 0;
}

static size_t size_of_notes(const struct nsd_launch *launch)
{
    return sizeof(struct nsd_trace) +
           launch->head->step_count * sizeof(struct nsd_result);
}

/* That goes by the page that Python reads; then it is believed no more than that always is. */
static bool asks_for_pins(const struct nsd_launch *launch, uint32_t fork)
{
    for (uint32_t i = fork + 1; i < launch->head->step_count; i++)
        if (launch->steps[i].operation == NSD_PIN && launch->steps[i].number[1] < 0)
            return true;
    return false;
}

long nsd_make_notes(struct nsd_launch *launch, uint32_t fork,
                    struct nsd_trace **ret_notes)
{
    long notes, ret = copy_plan(launch);

    if (ret < 0)
        return ret;
    if (asks_for_pins(launch, fork))
        return 0;
    notes = map_memory(size_of_notes(launch), MAP_SHARED);
    if (is_error(notes))
        return notes;
    ret = sys3(__NR_madvise, launch->trace, launch->trace_size, MADV_DONTFORK);
    if (ret == 0)
        *ret_notes = (struct nsd_trace *)notes;
    return ret;
}

/* Each number once: who wrote it may not be himself any more. What it may be, the core judges. */
void nsd_take_notes(struct nsd_launch *launch, struct nsd_trace *notes, uint32_t fork)
{
    launch->results[fork].end = notes->results[fork].end;
    for (uint32_t i = fork + 1; i < launch->head->step_count; i++) {
        struct nsd_result result = *(volatile struct nsd_result *)&notes->results[i];

        if (result.process != NSD_SECOND)
            continue;
        if (i + 1 == launch->head->step_count && result.error == 0)
            result.end = 0; /* that the command runs is for us to say */
        launch->results[i] = result;
    }
    if (notes->failed != 0)
        launch->trace->failed = 1;
    if (notes->is_set_id != 0)
        launch->trace->is_set_id = 1;
    sys2(__NR_munmap, notes, size_of_notes(launch));
}

static bool is_needed(const struct nsd_launch *launch, uint32_t fork, int slot)
{
    for (uint32_t i = fork + 1; i < launch->head->step_count; i++)
        if (nsd_needs_slot(&launch->steps[i], slot))
            return true;
    /* By whom pins are undone, if the launch fails. */
    for (uint32_t i = 0; slot == NSD_PROC_SLOT && !launch->in_thread && i < fork; i++)
        if (launch->steps[i].operation == NSD_PIN)
            return true;
    return false;
}

bool nsd_is_seen_inside(const struct nsd_launch *launch, uint32_t fork)
{
    return has_joined(launch, fork, CLONE_NEWPID);
}

void nsd_close_for_inside(const struct nsd_launch *launch, uint32_t fork)
{
    for (int i = 0; i < NSD_SLOTS; i++)
        if (launch->slot[i] >= 0 && !is_needed(launch, fork, i))
            sys1(__NR_close, launch->slot[i]);
    if (launch->parent >= 0)
        sys1(__NR_close, launch->parent);
}

void nsd_forget_closed(struct nsd_launch *launch, uint32_t fork)
{
    for (int i = 0; i < NSD_SLOTS; i++)
        if (!is_needed(launch, fork, i))
            launch->slot[i] = -1;
    launch->parent = -1;
}
