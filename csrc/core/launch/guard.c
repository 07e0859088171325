#include "guard.h"

#include "../namespaces.h"
#include "orphans.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE                                                                       \
    10000000000 /* ns that its start may take: somebody may have stopped it */
#define NSD_TICKS_PER_SECOND 100u /* USER_HZ, the unit of /proc/PID/stat */

#define SHARED ((1u + NSD_WARD_PAGES) * NSD_PAGE)

/* What a guard and we share. */
struct guard {
    struct nsd_trace *trace;
    struct nsd_ward *wards; /* the pages behind it, which stay where they are */
    pid_t pid;              /* as it was started; 0: nobody that we could meet */
    int64_t birth;          /* as nsd_process_birth has it */
    struct guard *older;    /* a full one */
};

/* The one state that the core keeps: it belongs to the process, as the guards do. */
static struct {
    pthread_mutex_t lock;
    pid_t owner; /* whose guards they are: a fork has the memory of this struct only */
    struct guard *newest;
    uint32_t next; /* where to look for a free ward */
    bool minds_forks;
} ours = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* In a fork, where another thread may have held the lock. */
static void forget_in_child(void)
{
    pthread_mutex_init(&ours.lock, NULL);
    ours.newest = NULL;
    ours.owner = 0;
}

/* The guard is started as any plan is; what the launcher shares with us then are the wards. */
static int start_guard(int64_t until, struct nsd_trace **ret_trace,
                       enum nsd_start_stage *reterr_stage)
{
    const int64_t patience = nsd_now() + PATIENCE;
    const int64_t deadline = until < patience ? until : patience;
    /* Ours may be closed, and a guard must not hold a terminal open for a moment. */
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    const struct nsd_launch_options options = {
        .stdio = {null, null, null},
        .deadline = deadline,
        .shared = SHARED,
    };
    struct nsd_builder plan;
    struct nsd_child first;
    int ret, not_taken, status = -1;

    nsd_builder_init(&plan);
    nsd_add(&plan, NSD_WATCH);
    nsd_add(&plan, NSD_GUARD);
    ret = plan.error;
    if (ret == 0)
        ret = nsd_launch_start(&plan, &options, &first, reterr_stage);
    nsd_builder_free(&plan);
    if (null >= 0)
        close(null);
    if (ret < 0)
        return ret;
    *reterr_stage = NSD_START_GUARD;
    while (nsd_launch_wait(&first, deadline) == -EINTR)
        continue;
    if (!nsd_reap_until(first.first, deadline, &status))
        nsd_end(first.first, NULL, NULL);
    not_taken = nsd_why_not_taken(status);
    for (uint32_t i = 0; i < first.step_count && ret == 0; i++)
        ret = -first.trace->results[i].error;
    if (ret == 0 && first.trace->guard == 0 && not_taken == 0) /* killed on its way */
        not_taken = nsd_now() < until ? -ECHILD : -ETIMEDOUT;
    if (ret == 0 && first.trace->guard == 0)
        ret = not_taken;
    if (ret < 0) {
        munmap(first.trace, first.trace_size);
        return ret;
    }
    madvise(first.trace, first.trace_size, MADV_DONTFORK);
    *ret_trace = first.trace;
    return 0;
}

static void remember(struct guard *guard)
{
    guard->pid = (pid_t)(guard->trace->guard & FUTEX_TID_MASK);
    if (nsd_process_birth(guard->pid, &guard->birth) < 0)
        guard->pid = 0;
}

/* Who takes orphans in has guards that left for children. */
static void reap_guard(struct guard *guard)
{
    int64_t birth;

    if (guard->pid > 0 && nsd_process_birth(guard->pid, &birth) == 0 &&
        birth == guard->birth)
        waitpid(guard->pid, NULL, WNOHANG);
    guard->pid = 0;
}

static bool is_on_guard(const struct guard *guard)
{
    uint32_t holder = __atomic_load_n(&guard->trace->guard, __ATOMIC_ACQUIRE);

    return (holder & FUTEX_OWNER_DIED) == 0;
}

