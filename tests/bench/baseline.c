/*
 * baseline: the least that a launch can cost.
 *
 * Each launch makes the system calls its kind of container needs, and no other: no
 * plan, no trace, no clean environment, no hint when something fails. What nsdemo
 * takes beyond this is what nsdemo costs.
 *
 * usage: baseline [--user] ROOT
 *
 * ROOT is a directory with /bin/true, /bin/sleep and /proc. With --user, for callers
 * without privileges, every launch gets a new user namespace with one mapped id.
 *
 * A line on standard input is a request, a line on standard output its answer:
 *
 *     plain     clone, execve, wait
 *     chroot    clone, chroot, chdir, execve, wait
 *     spawn     clone with new mount, uts, ipc and pid namespaces; private /, bind the
 *               root, mount proc, pivot_root, umount2, chdir, execve, wait
 *     enter     clone, pidfd_open, setns, clone, execve, wait, wait
 *     target    start the container that `enter` enters; it has its own network too
 *
 * The answer is the time of the launch in nanoseconds (of `target`: a pid), or
 * "error: STEP: REASON". End of file ends the program, and the target with it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdalign.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    CONTAINER = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID,
    STACK_SIZE = 64 * 1024,
    FAILED = 127,
};

static struct {
    const char *root;
    char proc[4096];
    char true_path[4096]; /* as seen from outside the root */
    int user;             /* CLONE_NEWUSER, or 0 for a privileged caller */
    char uid_map[64];
    char gid_map[64];
    pid_t target;
} setup;

/* A child shares our memory until it executes: the one that fails writes here. */
static struct {
    const char *step;
    int error;
} failure;

static char *true_args[] = {(char[]){"true"}, NULL};
static char *sleep_args[] = {(char[]){"sleep"}, (char[]){"1000000"}, NULL};
static char *environment[] = {(char[]){"PATH=/usr/bin:/bin"}, NULL};

static int fail(const char *step)
{
    failure.step = step;
    failure.error = errno;
    return FAILED;
}

/* As vfork, with namespaces: the child borrows our memory, and we wait until it
   has executed or ended. Two stacks, because the child of `enter` does it again. */
static pid_t borrow(int (*child)(void *), int flags)
{
    alignas(16) static char stacks[2][STACK_SIZE];
    static int depth;
    char *top = stacks[depth++] + STACK_SIZE;
    pid_t pid = clone(child, top, CLONE_VM | CLONE_VFORK | SIGCHLD | flags, NULL);
    depth--;
    return pid;
}

/* ---- in the child, until execve ---- */

static int write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) {
        return -1;
    }
    ssize_t written = write(fd, text, strlen(text));
    close(fd);
    return written < 0 ? -1 : 0;
}

static bool ids_are_mapped(void)
{
    if (!setup.user) {
        return true;
    }
    return write_file("/proc/self/uid_map", setup.uid_map) == 0 &&
           write_file("/proc/self/setgroups", "deny") == 0 &&
           write_file("/proc/self/gid_map", setup.gid_map) == 0;
}

static int execute(const char *path, char *const args[])
{
    execve(path, args, environment);
    return fail("execve");
}

static int child_plain(void *unused)
{
    (void)unused;
    return execute(setup.true_path, true_args);
}

static int child_chroot(void *unused)
{
    (void)unused;
    if (!ids_are_mapped()) {
        return fail("map ids");
    }
    if (chroot(setup.root) < 0) {
        return fail("chroot");
    }
    if (chdir("/") < 0) {
        return fail("chdir");
    }
    return execute("/bin/true", true_args);
}

static int contain(const char *path, char *const args[])
{
    const unsigned long proc_flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;

    if (!ids_are_mapped()) {
        return fail("map ids");
    }
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
        return fail("make / private");
    }
    if (mount(setup.root, setup.root, NULL, MS_BIND | MS_REC, NULL) < 0) {
        return fail("bind the root");
    }
    if (mount("proc", setup.proc, "proc", proc_flags, NULL) < 0) {
        return fail("mount proc");
    }
    if (chdir(setup.root) < 0) {
        return fail("chdir to the root");
    }
    if (syscall(SYS_pivot_root, ".", ".") < 0) {
        return fail("pivot_root");
    }
    if (umount2(".", MNT_DETACH) < 0) {
        return fail("umount2");
    }
    if (chdir("/") < 0) {
        return fail("chdir");
    }
    return execute(path, args);
}

static int child_spawn(void *unused)
{
    (void)unused;
    return contain("/bin/true", true_args);
}

static int child_target(void *unused)
{
    (void)unused;
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0) {
        return fail("prctl");
    }
    return contain("/bin/sleep", sleep_args);
}

