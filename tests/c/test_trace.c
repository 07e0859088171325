/* core/launch/trace.c and who uses it, with trace pages that somebody else has written: whatever number
 * is forged, nobody is killed, waited for or believed who is not the command. */
#include "core/launch/trace.h"

#include "check.h"

#include "core/launch/settle.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define STEPS 3u

static struct nsd_trace *trace;

/* A launch of three steps that has been decided, as far as the page says. */
static struct nsd_child decided(pid_t first, pid_t command)
{
    struct nsd_child child = {
        .owner = nsd_owner_now(),
        .first = first,
        .first_pid = first,
        .pidfd = -1,
        .forked = true,
        .trace_size = NSD_PAGE,
        .step_count = STEPS,
    };

    trace =
        mmap(NULL, NSD_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(trace != MAP_FAILED);
    child.trace = trace;
    pthread_mutex_init(&child.lock, NULL);
    trace->command = command;
    for (uint32_t i = 0; i < STEPS; i++)
        trace->results[i] =
            (struct nsd_result){i == 0 ? NSD_FIRST : NSD_SECOND, 0, 0, 10 + i, 20 + i};
    return child;
}

static pid_t sleeping(void)
{
    pid_t pid = fork();

    if (pid == 0)
        for (;;)
            pause();
    CHECK(pid > 0);
    return pid;
}

static pid_t ended(int status)
{
    pid_t pid = fork();

    if (pid == 0)
        _exit(status);
    CHECK(pid > 0);
    return pid;
}

/* A process that is not our child: a child of one. */
static pid_t strangers_parent, stranger;

static void make_stranger(void)
{
    int ends[2];

    CHECK(pipe(ends) == 0);
    strangers_parent = fork();
    if (strangers_parent == 0) {
        pid_t pid = sleeping();

        if (write(ends[1], &pid, sizeof(pid)) != sizeof(pid))
            _exit(1);
        for (;;)
            pause();
    }
    CHECK(read(ends[0], &stranger, sizeof(stranger)) == sizeof(stranger));
    close(ends[0]);
    close(ends[1]);
}

static void end_stranger(void)
{
    CHECK_NUMBER(kill(stranger, 0), 0); /* it lives, after all of this */
    kill(stranger, SIGKILL);
    kill(strangers_parent, SIGKILL);
    CHECK_NUMBER(waitpid(strangers_parent, NULL, 0), strangers_parent);
}

static void the_command_is_a_child_of_ours(void)
{
    pid_t command = sleeping();
    struct nsd_child child = decided(ended(0), command);
    enum nsd_start_stage stage;
    uint32_t step;

    CHECK_NUMBER(nsd_launch_settle(&child, &step, &stage), 0);
    CHECK_NUMBER(child.command, command);
    nsd_child_release(&child);
    CHECK_NUMBER(kill(command, 0), -1);
}

static void check_refused(pid_t forged)
{
    struct nsd_child child = decided(ended(0), forged);
    enum nsd_start_stage stage = NSD_START_CLONE;
    uint32_t step;

    CHECK_NUMBER(nsd_launch_settle(&child, &step, &stage), -ECHILD);
    CHECK_NUMBER(stage, NSD_START_KILLED);
    CHECK_NUMBER(child.command, 0);
    nsd_child_release(&child);

    child = decided(ended(0), forged); /* the same, given up by the caller */
    nsd_launch_abandon(&child);
    nsd_child_release(&child);

    child = decided(ended(0), forged); /* the same, after a step that failed */
    trace->results[2].error = ENOENT;
    CHECK_NUMBER(nsd_launch_settle(&child, &step, &stage), -ECANCELED);
    CHECK_NUMBER(step, 2);
    nsd_child_release(&child);
    CHECK_NUMBER(waitpid(-1, NULL, WNOHANG), 0); /* the stranger's parent is left */
}

static void nobody_else_is_taken_for_the_command(void)
{
    const pid_t forged[] = {0, -1, INT_MIN, 1, getpid(), getppid()};

    make_stranger();
    for (size_t i = 0; i < sizeof(forged) / sizeof(forged[0]); i++)
        check_refused(forged[i]);
    check_refused(stranger);
    end_stranger();
}

static void the_first_process_is_not_the_command(void)
{
    pid_t first = ended(0);
    struct nsd_child child = decided(first, first);
    enum nsd_start_stage stage;
    uint32_t step;

    CHECK_NUMBER(nsd_launch_settle(&child, &step, &stage), -ECHILD);
    nsd_child_release(&child);
}

/* Taken by another waitpid: its number may be anybody's group by then. */
static void a_command_that_was_reaped_is_nobody(void)
{
    pid_t command = ended(0);
    struct nsd_child child;
    enum nsd_start_stage stage;
    uint32_t step;

    CHECK_NUMBER(waitpid(command, NULL, 0), command);
    child = decided(ended(0), command);
    child.own_group = true;
    CHECK_NUMBER(nsd_launch_settle(&child, &step, &stage), 0);
    CHECK(!child.own_group);
    CHECK_NUMBER(nsd_child_wait(&child, NSD_FOREVER), 0);
    CHECK(child.status_lost);
    nsd_child_release(&child);
}

static struct nsd_result corrected(struct nsd_result forged)
{
    struct nsd_child child = decided(0, 0);
    struct nsd_result results[STEPS];

