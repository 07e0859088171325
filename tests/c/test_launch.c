/* The core without Python: plans are launched, talked to, waited for, broken and ended. */
#include "core/launch/guard.h"
#include "core/launch/settle.h"
#include "core/launch/vfork.h"
#include "core/namespaces.h"
#include "core/request.h"

#include "check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/wait.h>

static const struct nsd_launch_options inherit = {.stdio = {-1, -1, -1}};

/* ---- the sanitizer and the vfork zone --------------------------------------------------
 *
 * The vfork child leaves our memory by execveat, in the middle of its functions, so that what
 * AddressSanitizer noted about their frames stays behind in our stack. Linked with
 * --wrap=clone, this wipes it.
 */
#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif

int __real_clone(int (*entry)(void *), void *stack, int flags, void *argument, ...);
int __wrap_clone(int (*entry)(void *), void *stack, int flags, void *argument, ...);

#ifdef WITH_ASAN
void __asan_unpoison_memory_region(void const volatile *address, size_t size);
#endif

int __wrap_clone(int (*entry)(void *), void *stack, int flags, void *argument, ...)
{
    va_list rest;
    pid_t *parent_tid, *child_tid;
    void *tls;
    int ret;

    va_start(rest, argument);
    parent_tid = va_arg(rest, pid_t *);
    tls = va_arg(rest, void *);
    child_tid = va_arg(rest, pid_t *);
    va_end(rest);
    ret = __real_clone(entry, stack, flags, argument, parent_tid, tls, child_tid);

#ifdef WITH_ASAN
    if ((flags & CLONE_VFORK) != 0)
        __asan_unpoison_memory_region((char *)stack - 32 * 1024, 32 * 1024);
#endif
    return ret;
}

/* ---- helpers --------------------------------------------------------------------------- */

static void add_command(struct nsd_builder *builder, const char *const *argv)
{
    static const char path[] = "PATH=/usr/bin:/bin";

    for (int i = 0; argv[i] != NULL; i++)
        nsd_vector_add(builder, &builder->argv, argv[i], strlen(argv[i]));
    nsd_vector_add(builder, &builder->envp, path, strlen(path));
    nsd_vector_add(builder, &builder->paths, argv[0], strlen(argv[0]));
}

#define COMMAND(...) ((const char *const[]){__VA_ARGS__, NULL})
#define SHELL(script) COMMAND("/bin/sh", "-c", script)

/* A container as spawn() makes it, with a user namespace where we have no power. */
static struct nsd_request container(void)
{
    struct nsd_request request;

    nsd_request_init(&request);
    request.privileged = nsd_has_capability(21 /* CAP_SYS_ADMIN */);
    request.unshare = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID |
                      (request.privileged ? 0 : CLONE_NEWUSER);
    request.watch = true;
    request.new_session = true;
    return request;
}

static int launch(struct nsd_builder *plan, const struct nsd_launch_options *options,
                  struct nsd_child *ret_child, uint32_t *reterr_step)
{
    enum nsd_start_stage stage = NSD_START_CLONE;
    int ret;

    CHECK_NUMBER(plan->error, 0);
    ret = nsd_launch_start(plan, options, ret_child, &stage);
    nsd_builder_free(plan);
    if (ret < 0) {
        fprintf(stderr, "stage %d: %s\n", (int)stage, strerror(-ret));
        return ret;
    }
    while (nsd_launch_wait(ret_child, NSD_FOREVER) == -EINTR)
        continue;
    return nsd_launch_settle(ret_child, reterr_step, &stage);
}

/* Launches, or ends the test program: what fails here is not what is tested. */
static struct nsd_child launched(const struct nsd_request *request,
                                 const char *const *argv,
                                 const struct nsd_launch_options *options)
{
    struct nsd_builder plan;
    struct nsd_child child;
    uint32_t step = 0;
    int ret;

    nsd_builder_init(&plan);
    add_command(&plan, argv);
    nsd_recipe_spawn(&plan, request);
    ret = launch(&plan, options, &child, &step);
    if (ret == -ECANCELED)
        fprintf(stderr, "step %u: %s\n", step, strerror(child.results[step].error));
    CHECK_NUMBER(ret, 0);
    return child;
}

static int status_of(const struct nsd_request *request, const char *const *argv)
{
    struct nsd_child child = launched(request, argv, &inherit);
    int status;

    CHECK_NUMBER(nsd_child_wait(&child, NSD_FOREVER), 0);
    CHECK(child.reaped && !child.status_lost);
    status = child.status;
    nsd_child_release(&child);
    return status;
}

