/* The vfork zone.
 *
 * child_* functions run in the vfork child: in our memory, on a stack of their own,
 * with all signals blocked, while the calling thread sleeps and others run on. No malloc,
 * no stdio, no locks, no errno, which is the calling thread's: the kernel is asked without
 * libc. No return to Python. The descriptor table is shared with the parent until
 * child_own_descriptors has run, and nothing may be opened or closed before.
 *
 * What the child makes, it makes after that: a plan's memfd is born in its small private table
 * with a low number and never exists in the parent, so that no fork of another thread can
 * inherit it, and 10,000 open files cost nothing. The trace's mapping is made here too: mappings
 * are shared, descriptors are not. What the process keeps for all launches (image.h, slate.h)
 * is looked at once more here, where nobody else can close it.
 *
 * The way out is execve, of the launcher or (direct.c) of the command itself; or the first
 * error, noted in start->stage and start->error, or with the step that failed.
 */
#include "vfork.h"

#include "../../steps/power.h"
#include "../../steps/steps.h"
#include "../../steps/text.h"
#include "image.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/futex.h>
#include <linux/prctl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>

#ifndef __NR_close_range
#define __NR_close_range 436
#endif

static long child_close_range(unsigned int first, unsigned int last)
{
    return first > last ? 0 : sys3(__NR_close_range, first, last, 0);
}

/* A table of our own that ends behind the last descriptor we keep: the kernel copies only
 * that part. */
static long child_own_descriptors(const struct nsd_start *start)
{
    unsigned int above = start->kept_count == 0
                             ? 3u
                             : (unsigned int)start->kept[start->kept_count - 1] + 1u;

    if (sys3(__NR_close_range, above, ~0u, CLOSE_RANGE_UNSHARE) == 0)
        return 0;
    /* Before Linux 5.9, or refused by a seccomp filter: all of it. */
    return sys1(__NR_unshare, CLONE_FILES);
}

/* What becomes the command's 0, 1 or 2 is kept only until then, under its own number. */
static bool child_is_handed_on(const struct nsd_start *start, int fd)
{
    for (int i = 0; i < start->options->pass_count; i++)
        if (start->options->pass_fds[i] == fd)
            return true;
    for (int i = 0; i < NSD_SLOTS; i++)
        if (start->plan->slot[i] == fd)
            return true;
    return start->options->terminal == fd ||
           (start->slate != NULL && start->slate->file.fd == fd);
}

static long child_arrange_descriptors(const struct nsd_start *start)
{
    long from[3], closed = 0;
    unsigned int next = 3;

    for (int i = 0; i < 3; i++) {
        long flags = 0;

        from[i] = start->options->stdio[i];
        /* Out of each other's way: stdout=0 with stdin=1 must not meet half-way. */
        if (from[i] >= 0 && from[i] < 3 && from[i] != i) {
            from[i] = sys3(__NR_fcntl, from[i], F_DUPFD_CLOEXEC, 3);
            if (from[i] < 0)
                return from[i];
        }
        if (from[i] < 0)
            flags = sys2(__NR_fcntl, i, F_GETFD);
        if (flags < 0)
            return flags;
    }
    for (int i = 0; i < 3; i++) {
        long ret = 0;

        if (from[i] == i)
            ret = sys3(__NR_fcntl, i, F_SETFD, 0);
        if (from[i] > 2)
            ret = sys3(__NR_dup3, from[i], i, 0);
        if (ret < 0)
            return ret;
    }
    for (int i = 0; i < start->kept_count; i++) {
        long ret = 0;

        if (child_is_handed_on(start, start->kept[i]))
            ret = sys3(__NR_fcntl, start->kept[i], F_SETFD, 0);
        else if (start->kept[i] != start->image.fd)
            ret = sys1(__NR_close, start->kept[i]);
        if (ret < 0)
            return ret;
        if (closed == 0)
            closed = child_close_range(next, (unsigned int)start->kept[i] - 1u);
        next = (unsigned int)start->kept[i] + 1u;
    }
    /* What lies above was not copied, but a moved stdio descriptor may. */
    if (closed == 0)
        closed = child_close_range(next, ~0u);
    return closed == 0 ? 0 : nsd_close_all_but(start->kept, start->kept_count);
}

