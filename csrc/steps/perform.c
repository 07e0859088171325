/* perform.c - going through a plan: where its parts lie, what came of a step, the execution. */
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

void nsd_default_signals(uint64_t ignored)
{
    const struct {
        uint64_t handler; /* SIG_DFL */
        uint64_t flags, restorer, mask;
    } action = {0};

    for (int i = 1; ignored != 0; i++, ignored >>= 1)
        if ((ignored & 1) != 0)
            sys4(__NR_rt_sigaction, i, &action, 0, sizeof(action.mask));
}

/* During execve there is a moment in which root inside may look at the new process, and
 * descriptors that are to be closed by it are still open. */
static void close_what_we_hold(struct nsd_launch *launch)
{
    nsd_let_go(launch);
    for (int i = 0; i < NSD_SLOTS; i++)
        if (launch->slot[i] >= 0)
            sys1(__NR_close, launch->slot[i]);
    if (launch->parent >= 0)
        sys1(__NR_close, launch->parent);
}

/* Asking is cheaper than trying. -ENOENT; 1: a set-user-ID or set-group-ID program; else 0, also
 * for whatever execve will complain of. */
static long look_at(const char *path)
{
    struct stat file;
    long ret = sys4(__NR_newfstatat, AT_FDCWD, path, &file, 0);

    if (ret < 0)
        return ret == -ENOENT ? ret : 0;
    return (file.st_mode & NSD_SET_ID) != 0;
}

/* Such a program is not ended with its parent, the kernel forgets that. The launcher's first
 * process will watch over it, if there is one; Python's vfork child asks for a guard. */
static bool is_looked_after(struct nsd_launch *launch)
{
    if (launch->trace != NULL)
        launch->trace->is_set_id = 1;
    else
        launch->needs_guard = !launch->guarded;
    return !launch->needs_guard;
}

/* Tries each path as execvp(3) does. */
void nsd_execute(struct nsd_launch *launch)
{
    struct nsd_result *result = &launch->results[launch->head->step_count - 1];
    char **argv = launch->vectors;
    char **envp = argv + launch->head->argv_count + 1;
    char **paths = envp + launch->head->envp_count + 1;
    const uint64_t no_signals = 0;
    long error = -ENOENT, tried = 0;

    result->process = launch->self;
    result->start = nsd_counter();
    if (launch->self != NSD_FIRST)
        close_what_we_hold(launch);
    sys4(__NR_rt_sigprocmask, SIG_SETMASK, &no_signals, 0, sizeof(no_signals));
    for (long i = 0; paths[i] != NULL; i++) {
        long ret = 0;

        if (launch->borrowed)
            ret = nsd_check_command(paths[i]);
        else if (paths[i + 1] != NULL || launch->parent_pid != 0)
            ret = look_at(paths[i]);
        if (ret > 0 && launch->parent_pid != 0 && !is_looked_after(launch))
            return;
        if (ret >= 0)
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

bool nsd_lay_out(struct nsd_launch *launch)
{
    struct nsd_plan_head *head = launch->head;
    size_t steps_size = head->step_count * sizeof(struct nsd_step);
    uint64_t *offsets = (uint64_t *)(void *)((char *)(head + 1) + steps_size);
    size_t vectors = (size_t)head->argv_count + head->envp_count + head->path_count + 3;
    size_t before = sizeof(*head) + steps_size + vectors * sizeof(*offsets);

    launch->steps = (const struct nsd_step *)(head + 1);
    launch->text = (const char *)(offsets + vectors);
    launch->vectors = (char **)(void *)offsets;
    if (launch->plan_size < sizeof(*head) || head->step_count == 0 ||
        head->step_count > NSD_MAX_STEPS || launch->plan_size <= before)
        return false;
    launch->text_size = (uint32_t)(launch->plan_size - before);
    if (launch->text[launch->text_size - 1] != '\0' ||
        !lay_out_vectors(launch, offsets))
        return false;
    for (int i = 0; i < NSD_SLOTS; i++) {
        launch->slot[i] = head->slot[i];
        if (head->slot[i] >= 0)
            sys3(__NR_fcntl, head->slot[i], F_SETFD, FD_CLOEXEC);
    }
    launch->highest = head->highest;
    launch->parent = -1;
    launch->helper = -1;
    return true;
}