static int open_descriptors(void)
{
    DIR *directory = opendir("/proc/self/fd");
    int count = 0;

    CHECK(directory != NULL);
    while (readdir(directory) != NULL)
        count++;
    closedir(directory);
    return count;
}

static void no_child_is_left(void)
{
    CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
}

static struct nsd_request alone(void)
{
    struct nsd_request request;

    nsd_request_init(&request);
    return request;
}

/* ---- tests ----------------------------------------------------------------------------- */

static void a_command_runs_without_namespaces(void)
{
    struct nsd_request request = alone();

    CHECK_NUMBER(status_of(&request, COMMAND("/bin/true")), 0);
    CHECK_NUMBER(WEXITSTATUS(status_of(&request, SHELL("exit 7"))), 7);
    CHECK_NUMBER(WTERMSIG(status_of(&request, SHELL("kill -9 $$"))), SIGKILL);
}

static void a_command_is_pid_one_inside(void)
{
    struct nsd_request request = container();

    CHECK_NUMBER(status_of(&request, SHELL("test $$ = 1")), 0);
    request.mount_proc = true;
    CHECK_NUMBER(status_of(&request, SHELL("test -d /proc/1")), 0);
}

static void under_init_it_is_pid_two_and_its_signal_is_told(void)
{
    struct nsd_request request = container();

    request.init = true;
    CHECK_NUMBER(status_of(&request, SHELL("test $$ = 2")), 0);
    CHECK_NUMBER(WEXITSTATUS(status_of(&request, SHELL("exit 9"))), 9);
    CHECK_NUMBER(WTERMSIG(status_of(&request, SHELL("kill -15 $$"))), SIGTERM);
}

static void every_step_has_a_result_and_a_time(void)
{
    struct nsd_request request = container();
    struct nsd_child child = launched(&request, COMMAND("/bin/true"), &inherit);
    int64_t now = nsd_now(), before = 0;

    for (uint32_t i = 0; i < child.step_count; i++) {
        const struct nsd_result *result = &child.results[i];
        int64_t start = nsd_child_time(&child, result->start);

        CHECK_NUMBER(result->error, 0);
        CHECK(result->process == NSD_CALLER || result->process == NSD_FIRST ||
              result->process == NSD_SECOND);
        CHECK(start >= before && start <= nsd_child_time(&child, result->end));
        CHECK(start <= now && start > now - 60000000000);
        before = start;
    }
    CHECK_NUMBER(nsd_child_wait(&child, NSD_FOREVER), 0);
    nsd_child_release(&child);
}

static void talk(struct nsd_child *child, struct nsd_streams *streams)
{
    int ret;

    do
        ret = nsd_child_communicate(child, streams, NSD_FOREVER);
    while (ret == -EINTR);
    CHECK_NUMBER(ret, 0);
}

static void a_megabyte_goes_in_and_comes_out(void)
{
    const size_t size = 1024 * 1024;
    char *input = malloc(size);
    struct nsd_request request = alone();
    struct nsd_streams streams = {.output[0].fd = -1, .output[1].fd = -1};
    struct nsd_child child;
    int in[2], out[2];

    CHECK(input != NULL);
    for (size_t i = 0; i < size; i++)
        input[i] = (char)(i * 31 % 251);
    CHECK(pipe2(in, O_CLOEXEC) == 0 && pipe2(out, O_CLOEXEC) == 0);
    child = launched(&request, COMMAND("/bin/cat"),
                     &(struct nsd_launch_options){.stdio = {in[0], out[1], -1}});
    close(in[0]);
    close(out[1]);
    streams.input_fd = in[1];
    streams.input = input;
    streams.input_left = size;
    streams.output[0].fd = out[0];
    talk(&child, &streams);
    CHECK_NUMBER(child.status, 0);
    CHECK_NUMBER(streams.output[0].size, size);
    CHECK(memcmp(streams.output[0].data, input, size) == 0);
    CHECK(streams.input_fd == -1 && streams.output[0].fd == -1);
    free(streams.output[0].data);
    free(input);
    nsd_child_release(&child);
}

static void a_command_that_does_not_listen_hurts_nobody(void)
{
    static const char input[256 * 1024];
    struct nsd_request request = alone();
    struct nsd_streams streams = {.output[0].fd = -1, .output[1].fd = -1};
    struct nsd_child child;
    int in[2];

    signal(SIGPIPE, SIG_IGN);
    CHECK_NUMBER(pipe2(in, O_CLOEXEC), 0);
    child = launched(&request, COMMAND("/bin/true"),
                     &(struct nsd_launch_options){.stdio = {in[0], -1, -1}});
    close(in[0]);
    streams.input_fd = in[1];
    streams.input = input;
    streams.input_left = sizeof(input);
    talk(&child, &streams);
    CHECK_NUMBER(child.status, 0);
    nsd_child_release(&child);
    signal(SIGPIPE, SIG_DFL);
}

