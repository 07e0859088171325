#include "launch.h"

#include "../counter.h"
#include "image.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/futex.h>
#include <linux/memfd.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

/* ---- the vfork zone ------------------------------------------------------------------
 *
 * child_* functions run in the vfork child: in our memory, on a stack inside our frame,
 * with all signals blocked, while the calling thread sleeps and others run on. No malloc,
 * no stdio, no locks, no return to Python. The descriptor table is shared with the parent
 * until child_own_descriptors has run, and nothing may be opened or closed before.
 *
 * What the child makes, it makes after that: the plan's and the image's memfds are born in
 * its small private table with low numbers and never exist in the parent, so that no fork
 * of another thread can inherit them, and 10,000 open files cost nothing. The trace's
 * mapping is made here too: mappings are shared, descriptors are not.
 *
 * The way out is execveat, or the first error noted in start->stage and start->error.
 */

struct start {
    const struct nsd_builder *plan;
    const struct nsd_launch_options *options;
    struct nsd_child *child;
    char *bytes; /* the plan as it lies in its file, behind the trace */
    size_t size;
    int *kept; /* ascending: descriptors above 2 that the launcher gets */
    int kept_count;
    enum nsd_start_stage stage;
    int error;
};

static void child_close_range(unsigned int first, unsigned int last)
{
    if (first > last || syscall(SYS_close_range, first, last, 0) == 0)
        return;
    for (unsigned int fd = first; fd <= last && fd < 65536; fd++)
        close((int)fd);
}

/* A table of our own that ends behind the last descriptor we keep: the kernel copies only
 * that part. */
static int child_own_descriptors(const struct start *start)
{
    unsigned int above = start->kept_count == 0
                             ? 3u
                             : (unsigned int)start->kept[start->kept_count - 1] + 1u;

    if (syscall(SYS_close_range, above, ~0u, CLOSE_RANGE_UNSHARE) == 0)
        return 0;
    /* Before Linux 5.9, or refused by a seccomp filter. */
    if (unshare(CLONE_FILES) < 0)
        return -1;
    child_close_range(above, ~0u);
    return 0;
}

/* What becomes the command's 0, 1 or 2 is kept only until then, under its own number. */
static bool child_is_handed_on(const struct start *start, int fd)
{
    for (int i = 0; i < start->options->pass_count; i++)
        if (start->options->pass_fds[i] == fd)
            return true;
    for (int i = 0; i < NSD_SLOTS; i++)
        if (start->plan->slot[i] == fd)
            return true;
    return false;
}

static int child_arrange_descriptors(const struct start *start)
{
    int from[3];
    unsigned int next = 3;

    for (int i = 0; i < 3; i++) {
        from[i] = start->options->stdio[i];
        /* Out of each other's way: stdout=0 with stdin=1 must not meet half-way. */
        if (from[i] >= 0 && from[i] < 3 && from[i] != i)
            from[i] = fcntl(from[i], F_DUPFD_CLOEXEC, 3);
        if (from[i] < 0 && start->options->stdio[i] >= 0)
            return -1;
    }
    for (int i = 0; i < 3; i++) {
        if (from[i] == i && fcntl(i, F_SETFD, 0) < 0)
            return -1;
        if (from[i] > 2 && dup3(from[i], i, 0) < 0)
            return -1;
    }
    for (int i = 0; i < start->kept_count; i++) {
        int flag = child_is_handed_on(start, start->kept[i]) ? 0 : FD_CLOEXEC;

        if (fcntl(start->kept[i], F_SETFD, flag) < 0)
            return -1;
        child_close_range(next, (unsigned int)start->kept[i] - 1u);
        next = (unsigned int)start->kept[i] + 1u;
    }
    /* What lies above was not copied, but a moved stdio descriptor may. */
    child_close_range(next, next + 8);
    return 0;
}

static int child_write_all(int fd, const void *data, size_t size)
{
    const char *bytes = data;

    while (size > 0) {
        ssize_t written = write(fd, bytes, size);

        if (written < 0)
            return -1;
        bytes += written;
        size -= (size_t)written;
    }
    return 0;
}

static int child_memfd(const char *name, unsigned int flags, unsigned int newer_flag)
{
    int fd = (int)syscall(SYS_memfd_create, name, flags | newer_flag);

    if (fd < 0 && errno == EINVAL) /* before Linux 6.3 */
        fd = (int)syscall(SYS_memfd_create, name, flags);
    return fd;
}