static int child_entered(void *unused)
{
    (void)unused;
    return execute("/bin/true", true_args);
}

/* A joined pid namespace binds only the next child, so there are two of us. */
static int child_enter(void *unused)
{
    (void)unused;
    int pidfd = (int)syscall(SYS_pidfd_open, setup.target, 0);
    if (pidfd < 0) {
        return fail("pidfd_open");
    }
    if (setns(pidfd, CONTAINER | CLONE_NEWNET | setup.user) < 0) {
        return fail("setns");
    }
    /* Our descriptors are our own (no CLONE_FILES), but not the command's to have. */
    close(pidfd);
    if (setup.user && (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)) {
        return fail("become root");
    }
    int status;
    pid_t pid = borrow(child_entered, 0);
    if (pid < 0) {
        return fail("clone");
    }
    if (waitpid(pid, &status, 0) < 0) {
        return fail("wait");
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : FAILED;
}

/* ---- in the parent ---- */

static long long now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

/* Returns nanoseconds, or -1. */
static long long launch(int (*child)(void *), int flags)
{
    int status;
    failure.step = NULL;
    failure.error = 0;
    long long start = now();
    pid_t pid = borrow(child, flags);
    if (pid < 0) {
        fail("clone");
        return -1;
    }
    if (waitpid(pid, &status, 0) < 0) {
        fail("wait");
        return -1;
    }
    long long end = now();
    return status == 0 ? end - start : -1;
}

static long long start_target(void)
{
    failure.step = NULL;
    failure.error = 0;
    pid_t pid = borrow(child_target, CONTAINER | CLONE_NEWNET | setup.user);
    if (pid < 0) {
        fail("clone");
    } else if (failure.step) {
        waitpid(pid, NULL, 0);
    } else {
        setup.target = pid;
        return pid;
    }
    return -1;
}

static long long serve(const char *request)
{
    /* setns into a user namespace made the memory we lent undumpable, and then
       /proc/self/uid_map is not the next child's to write. */
    if (setup.user) {
        prctl(PR_SET_DUMPABLE, 1);
    }
    if (strcmp(request, "plain") == 0) {
        return launch(child_plain, 0);
    }
    if (strcmp(request, "chroot") == 0) {
        return launch(child_chroot, setup.user);
    }
    if (strcmp(request, "spawn") == 0) {
        return launch(child_spawn, CONTAINER | setup.user);
    }
    if (strcmp(request, "enter") == 0) {
        return launch(child_enter, 0);
    }
    if (strcmp(request, "target") == 0) {
        return start_target();
    }
    errno = EINVAL;
    fail(request);
    return -1;
}

/* Commands get /dev/null for 0 and 1; the requests and answers are ours alone. */
static FILE *take_over(int fd, const char *mode)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (copy < 0 || null < 0 || dup2(null, fd) < 0) {
        return NULL;
    }
    close(null);
    return fdopen(copy, mode);
}

static bool format(char *buffer, size_t size, const char *text, const char *tail)
{
    int length = snprintf(buffer, size, "%s%s", text, tail);
    return length >= 0 && (size_t)length < size;
}

int main(int argc, char **argv)
{
    bool user = argc == 3 && strcmp(argv[1], "--user") == 0;
    if (argc != 2 && !user) {
        fputs("usage: baseline [--user] ROOT\n", stderr);
        return 2;
    }
    setup.user = user ? CLONE_NEWUSER : 0;
    setup.root = argv[argc - 1];
    if (!format(setup.proc, sizeof setup.proc, setup.root, "/proc") ||
        !format(setup.true_path, sizeof setup.true_path, setup.root, "/bin/true")) {
        fputs("baseline: the path of the root is too long\n", stderr);
        return 2;
    }
    snprintf(setup.uid_map, sizeof setup.uid_map, "0 %u 1", geteuid());
    snprintf(setup.gid_map, sizeof setup.gid_map, "0 %u 1", getegid());

    FILE *requests = take_over(STDIN_FILENO, "r");
    FILE *answers = take_over(STDOUT_FILENO, "w");
    if (!requests || !answers) {
        perror("baseline");
        return 1;
    }
    char request[64];
    while (fgets(request, sizeof request, requests)) {
        request[strcspn(request, "\n")] = '\0';
        long long answer = serve(request);
        if (answer >= 0) {
            fprintf(answers, "%lld\n", answer);
        } else if (failure.step) {
            fprintf(answers, "error: %s: %s\n", failure.step, strerror(failure.error));
        } else {
            fputs("error: the command failed\n", answers);
        }
        fflush(answers);
    }
    if (setup.target > 0) {
        kill(setup.target, SIGKILL);
        waitpid(setup.target, NULL, 0);
    }
    return 0;
}
