#include "guard.h"

#include "namespaces.h"
#include "orphans.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE                                                                       \
    10000000000 /* ns that its start may take: somebody may have stopped it */
#define NSD_TICKS_PER_SECOND 100u /* USER_HZ, the unit of /proc/PID/stat */

/* The one state that the core keeps: it belongs to the process, as the guard does. */
static struct {
    pthread_mutex_t lock;
    pid_t owner; /* whose guard it is: a fork has the memory of this struct only */
    const struct nsd_trace *trace;
    struct nsd_ward *wards;
    uint32_t next; /* where to look for a free one */
    pid_t guard;
    int64_t birth; /* of the guard, as nsd_process_birth has it */
    bool minds_forks;
} ours = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void forget(void)
{
    ours.wards = NULL;
    ours.trace = NULL;
    ours.owner = 0;
    ours.guard = 0;
}

/* In a fork, where another thread may have held the lock. */
static void forget_in_child(void)
{
    pthread_mutex_init(&ours.lock, NULL);
    forget();
}

/* The guard is started as any plan is; what the launcher shares with us then are the wards. */
static int start_guard(const char *image_path, enum nsd_start_stage *reterr_stage)
{
    /* Ours may be closed, and a guard must not hold a terminal open for a moment. */
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    const struct nsd_launch_options options = {
        .stdio = {null, null, null},
        .image_path = image_path,
        .shared = (1u + NSD_WARD_PAGES) * NSD_PAGE,
    };
    const int64_t deadline = nsd_now() + PATIENCE;
    struct nsd_builder plan;
    struct nsd_child first;
    int ret, not_taken;

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
    not_taken = nsd_why_not_taken(first.first);
    if (!nsd_reap_until(first.first, deadline, NULL))
        nsd_end(first.first, NULL, NULL);
    for (uint32_t i = 0; i < first.step_count && ret == 0; i++)
        ret = -first.trace->results[i].error;
    if (ret == 0 && first.trace->guard == 0)
        ret = not_taken < 0 ? not_taken : -ECHILD; /* killed on its way */
    if (ret < 0) {
        munmap(first.trace, first.trace_size);
        return ret;
    }
    madvise(first.trace, first.trace_size, MADV_DONTFORK);
    ours.trace = first.trace;
    ours.wards = (struct nsd_ward *)(void *)((char *)first.trace + NSD_PAGE);
    ours.owner = getpid();
    ours.next = 0;
    ours.guard = (pid_t)(first.trace->guard & FUTEX_TID_MASK);
    if (nsd_process_birth(ours.guard, &ours.birth) < 0)
        ours.guard = 0;
    return 0;
}

/* Who takes orphans in has guards that left for children. */
static void reap_guard(void)
{
    int64_t birth;

    if (ours.guard > 0 && nsd_process_birth(ours.guard, &birth) == 0 &&
        birth == ours.birth)
        waitpid(ours.guard, NULL, WNOHANG);
    ours.guard = 0;
}

static bool is_on_guard(void)
{
    uint32_t guard;

    if (ours.wards == NULL || ours.owner != getpid())
        return false;
    guard = __atomic_load_n(&ours.trace->guard, __ATOMIC_ACQUIRE);
    return (guard & FUTEX_OWNER_DIED) == 0;
}

static struct nsd_ward *free_ward(void)
{
    for (uint32_t i = 0; i < NSD_WARD_COUNT; i++) {
        struct nsd_ward *ward = &ours.wards[(ours.next + i) % NSD_WARD_COUNT];

        if (__atomic_load_n(&ward->pid, __ATOMIC_ACQUIRE) != 0)
            continue;
        ours.next = (ours.next + i + 1) % NSD_WARD_COUNT;
        ward->since = 0;
        ward->group = 0;
        ward->pid = -1;
        /* A guard that leaves says so first, and looks at the wards then. */
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        if (is_on_guard())
            return ward;
        nsd_ward_give_back(ward);
        return NULL;
    }
    return NULL;
}

int nsd_ward_take(struct nsd_ward **ret_ward, const char *image_path,
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
    if (is_on_guard())
        ward = free_ward();
    if (ward == NULL) {
        /* A full one keeps its wards, and its pages stay: those point into them. */
        reap_guard();
        forget();
        ret = start_guard(image_path, reterr_stage);
        if (ret == 0)
            ward = free_ward();
    }
    pthread_mutex_unlock(&ours.lock);
    if (ret == 0)
        *ret_ward = ward;
    return ret;
}

void nsd_ward_born(struct nsd_ward *ward)
{
    struct timespec now;

    clock_gettime(CLOCK_BOOTTIME, &now);
    ward->since = (uint64_t)now.tv_sec * NSD_TICKS_PER_SECOND +
                  (uint64_t)now.tv_nsec / (1000000000u / NSD_TICKS_PER_SECOND);
}

void nsd_ward_give_back(struct nsd_ward *ward)
{
    if (ward != NULL)
        __atomic_store_n(&ward->pid, 0, __ATOMIC_RELEASE);
}