static void descriptors_get_out_of_each_others_way(void)
{
    struct nsd_request request = alone();
    struct nsd_child child;
    struct nsd_streams streams = {.input_fd = -1, .output[1].fd = -1};
    int passed[1], out[2], err[2];

    CHECK(pipe2(out, O_CLOEXEC) == 0 && pipe2(err, O_CLOEXEC) == 0);
    passed[0] = err[1];
    child = launched(
        &request, SHELL("echo out; ls /proc/self/fd | wc -l >&2; test -e /dev/fd/0"),
        &(struct nsd_launch_options){
            .stdio = {0, out[1], err[1]}, .pass_fds = passed, .pass_count = 1});
    close(out[1]);
    close(err[1]);
    streams.output[0].fd = out[0];
    streams.output[1].fd = err[0];
    talk(&child, &streams);
    CHECK_NUMBER(child.status, 0);
    CHECK_NUMBER(streams.output[0].size, 4);
    CHECK(memcmp(streams.output[0].data, "out\n", 4) == 0);
    /* 0, 1, 2, the one that was passed, and that of ls for the directory */
    CHECK_NUMBER(streams.output[1].size, 2);
    CHECK(memcmp(streams.output[1].data, "5\n", 2) == 0);
    free(streams.output[0].data);
    free(streams.output[1].data);
    nsd_child_release(&child);
}

/* A plan of one step before exec, which fails; checks what is told of it. */
static void check_failure(struct nsd_builder *plan, uint32_t step, int error)
{
    struct nsd_child child;
    uint32_t failed = 99;

    CHECK_NUMBER(launch(plan, &inherit, &child, &failed), -ECANCELED);
    CHECK_NUMBER(failed, step);
    CHECK_NUMBER(child.results[failed].error, error);
    CHECK(child.reaped);
    nsd_child_release(&child);
    no_child_is_left();
}

static void a_failing_step_is_named(void)
{
    struct nsd_builder plan;

    nsd_builder_init(&plan);
    add_command(&plan, COMMAND("/bin/true"));
    nsd_add(&plan, NSD_SETSID);
    nsd_add_step(&plan, NSD_CHDIR, (const int64_t[3]){0},
                 (const char *const[4]){"/nowhere/at/all"});
    nsd_add_exec(&plan);
    check_failure(&plan, 1, ENOENT);
}

static void a_failure_behind_the_fork_is_named(void)
{
    struct nsd_builder plan;
    struct nsd_request request = container();
    uint32_t steps;

    request.cwd = "/nowhere/at/all";
    nsd_builder_init(&plan);
    add_command(&plan, COMMAND("/bin/true"));
    nsd_recipe_spawn(&plan, &request);
    steps = plan.step_count;
    check_failure(&plan, steps - 2, ENOENT);
}

static void a_failure_behind_init_is_named(void)
{
    struct nsd_builder plan;
    struct nsd_request request = container();
    uint32_t steps;

    request.init = true;
    nsd_builder_init(&plan);
    add_command(&plan, COMMAND("/nowhere/at/all"));
    nsd_recipe_spawn(&plan, &request);
    steps = plan.step_count;
    check_failure(&plan, steps - 1, ENOENT);
}

static void what_cannot_be_executed_is_a_failing_step(void)
{
    struct nsd_builder plan;

    nsd_builder_init(&plan);
    add_command(&plan, COMMAND("/etc/passwd"));
    nsd_add_exec(&plan);
    check_failure(&plan, 0, EACCES);
}

static void a_tolerated_failure_is_told_and_passed_over(void)
{
    struct nsd_builder plan;
    struct nsd_child child;
    uint32_t failed;

    nsd_builder_init(&plan);
    add_command(&plan, COMMAND("/bin/true"));
    nsd_add_step(&plan, NSD_SETPGID, (const int64_t[3]){-5}, (const char *const[4]){0})
        ->flags = NSD_TOLERATES_EINVAL;
    nsd_add_exec(&plan);
    CHECK_NUMBER(launch(&plan, &inherit, &child, &failed), 0);
    CHECK_NUMBER(child.results[0].error, EINVAL);
    CHECK_NUMBER(nsd_child_wait(&child, NSD_FOREVER), 0);
    CHECK_NUMBER(child.status, 0);
    nsd_child_release(&child);
}

