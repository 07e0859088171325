/* perform.c - going through a plan: where its parts lie, a step and what came of it, the
 * execution of the command. */
#include "constants.h"
#include "steps.h"

#include <asm/stat.h>
#include <linux/errno.h>
#include <linux/fcntl.h>
#include <linux/signal.h>

const char *nsd_text(const struct nsd_launch *launch, const struct nsd_step *step,
                     int n)
{
    return step->text[n] == 0 ? NULL : launch->text + step->text[n];
}

static bool is_tolerated(const struct nsd_step *step, long ret)
{
    return (ret == -EPERM && (step->flags & NSD_TOLERATES_EPERM) != 0) ||
           (ret == -EINVAL && (step->flags & NSD_TOLERATES_EINVAL) != 0);
}

/* They change who we are. */
long nsd_elsewhere(struct nsd_launch *launch, const struct nsd_step *step)
{
    (void)launch;
    (void)step;
    return -ENOSYS;
}

long nsd_perform(struct nsd_launch *launch, const struct nsd_step *step)
{
    static long (*const functions[])(struct nsd_launch *, const struct nsd_step *) = {
#define ROW(name, word, function, way, numbers, texts) function,
#include "../operations.def"
    };
    long ret = nsd_check_step(step, launch->text, launch->text_size);

    return ret < 0 ? ret : functions[step->operation](launch, step);
}

bool nsd_perform_noted(struct nsd_launch *launch, uint32_t index)
{
    const struct nsd_step *step = &launch->steps[index];
    struct nsd_result *result = &launch->results[index];
    long ret;

    result->process =
        step->operation == NSD_PIN && step->number[1] < 0 ? NSD_CALLER : launch->self;
    result->start = nsd_counter();
    ret = nsd_perform(launch, step);
    result->end = nsd_counter();
    if (ret < 0)
        result->error = (int32_t)-ret;
    else
        result->value = ret;
    return ret >= 0 || is_tolerated(step, ret);
}

/* As the kernel has it. */
struct action {
    uint64_t handler; /* 0: SIG_DFL, 1: SIG_IGN */
    uint64_t flags, restorer, mask;
};

uint64_t nsd_ignored_signals(void)
{
    struct action action;
    uint64_t ignored = NSD_IS_KNOWN;

    for (int i = 1; i <= 64; i++)
        if (sys4(__NR_rt_sigaction, i, 0, &action, sizeof(action.mask)) == 0 &&
            action.handler == 1)
            ignored |= (uint64_t)1 << (i - 1);
    return ignored;
}

/* The calling thread, which has nothing else to do meanwhile, looks which they are; if it has not
 * come to that yet, we do: for us the same ones are ignored. */
void nsd_default_signals(struct nsd_launch *launch)
{
    const struct action action = {0};
    uint64_t ignored = 0;

    if (launch->defaults)
        return;
    launch->defaults = true;
    if (launch->ignored != NULL)
        ignored = __atomic_load_n(launch->ignored, __ATOMIC_RELAXED);
    if ((ignored & NSD_IS_KNOWN) == 0)
        ignored = nsd_ignored_signals();
    for (int i = 1; ignored != 0; i++, ignored >>= 1)
        if ((ignored & 1) != 0 && i != SIGKILL)
            sys4(__NR_rt_sigaction, i, &action, 0, sizeof(action.mask));
}

/* The paths to try, as execvp(3) does. */
static char **paths_of(const struct nsd_launch *launch)
{
    return launch->vectors + launch->head->argv_count + launch->head->envp_count + 2;
}

/* Is the first of the paths that there is a set-user-ID or set-group-ID program? The kernel does
 * not end such a one with its parent. This only chooses who does: the first process then stays. */
static bool is_set_id(struct nsd_launch *launch)
{
    char **paths = paths_of(launch);

    for (long i = 0; paths[i] != NULL; i++) {
        struct stat file;
        long ret = sys4(__NR_newfstatat, AT_FDCWD, paths[i], &file, 0);

        if (ret != -ENOENT && launch->absent < 0)
            launch->absent = i;
        if (ret == 0)
            return (file.st_mode & (S_ISUID | S_ISGID)) != 0;
    }
    return false;
}

/* The numbers stay: with whom we share our memory, his descriptors are still open. */
static void close_what_we_hold(struct nsd_launch *launch)
{
    nsd_let_go(launch);
    for (int i = 0; i < NSD_SLOTS; i++)
        if (launch->slot[i] >= 0)
            sys1(__NR_close, launch->slot[i]);
    if (launch->parent >= 0)
        sys1(__NR_close, launch->parent);
}