    trace->results[1] = forged;
    nsd_trace_results(&child, results);
    munmap(trace, NSD_PAGE);
    return results[1];
}

static void results_are_what_a_step_may_have_noted(void)
{
    const struct nsd_result whole = {NSD_SECOND, ENOENT, 7, 10, 20};
    struct nsd_result forged = whole, found = corrected(whole);

    CHECK(memcmp(&found, &whole, sizeof(whole)) == 0);
    forged.process = NSD_CALLER + 1;
    CHECK_NUMBER(corrected(forged).process, NSD_NOBODY);
    forged.process = UINT32_MAX;
    CHECK_NUMBER(corrected(forged).process, NSD_NOBODY);
    CHECK_NUMBER(corrected(forged).error, 0);
    forged = whole;
    for (size_t i = 0; i < 3; i++) {
        forged.error = (const int32_t[]){-1, INT_MIN, 4096}[i];
        CHECK_NUMBER(corrected(forged).error, EIO);
    }
    forged = whole;
    forged.value = INT64_MIN; /* of exec: which path */
    CHECK_NUMBER(corrected(forged).value, 0);
    forged = whole;
    forged.start = UINT64_MAX;
    CHECK(corrected(forged).end == UINT64_MAX);
    forged.end = 0; /* it is not over */
    CHECK_NUMBER(corrected(forged).end, 0);
}

static void a_launch_that_is_called_over_too_early_has_failed(void)
{
    pid_t command = sleeping();
    struct nsd_child child = decided(ended(0), command);
    enum nsd_start_stage stage;
    uint32_t step;

    trace->state = 77; /* is not what it was */
    trace->results[2] = (struct nsd_result){0};
    CHECK_NUMBER(nsd_launch_wait(&child, NSD_FOREVER), 0);
    CHECK_NUMBER(nsd_launch_settle(&child, &step, &stage), -ECHILD);
    nsd_child_release(&child);
    CHECK_NUMBER(kill(command, 0), -1);
}

static bool is_status(int has, int status)
{
    struct nsd_child child = decided(0, 0);
    int found = -1;
    bool known;

    trace->has_status = has;
    trace->status = status;
    known = nsd_trace_status(&child, &found);
    CHECK(!known || (found & ~0xffff) == 0);
    munmap(trace, NSD_PAGE);
    return known;
}

static void a_status_is_one(void)
{
    CHECK(is_status(1, 0) && is_status(1, 3 << 8) && is_status(1, SIGKILL));
    CHECK(is_status(1, 0x7fff0000));
    CHECK(!is_status(0, 0) && !is_status(2, 0) && !is_status(-1, 0));
    CHECK(!is_status(1, 0x137f) && !is_status(1, 0xffff));
}

/* init says how the command ended; its own status must say the same. */
static void a_status_that_was_forged_is_not_believed(void)
{
    const int noted[] = {0, SIGSEGV, 4 << 8, 0x7f, -1, 3 << 8};

    for (size_t i = 0; i < sizeof(noted) / sizeof(noted[0]); i++) {
        struct nsd_child child = decided(0, 0);
        enum nsd_start_stage stage;
        uint32_t step;

        child.has_init = child.has_watchdog = true;
        trace->command = ended(3);
        trace->has_status = 1;
        trace->status = noted[i];
        CHECK_NUMBER(nsd_launch_settle(&child, &step, &stage), 0);
        CHECK_NUMBER(nsd_child_wait(&child, NSD_FOREVER), 0);
        CHECK_NUMBER(WEXITSTATUS(child.status), 3);
        nsd_child_release(&child);
    }
}

int main(void)
{
    RUN(the_command_is_a_child_of_ours);
    RUN(nobody_else_is_taken_for_the_command);
    RUN(the_first_process_is_not_the_command);
    RUN(a_command_that_was_reaped_is_nobody);
    RUN(results_are_what_a_step_may_have_noted);
    RUN(a_launch_that_is_called_over_too_early_has_failed);
    RUN(a_status_is_one);
    RUN(a_status_that_was_forged_is_not_believed);
    return 0;
}