static void only_the_named_failure_is_passed_over(void)
{
    struct nsd_builder plan;

    nsd_builder_init(&plan);
    add_command(&plan, COMMAND("/bin/true"));
    nsd_add_step(&plan, NSD_SETPGID, (const int64_t[3]){-5}, (const char *const[4]){0})
        ->flags = NSD_TOLERATES_EPERM;
    nsd_add_exec(&plan);
    check_failure(&plan, 0, EINVAL);
}

static void waiting_ends_with_the_deadline(void)
{
    struct nsd_request request = container();
    struct nsd_child child =
        launched(&request, COMMAND("/bin/sleep", "1000"), &inherit);
    int64_t before = nsd_now();

    CHECK_NUMBER(nsd_child_wait(&child, 0), -ETIMEDOUT);
    CHECK_NUMBER(nsd_child_wait(&child, before + 20000000), -ETIMEDOUT);
    CHECK(nsd_now() - before >= 20000000);
    nsd_child_kill(&child);
    CHECK_NUMBER(nsd_child_wait(&child, NSD_FOREVER), 0);
    CHECK_NUMBER(WTERMSIG(child.status), SIGKILL);
    CHECK_NUMBER(nsd_child_signal(&child, SIGTERM),
                 0); /* nobody is there, nobody is hurt */
    nsd_child_release(&child);
}

static void a_signal_reaches_the_command(void)
{
    struct nsd_request request = alone();
    struct nsd_child child =
        launched(&request, COMMAND("/bin/sleep", "1000"), &inherit);

    CHECK_NUMBER(nsd_child_signal(&child, SIGTERM), 0);
    CHECK_NUMBER(nsd_child_wait(&child, NSD_FOREVER), 0);
    CHECK_NUMBER(WTERMSIG(child.status), SIGTERM);
    nsd_child_release(&child);
}

static void releasing_ends_what_still_runs(void)
{
    struct nsd_request request = container();
    struct nsd_child child =
        launched(&request, COMMAND("/bin/sleep", "1000"), &inherit);
    pid_t pid = child.command;

    nsd_child_release(&child);
    CHECK(kill(pid, 0) == -1 && errno == ESRCH);
    no_child_is_left();
    nsd_child_release(&child); /* once more does nothing */
}

static void a_launch_can_be_abandoned(void)
{
    struct nsd_request request = container();

    for (int i = 0; i < 20; i++) {
        struct nsd_builder plan;
        struct nsd_child child;
        enum nsd_start_stage stage;

        nsd_builder_init(&plan);
        add_command(&plan, COMMAND("/bin/sleep", "1000"));
        nsd_recipe_spawn(&plan, &request);
        CHECK_NUMBER(nsd_launch_start(&plan, &inherit, &child, &stage), 0);
        nsd_builder_free(&plan);
        if (i % 2 == 1)
            CHECK_NUMBER(nsd_launch_wait(&child, NSD_FOREVER), 0);
        nsd_launch_abandon(&child);
        nsd_child_release(&child);
        no_child_is_left();
        nsd_child_release(&child);
    }
}

static void a_stolen_status_is_found_or_owned_up_to(void)
{
    struct nsd_request request = alone();
    struct nsd_child child = launched(&request, SHELL("exit 3"), &inherit);
    int status;

    CHECK_NUMBER(waitpid(child.command, &status, 0), child.command);
    CHECK_NUMBER(nsd_child_wait(&child, NSD_FOREVER), 0);
    CHECK(child.status_lost || WEXITSTATUS(child.status) == 3);
    nsd_child_release(&child);
}

/* What the guard does when this process dies is in tests/test_ending.py. */
static void a_full_guard_is_relieved_by_another(void)
{
    struct nsd_ward **wards = calloc(NSD_WARD_COUNT + 1, sizeof(*wards));
    enum nsd_start_stage stage;
    struct nsd_ward *again;

    CHECK(wards != NULL);
    for (uint32_t i = 0; i <= NSD_WARD_COUNT; i++) {
        CHECK_NUMBER(nsd_ward_take(NSD_FOREVER, &wards[i], &stage), 0);
        CHECK_NUMBER(wards[i]->pid, -1);
        nsd_ward_is(wards[i], getpid());
        CHECK(wards[i]->since > 0);
        if (i == 0)
            CHECK(wards[i]->group == 0);
        else
            CHECK(wards[i] != wards[i - 1]);
    }
    for (uint32_t i = 0; i <= NSD_WARD_COUNT; i++)
        nsd_ward_give_back(wards[i]);
    CHECK_NUMBER(nsd_ward_take(NSD_FOREVER, &again, &stage), 0);
    nsd_ward_give_back(again);
    nsd_ward_give_back(NULL);
    free(wards);
    no_child_is_left();
}