/* A file without a name, for where memfds are refused. */
static int child_tmpfile(void)
{
    static const char *const places[] = {"/dev/shm", "/tmp", "/var/tmp", "/run"};

    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        int fd = open(places[i], O_TMPFILE | O_RDWR | O_CLOEXEC, 0700);

        if (fd >= 0)
            return fd;
    }
    return -1;
}

/* The launcher, in a file that nobody can change: not its bytes, not its mode (a container
 * root with our uid could otherwise chmod it through /proc). */
static int child_sealed_image(void)
{
    const int seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
    int fd = child_memfd("nsdemo", MFD_CLOEXEC | MFD_ALLOW_SEALING, 0x10 /* MFD_EXEC */);

    if (fd < 0)
        return -1;
    if (child_write_all(fd, nsd_image, nsd_image_size) < 0 || fchmod(fd, 0555) < 0)
        return -1;
    if (fcntl(fd, F_ADD_SEALS, seals | 0x20 /* F_SEAL_EXEC */) < 0 &&
        fcntl(fd, F_ADD_SEALS, seals) < 0) /* before Linux 6.3 */
        return -1;
    return fd;
}

/* A file that is open for writing cannot be executed, so it is opened once more. */
static int child_image_in_tmpfile(void)
{
    char path[40] = "/proc/self/fd/";
    int writable = child_tmpfile();
    char digits[12];
    size_t at = strlen(path), n = 0;
    int fd;

    if (writable < 0 || child_write_all(writable, nsd_image, nsd_image_size) < 0 ||
        fchmod(writable, 0555) < 0)
        return -1;
    for (int rest = writable; rest > 0; rest /= 10)
        digits[n++] = (char)('0' + rest % 10);
    while (n > 0)
        path[at++] = digits[--n];
    fd = open(path, O_RDONLY | O_CLOEXEC);
    close(writable);
    return fd;
}