/* A file for this launch alone. */
static long child_make_plan(const struct nsd_start *start)
{
    struct nsd_child *child = start->child;
    long base, ret, fd = nsd_raw_memfd("nsdemo-plan", 0, 0x8 /* MFD_NOEXEC_SEAL */);

    if (fd < 0) {
        fd = nsd_raw_tmpfile();
        sys3(__NR_fcntl, fd, F_SETFD, 0);
    }
    /* Writing behind the trace makes the file as long as it must be; the trace is zeros. */
    ret = fd < 0 ? fd : sys3(__NR_lseek, fd, child->trace_size, SEEK_SET);
    if (ret >= 0)
        ret = nsd_raw_write(fd, start->bytes, start->size);
    if (ret < 0)
        return ret;
    base = sys6(__NR_mmap, 0, (long)child->trace_size, PROT_READ | PROT_WRITE,
                MAP_SHARED, fd, 0);
    if (base < 0 && base > -4096)
        return base;
    child->trace = (struct nsd_trace *)base;
    return fd;
}

/* Where the launcher finds the plan, with the trace before it; the core has written it already
 * if it had the slate, and somebody may have closed that since. */
static long child_plan(const struct nsd_start *start)
{
    struct nsd_child *child = start->child;
    bool on_slate = start->slate != NULL && nsd_is_still(&start->slate->file);
    long fd = on_slate ? start->slate->file.fd : child_make_plan(start);
    struct nsd_trace *trace = child->trace;

    if (fd < 0)
        return fd;
    trace->state = child->waiting_state = (uint32_t)sys0(__NR_getpid) | FUTEX_WAITERS;
    trace->magic = NSD_MAGIC;
    trace->plan_offset = (uint32_t)child->trace_size;
    return fd;
}

/* What has to be done before the launcher: nsd_early_steps. */
static bool child_perform_early(const struct nsd_start *start)
{
    struct nsd_launch launch = {
        .head = (struct nsd_plan_head *)(void *)start->bytes,
        .plan_size = start->size,
        .results = start->child->early,
        .self = NSD_FIRST,
    };

    nsd_find_steps(&launch);
    for (uint32_t i = 0; i < start->child->early_count; i++) {
        if (launch.steps[i].operation == NSD_CLONE)
            launch.results[i].end = nsd_counter();
        else if (!nsd_perform_noted(&launch, i))
            return false;
    }
    return true;
}

/* The kernel gives a program that is executed what its user has, which is all for root, and else
 * nothing but what is ambient. A step of the plan takes it away from the command. */
static void child_keep_power(const struct nsd_start *start)
{
    bool is_taken_back = false;

    for (uint32_t i = 0; i < start->plan->step_count; i++)
        is_taken_back |= start->plan->steps[i].operation == NSD_DROP_INHERITABLE;
    if (is_taken_back && (sys0(__NR_geteuid) != 0 ||
                          sys5(__NR_prctl, PR_GET_SECUREBITS, 0, 0, 0, 0) != 0))
        nsd_keep_permitted();
}

static long child_execute(const struct nsd_start *start, long plan)
{
    /* As long as "nsdemo-watch" and "nsdemo-init", which those who stay write over it. */
    char name[] = "nsdemo-start", number[24], length[24], first[24];
    char *argv[] = {name, number, length, first, NULL};

    nsd_append_number(number, (uint64_t)plan);
    nsd_append_number(length, start->child->trace_size + start->size);
    nsd_append_number(first, start->child->early_count);
    child_keep_power(start);
    return nsd_image_execute(&start->image, argv);
}

int nsd_child_main(void *argument)
{
    struct nsd_start *start = argument;
    long ret;

    start->stage = NSD_START_DESCRIPTORS;
    ret = child_own_descriptors(start);
    if (ret == 0)
        ret = child_arrange_descriptors(start);
    if (ret == 0 && start->direct) {
        nsd_child_perform(start);
        sys1(__NR_exit_group, 127);
    }
    if (ret == 0) {
        start->stage = NSD_START_PLAN;
        ret = child_plan(start);
    }
    if (ret >= 0 && !child_perform_early(start)) {
        start->child->early_failed = true;
        sys1(__NR_exit_group, 127);
    }
    if (ret >= 0) {
        start->stage = NSD_START_EXECUTE;
        ret = child_execute(start, ret);
    }
    start->error = ret < 0 ? (int)-ret : EIO;
    sys1(__NR_exit_group, 127);
    return 127;
}