long nsd_get_ready(struct nsd_launch *launch)
{
    const uint64_t no_signals = 0;

    if (launch->ready)
        return 0;
    launch->ready = true;
    nsd_default_signals(launch);
    if (launch->self != NSD_FIRST && launch->parent_pid != 0)
        launch->trace->is_set_id = is_set_id(launch);
    close_what_we_hold(launch);
    return sys4(__NR_rt_sigprocmask, SIG_SETMASK, &no_signals, 0, sizeof(no_signals));
}

/* Asking is cheaper than trying, where a filter cannot mind it, and of the last one. */
static bool leads_nowhere(const struct nsd_launch *launch, char **paths, long i)
{
    struct stat file;

    if (launch->absent >= 0)
        return i < launch->absent;
    return paths[i + 1] != NULL &&
           sys4(__NR_newfstatat, AT_FDCWD, paths[i], &file, 0) == -ENOENT;
}

/* Tries each path as execvp(3) does. */
void nsd_execute(struct nsd_launch *launch)
{
    struct nsd_result *result = &launch->results[launch->head->step_count - 1];
    char **argv = launch->vectors;
    char **envp = argv + launch->head->argv_count + 1;
    char **paths = paths_of(launch);
    bool asks = !launch->ready && paths[0] != NULL && paths[1] != NULL;
    long error = -ENOENT, tried = 0;
    long ready = nsd_get_ready(launch);

    result->process = launch->self;
    result->start = nsd_counter();
    if (ready < 0) /* a filter of the caller's: the command would be deaf */
        error = ready;
    for (long i = 0; ready == 0 && paths[i] != NULL; i++) {
        long ret = -ENOENT;

        if (!asks || !leads_nowhere(launch, paths, i))
            ret = sys3(__NR_execve, paths[i], argv, envp);
        if (ret == -ENOENT || (ret == -ENOTDIR && paths[1] != NULL))
            continue;
        tried = i;
        error = ret;
        if (ret != -EACCES)
            break;
    }
    result->end = nsd_counter();
    result->value = tried; /* the path that the error is about */
    result->error = (int32_t)-error;
}

/* Texts are offsets in the plan, and become pointers; every vector ends with NULL. */
static bool lay_out_vectors(struct nsd_launch *launch, uint64_t *offsets)
{
    const struct nsd_plan_head *head = launch->head;
    const size_t count[] = {head->argv_count, head->envp_count, head->path_count};

    for (int n = 0; n < 3; n++) {
        for (size_t i = 0; i < count[n]; i++, offsets++) {
            if (*offsets >= launch->text_size)
                return false;
            if (*offsets != 0)
                *offsets += (uint64_t)(uintptr_t)launch->text;
        }
        if (*offsets++ != 0)
            return false;
    }
    return true;
}

bool nsd_find_steps(struct nsd_launch *launch)
{
    const struct nsd_plan_head *head = launch->head;
    size_t vectors = (size_t)head->argv_count + head->envp_count + head->path_count + 3;
    size_t before = sizeof(*head) + head->step_count * sizeof(struct nsd_step) +
                    vectors * sizeof(uint64_t);

    launch->steps = (const struct nsd_step *)(head + 1);
    launch->vectors = (char **)(uintptr_t)(launch->steps + head->step_count);
    launch->text = (const char *)(launch->vectors + vectors);
    if (launch->plan_size < sizeof(*head) || head->step_count == 0 ||
        head->step_count > NSD_MAX_STEPS || launch->plan_size <= before)
        return false;
    launch->text_size = (uint32_t)(launch->plan_size - before);
    return launch->text[launch->text_size - 1] == '\0';
}

bool nsd_lay_out(struct nsd_launch *launch)
{
    const struct nsd_plan_head *head = launch->head;

    if (!nsd_find_steps(launch) ||
        !lay_out_vectors(launch, (uint64_t *)(void *)launch->vectors))
        return false;
    for (int i = 0; i < NSD_SLOTS; i++) {
        launch->slot[i] = head->slot[i];
        if (head->slot[i] >= 0)
            sys3(__NR_fcntl, head->slot[i], F_SETFD, FD_CLOEXEC);
    }
    launch->highest = head->highest;
    launch->absent = -1;
    launch->parent = -1;
    launch->helper = -1;
    return true;
}