static int child_make_plan(struct start *start)
{
    struct nsd_child *child = start->child;
    int fd = child_memfd("nsdemo-plan", 0, 0x8 /* MFD_NOEXEC_SEAL */);
    void *trace;

    if (fd < 0) {
        fd = child_tmpfile();
        if (fd < 0 || fcntl(fd, F_SETFD, 0) < 0)
            return -1;
    }
    /* Writing behind the trace makes the file as long as it must be; the trace is zeros. */
    if (lseek(fd, (off_t)child->trace_size, SEEK_SET) < 0 ||
        child_write_all(fd, start->bytes, start->size) < 0)
        return -1;
    trace = mmap(NULL, child->trace_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (trace == MAP_FAILED)
        return -1;
    child->trace = trace;
    child->waiting_state = (uint32_t)syscall(SYS_getpid) | FUTEX_WAITERS;
    child->trace->state = child->waiting_state;
    child->trace->plan_offset = (uint32_t)child->trace_size;
    return fd;
}

/* An ignored signal stays ignored across exec, and CPython ignores some; a command expects
 * the defaults. Handlers are reset by exec itself. */
static void child_reset_signals(void)
{
    struct {
        void (*handler)(int);
        unsigned long flags;
        void (*restorer)(void);
        uint64_t mask;
    } action;

    for (int i = 1; i <= 64; i++) {
        if (syscall(SYS_rt_sigaction, i, NULL, &action, sizeof(action.mask)) != 0 ||
            action.handler != SIG_IGN)
            continue;
        memset(&action, 0, sizeof(action));
        syscall(SYS_rt_sigaction, i, &action, NULL, sizeof(action.mask));
    }
}

static void child_write_number(char *to, unsigned long value)
{
    char digits[24];
    int n = 0;

    do
        digits[n++] = (char)('0' + value % 10);
    while ((value /= 10) > 0);
    while (n > 0)
        *to++ = digits[--n];
    *to = '\0';
}

static void child_execute(int image, int plan, size_t plan_size)
{
    /* As long as "nsdemo-watch" and "nsdemo-init", which those who stay write over it. */
    char name[] = "nsdemo-start", number[24], size[24];
    char *argv[] = {name, number, size, NULL};
    char *envp[] = {NULL}; /* /proc/1/environ must not tell the host's */

    child_write_number(number, (unsigned long)plan);
    child_write_number(size, plan_size);
    syscall(SYS_execveat, image, "", argv, envp, AT_EMPTY_PATH);
}

/* A refused memfd (vm.memfd_noexec=2, a seccomp filter) shows at its creation or only at
 * execution; then the next way is tried. */
static int child_execute_image(struct start *start, int plan)
{
    size_t size = start->child->trace_size + start->size;
    int image = child_sealed_image();

    if (image >= 0)
        child_execute(image, plan, size);
    if (start->options->image_path != NULL) {
        image = open(start->options->image_path, O_RDONLY | O_CLOEXEC);
        if (image >= 0)
            child_execute(image, plan, size);
    }
    image = child_image_in_tmpfile();
    if (image >= 0)
        child_execute(image, plan, size);
    return -1;
}

static int child_main(void *argument)
{
    struct start *start = argument;
    int plan;

    start->stage = NSD_START_DESCRIPTORS;
    if (child_own_descriptors(start) == 0 && child_arrange_descriptors(start) == 0) {
        start->stage = NSD_START_PLAN;
        plan = child_make_plan(start);
        if (plan >= 0) {
            start->stage = NSD_START_EXECUTE;
            child_reset_signals();
            child_execute_image(start, plan);
        }
    }
    start->error = errno == 0 ? EIO : errno;
    _exit(127);
}

/* ---- the parent ---------------------------------------------------------------------- */

static int compare_ints(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

/* All descriptors above 2 that must survive in the child's table, ascending. */
static int collect_kept(struct start *start)
{
    const struct nsd_launch_options *options = start->options;
    int count = 0, unique = 0;

    start->kept = malloc(((size_t)options->pass_count + NSD_SLOTS + 3) * sizeof(int));
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
    qsort(start->kept, (size_t)count, sizeof(int), compare_ints);
    for (int i = 0; i < count; i++)
        if (unique == 0 || start->kept[unique - 1] != start->kept[i])
            start->kept[unique++] = start->kept[i];
    start->kept_count = unique;
    return 0;
}

/* The layout of plan.h, in one piece. */
static int serialize(struct start *start)
{
    const struct nsd_builder *plan = start->plan;
    const struct nsd_vector *vectors[] = {&plan->argv, &plan->envp, &plan->paths};
    struct nsd_plan_head head = {
        .magic = NSD_MAGIC,
        .step_count = plan->step_count,
        .argv_count = plan->argv.count,
        .envp_count = plan->envp.count,
        .path_count = plan->paths.count,
        .parent = start->child->owner,
    };
    size_t steps_size = plan->step_count * sizeof(struct nsd_step);
    char *at;

    memcpy(head.slot, plan->slot, sizeof(head.slot));
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

static void describe(struct nsd_child *child, const struct nsd_builder *plan)
{
    size_t size = sizeof(struct nsd_trace) + plan->step_count * sizeof(struct nsd_result);
    bool leads_group = false;

    *child = (struct nsd_child){.owner = getpid(), .pidfd = -1};
    child->trace_size = (size + NSD_PAGE - 1) & ~(size_t)(NSD_PAGE - 1);
    child->step_count = plan->step_count;
    for (uint32_t i = 0; i < plan->step_count; i++) {
        const struct nsd_step *step = &plan->steps[i];

        child->forked |= step->operation == NSD_FORK;
        child->has_init |= step->operation == NSD_INIT;
        child->has_watchdog |= step->operation == NSD_WATCH || step->operation == NSD_INIT;
        leads_group |= step->operation == NSD_SETSID ||
                       (step->operation == NSD_SETPGID && step->number[0] == 0);
    }
    child->own_group = leads_group && !child->has_init;
    pthread_mutex_init(&child->lock, NULL);
}

static void read_clocks(struct nsd_child *child, int which)
{
    child->counter[which] = nsd_counter();
    child->clock[which] = nsd_now();
}

/* clone(2) with our memory (no page tables to copy, however large the heap) and our
 * descriptors (until the child has copied those few that it needs). */
__attribute__((no_sanitize("address"))) static pid_t vfork_child(struct start *start)
{
    char stack[32 * 1024] __attribute__((aligned(16)));

    return clone(child_main, stack + sizeof(stack),
                 CLONE_VM | CLONE_VFORK | CLONE_FILES | SIGCHLD, start);
}

static void reap(pid_t pid)
{
    if (pid <= 0)
        return;
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        continue;
}

int nsd_launch_start(const struct nsd_builder *plan, const struct nsd_launch_options *options,
                     struct nsd_child *ret_child, enum nsd_start_stage *reterr_stage)
{
    struct start start = {.plan = plan, .options = options, .child = ret_child};
    const uint64_t every_signal = ~(uint64_t)0;
    uint64_t mask = 0;
    int ret;

    *reterr_stage = NSD_START_CLONE;
    describe(ret_child, plan);
    ret = collect_kept(&start);
    if (ret == 0)
        ret = serialize(&start);
    if (ret == 0) {
        read_clocks(ret_child, 0);
        /* Raw, because libc keeps two signals for itself, and those must wait as well. */
        syscall(SYS_rt_sigprocmask, SIG_BLOCK, &every_signal, &mask, sizeof(mask));
        ret_child->first = ret_child->first_pid = vfork_child(&start);
        if (ret_child->first < 0)
            ret = -errno;
        syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, sizeof(mask));
    }
    if (ret == 0 && start.error != 0) {
        ret = -start.error;
        *reterr_stage = start.stage;
        reap(ret_child->first);
    }
    if (ret == 0 && ret_child->trace == NULL) { /* killed before it said anything */
        ret = -ECANCELED;
        *reterr_stage = NSD_START_KILLED;
        reap(ret_child->first);
    }
    free(start.bytes);
    free(start.kept);
    if (ret < 0) {
        ret_child->first = 0;
        nsd_child_release(ret_child);
    }
    return ret;
}

static bool has_exited(pid_t pid)
{
    siginfo_t info = {0};

    return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0 ||
           info.si_pid == pid;
}

int nsd_launch_wait(struct nsd_child *child)
{
    /* The kernel wakes us when the first process dies; the time-out is for a kernel without
     * robust futexes. */
    const struct timespec patience = {.tv_nsec = 200 * 1000 * 1000};

    for (;;) {
        uint32_t state = __atomic_load_n(&child->trace->state, __ATOMIC_ACQUIRE);

        if (state != child->waiting_state)
            return 0;
        if (syscall(SYS_futex, &child->trace->state, FUTEX_WAIT, state, &patience) < 0) {
            if (errno == EINTR)
                return -EINTR;
            if (errno == ETIMEDOUT && has_exited(child->first))
                return 0;
        }
    }
}

/* The trace is shared memory: take a copy, and nothing from it that was not checked. */
static int take_results(struct nsd_child *child)
{
    size_t size = child->step_count * sizeof(struct nsd_result);

    child->results = malloc(size == 0 ? 1 : size);
    if (child->results == NULL)
        return -ENOMEM;
    memcpy(child->results, child->trace->results, size);
    for (uint32_t i = 0; i < child->step_count; i++)
        if (child->results[i].process > NSD_THIRD)
            child->results[i].process = NSD_NOBODY;
    return 0;
}

/* The first failure that ended the plan; a tolerated one is followed by another step. */
static bool find_failure(const struct nsd_child *child, uint32_t *ret_step)
{
    for (uint32_t i = child->step_count; i-- > 0;) {
        if (child->results[i].process == NSD_NOBODY)
            continue;
        *ret_step = i;
        return child->results[i].error != 0;
    }
    return false;
}

void nsd_launch_abandon(struct nsd_child *child)
{
    pid_t command = child->trace == NULL ? 0 : child->trace->command;

    /* Children of ours that nobody has reaped: their numbers are still theirs. */
    if (child->first > 0)
        kill(child->first, SIGKILL);
    if (child->forked && command > 0 && !has_exited(command))
        kill(command, SIGKILL);
    reap(child->first);
    if (child->forked)
        reap(child->trace == NULL ? 0 : child->trace->command);
    child->first = 0;
    child->reaped = true;
    nsd_child_release(child);
}

int nsd_launch_settle(struct nsd_child *child, uint32_t *reterr_step,
                      enum nsd_start_stage *reterr_stage)
{
    uint32_t last = 0;
    int ret = take_results(child);

    read_clocks(child, 1);
    if (ret < 0) {
        nsd_launch_abandon(child);
        return ret;
    }
    child->command = child->forked ? child->trace->command : child->first;
    if (find_failure(child, &last)) {
        *reterr_step = last;
        reap(child->first);
        if (child->forked)
            reap(child->command);
        child->reaped = true;
        return -ECANCELED;
    }
    if (last + 1 != child->step_count) { /* nobody reached the last step */
        *reterr_stage = NSD_START_KILLED;
        nsd_launch_abandon(child);
        return -ECHILD;
    }
    if (child->results[last].end == 0) /* executing the command ended this process's notes */
        child->results[last].end = child->counter[1];
    if (!child->forked) {
        child->first = 0;
    } else if (!child->has_watchdog) {
        reap(child->first);
        child->first = 0;
    }
    child->pidfd = (int)syscall(SYS_pidfd_open, child->command, 0);
    if (child->pidfd < 0 && errno != ESRCH) {
        ret = -errno;
        *reterr_stage = NSD_START_PIDFD;
        nsd_child_release(child);
        return ret;
    }
    if (!child->has_init) {
        munmap(child->trace, child->trace_size);
        child->trace = NULL;
    }
    return 0;
}