static int take_place(struct nsd_trace *trace, const struct guard *guard)
{
    /* A second sight of the old pages. */
    struct nsd_trace *old = mremap(guard->trace, 0, SHARED, MREMAP_MAYMOVE);
    const struct nsd_ward *wards;

    if (old == MAP_FAILED)
        return -errno;
    wards = (const struct nsd_ward *)(const void *)((char *)old + NSD_PAGE);
    memcpy((char *)trace + NSD_PAGE, wards, SHARED - NSD_PAGE);
    if (mremap(trace, SHARED, SHARED, MREMAP_MAYMOVE | MREMAP_FIXED, guard->trace) ==
        MAP_FAILED) {
        int error = errno;

        munmap(old, SHARED);
        return -error;
    }
    /* Who was cloned in between. */
    for (uint32_t i = 0; i < NSD_WARD_COUNT; i++) {
        int32_t taken = -1, pid = __atomic_load_n(&wards[i].pid, __ATOMIC_ACQUIRE);

        if (pid > 0)
            __atomic_compare_exchange_n(&guard->wards[i].pid, &taken, pid, false,
                                        __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
    }
    munmap(old, SHARED);
    return 0;
}

/* It was killed, and the one beside it at the same moment; or it had nothing to do and left.
 * Another gets its wards, which lie in that one's pages from now on, at the address where they
 * were. */
static int relieve(struct guard *guard, int64_t deadline,
                   enum nsd_start_stage *reterr_stage)
{
    struct nsd_trace *trace;
    int ret;

    reap_guard(guard);
    ret = start_guard(deadline, &trace, reterr_stage);
    if (ret < 0)
        return ret;
    ret = take_place(trace, guard);
    if (ret < 0)
        munmap(trace, SHARED);
    else
        remember(guard);
    return ret;
}

/* One more, since there is none, or the others are full. */
static int add_guard(int64_t deadline, enum nsd_start_stage *reterr_stage)
{
    struct guard *guard = malloc(sizeof(*guard));
    int ret =
        guard == NULL ? -ENOMEM : start_guard(deadline, &guard->trace, reterr_stage);

    if (ret < 0) {
        free(guard);
        return ret;
    }
    guard->wards = (struct nsd_ward *)(void *)((char *)guard->trace + NSD_PAGE);
    remember(guard);
    guard->older = ours.newest;
    ours.newest = guard;
    ours.owner = getpid();
    ours.next = 0;
    return 0;
}

static struct nsd_ward *free_ward(const struct guard *guard)
{
    for (uint32_t i = 0; i < NSD_WARD_COUNT; i++) {
        struct nsd_ward *ward = &guard->wards[(ours.next + i) % NSD_WARD_COUNT];

        if (__atomic_load_n(&ward->pid, __ATOMIC_ACQUIRE) != 0)
            continue;
        ours.next = (ours.next + i + 1) % NSD_WARD_COUNT;
        ward->since = 0;
        ward->group = 0;
        ward->pid = -1;
        /* A guard that leaves says so first, and looks at the wards then. */
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        if (is_on_guard(guard))
            return ward;
        __atomic_store_n(&ward->pid, 0, __ATOMIC_RELEASE);
        return NULL;
    }
    return NULL;
}

int nsd_ward_take(int64_t deadline, struct nsd_ward **ret_ward,
                  enum nsd_start_stage *reterr_stage)
{
    struct nsd_ward *ward = NULL;
    int ret = 0;

    *ret_ward = NULL;
    if (getpid() ==
        1) /* of a pid namespace: with it, the kernel ends everybody there */
        return 0;
    pthread_mutex_lock(&ours.lock);
    if (!ours.minds_forks)
        ours.minds_forks = pthread_atfork(NULL, NULL, forget_in_child) == 0;
    if (ours.owner != getpid())
        ours.newest = NULL;
    for (struct guard *guard = ours.newest; guard != NULL && ret == 0;
         guard = guard->older)
        if (!is_on_guard(guard))
            ret = relieve(guard, deadline, reterr_stage);
    for (struct guard *guard = ours.newest; guard != NULL && ret == 0 && ward == NULL;
         guard = guard->older)
        ward = free_ward(guard);
    if (ret == 0 && ward == NULL) {
        ret = add_guard(deadline, reterr_stage);
        if (ret == 0)
            ward = free_ward(ours.newest);
    }
    pthread_mutex_unlock(&ours.lock);
    if (ret == 0)
        *ret_ward = ward;
    return ret;
}

void nsd_ward_is(struct nsd_ward *ward, pid_t command)
{
    struct timespec now;

    clock_gettime(CLOCK_BOOTTIME, &now);
    pthread_mutex_lock(&ours.lock);
    ward->since = (uint64_t)now.tv_sec * NSD_TICKS_PER_SECOND +
                  (uint64_t)now.tv_nsec / (1000000000u / NSD_TICKS_PER_SECOND);
    __atomic_store_n(&ward->pid, command, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&ours.lock);
}

void nsd_ward_give_back(struct nsd_ward *ward)
{
    if (ward == NULL)
        return;
    pthread_mutex_lock(&ours.lock); /* it might just move */
    __atomic_store_n(&ward->pid, 0, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&ours.lock);
}