static void a_bad_descriptor_is_an_error_before_anything_runs(void)
{
    struct nsd_builder plan;
    struct nsd_child child;
    enum nsd_start_stage stage = NSD_START_CLONE;

    nsd_builder_init(&plan);
    add_command(&plan, COMMAND("/bin/true"));
    nsd_add_exec(&plan);
    CHECK_NUMBER(nsd_launch_start(&plan,
                                  &(struct nsd_launch_options){.stdio = {-1, 999, -1}},
                                  &child, &stage),
                 -EBADF);
    CHECK_NUMBER(stage, NSD_START_DESCRIPTORS);
    nsd_builder_free(&plan);
    no_child_is_left();
}

static void the_caller_is_left_as_it_was(void)
{
    struct nsd_request request = container();
    sigset_t before, after;
    int descriptors = open_descriptors();
    mode_t mask = umask(0);

    umask(mask);
    request.umask = 077;
    CHECK_NUMBER(sigprocmask(SIG_SETMASK, NULL, &before), 0);
    CHECK_NUMBER(status_of(&request, SHELL("test $(umask) = 0077")), 0);
    CHECK_NUMBER(sigprocmask(SIG_SETMASK, NULL, &after), 0);
    for (int i = 1; i < 65; i++)
        CHECK_NUMBER(sigismember(&after, i), sigismember(&before, i));
    CHECK_NUMBER(open_descriptors(), descriptors);
    CHECK_NUMBER(umask(mask), mask);
    no_child_is_left();
}

static void one_plan_can_be_launched_many_times(void)
{
    struct nsd_request request = container();
    struct nsd_builder plan;

    nsd_builder_init(&plan);
    add_command(&plan, COMMAND("/bin/true"));
    nsd_recipe_spawn(&plan, &request);
    for (int i = 0; i < 50; i++) {
        struct nsd_child child;
        enum nsd_start_stage stage;
        uint32_t step;

        CHECK_NUMBER(nsd_launch_start(&plan, &inherit, &child, &stage), 0);
        CHECK_NUMBER(nsd_launch_wait(&child, NSD_FOREVER), 0);
        CHECK_NUMBER(nsd_launch_settle(&child, &step, &stage), 0);
        CHECK_NUMBER(nsd_child_wait(&child, NSD_FOREVER), 0);
        CHECK_NUMBER(child.status, 0);
        nsd_child_release(&child);
    }
    nsd_builder_free(&plan);
    no_child_is_left();
}

static void namespaces_are_allowed(void)
{
    struct nsd_builder plan;
    struct nsd_child child;
    struct nsd_request request = container();
    uint32_t step;
    int ret;

    nsd_builder_init(&plan);
    add_command(&plan, COMMAND("/bin/true"));
    nsd_recipe_spawn(&plan, &request);
    ret = launch(&plan, &inherit, &child, &step);
    if (ret == -ECANCELED && child.results[step].error == EPERM) {
        puts("this machine gives us no namespaces");
        nsd_child_release(&child);
        exit(SKIPPED);
    }
    CHECK_NUMBER(ret, 0);
    nsd_child_release(&child);
}

int main(void)
{
    RUN(a_command_runs_without_namespaces);
    RUN(namespaces_are_allowed);
    RUN(a_command_is_pid_one_inside);
    RUN(under_init_it_is_pid_two_and_its_signal_is_told);
    RUN(every_step_has_a_result_and_a_time);
    RUN(a_megabyte_goes_in_and_comes_out);
    RUN(a_command_that_does_not_listen_hurts_nobody);
    RUN(descriptors_get_out_of_each_others_way);
    RUN(a_failing_step_is_named);
    RUN(a_failure_behind_the_fork_is_named);
    RUN(a_failure_behind_init_is_named);
    RUN(what_cannot_be_executed_is_a_failing_step);
    RUN(a_tolerated_failure_is_told_and_passed_over);
    RUN(only_the_named_failure_is_passed_over);
    RUN(waiting_ends_with_the_deadline);
    RUN(a_signal_reaches_the_command);
    RUN(releasing_ends_what_still_runs);
    RUN(a_launch_can_be_abandoned);
    RUN(a_stolen_status_is_found_or_owned_up_to);
    RUN(a_full_guard_is_relieved_by_another);
    RUN(a_bad_descriptor_is_an_error_before_anything_runs);
    RUN(the_caller_is_left_as_it_was);
    RUN(one_plan_can_be_launched_many_times);
    return 0;
}
