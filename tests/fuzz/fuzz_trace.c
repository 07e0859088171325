/* The page that a launch shares with whoever reaches the launcher's memory: core/launch/trace.c. While
 * the kernel is asked, the page changes. */
#include "kernel.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PIDFD 77

static struct nsd_trace *page;
static void change(void);

/* What the kernel said of the last pid that it was asked for. */
static struct {
    pid_t pid;
    bool is_child, is_gone, is_open;
} answer;

static int any_waitid(idtype_t type, id_t id, siginfo_t *info, int options)
{
    INSIST(type == P_PID && (pid_t)id > 0 && info != NULL);
    INSIST((options & (WNOHANG | WNOWAIT)) == (WNOHANG | WNOWAIT));
    change();
    answer.pid = (pid_t)id;
    switch (take_byte() % 3) {
    case 0:
        errno = ECHILD;
        return -1;
    case 1:
        errno = EINTR;
        return -1;
    default:
        answer.is_child = true;
        return 0;
    }
}

static long any_syscall(long number, ...)
{
    va_list rest;
    pid_t pid;

    va_start(rest, number);
    pid = va_arg(rest, pid_t);
    va_end(rest);
    INSIST(number == SYS_pidfd_open && pid == answer.pid && !answer.is_open);
    change();
    errno = take_byte() % 2 == 0 ? EMFILE : ESRCH;
    answer.is_gone = errno == ESRCH;
    if (take_byte() % 2 == 0)
        return -1;
    answer.is_gone = false;
    answer.is_open = true;
    return PIDFD;
}

static int any_close(int fd)
{
    INSIST(fd == PIDFD && answer.is_open);
    answer.is_open = false;
    return 0;
}

#define waitid any_waitid
#define syscall any_syscall
#define close any_close
#include "core/launch/trace.c"

static void change(void)
{
    if (take_byte() % 2 == 1)
        take(page, sizeof(*page));
}

const char *content_of(const char *path, size_t *ret_size)
{
    (void)path;
    *ret_size = 0;
    return NULL;
}

void see_execve(const char *path, char *const argv[], char *const envp[])
{
    (void)path;
    (void)argv;
    (void)envp;
}

static void look_at_command(const struct nsd_child *child)
{
    bool is_gone = true;
    pid_t command;

    answer.pid = 0;
    answer.is_child = answer.is_gone = answer.is_open = false;
    command = nsd_trace_command(child, &is_gone);
    INSIST(!answer.is_open);
    INSIST(command >= 0 && (command == 0 || command != child->first_pid));
    INSIST(command == 0 || command == answer.pid);
    INSIST((command != 0) == (answer.is_child || answer.is_gone));
    INSIST(is_gone == (command != 0 && !answer.is_child));
}

static void look_at_results(const struct nsd_child *child)
{
    struct nsd_result *results = malloc((child->step_count + 1) * sizeof(*results));

    memset(results, 0x55, (child->step_count + 1) * sizeof(*results));
    nsd_trace_results(child, results);
    for (uint32_t i = 0; i < child->step_count; i++) {
        INSIST(results[i].process <= NSD_CALLER);
        INSIST(results[i].error >= 0 && results[i].error <= 4095);
        INSIST(results[i].value >= 0);
        INSIST(results[i].end == 0 || results[i].end >= results[i].start);
    }
    for (size_t i = 0; i < sizeof(*results); i++)
        INSIST(((unsigned char *)&results[child->step_count])[i] == 0x55);
    free(results);
}

static void look_at_status(const struct nsd_child *child)
{
    int status = -1;

    if (!nsd_trace_status(child, &status)) {
        INSIST(status == -1);
        return;
    }
    INSIST(page->has_status == 1 && status >= 0 && status <= 0xffff);
    INSIST(WIFEXITED(status) || (WIFSIGNALED(status) && WTERMSIG(status) > 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct nsd_child child = {0};
    size_t all;

    input.data = data;
    input.size = size;
    child.step_count = take_byte() % 8;
    take(&child.first_pid, 2);
    all = sizeof(*page) + child.step_count * sizeof(struct nsd_result);
    child.trace = page = malloc(all); /* no more: what lies behind it is not read */
    take(page, all);
    if (take_byte() % 4 == 0)
        page->command = child.first_pid;
    look_at_results(&child);
    look_at_status(&child);
    look_at_command(&child);
    child.trace = NULL;
    INSIST(nsd_trace_command(&child, &(bool){true}) == 0);
    INSIST(!nsd_trace_status(&child, &(int){0}));
    free(page);
    return 0;
}
