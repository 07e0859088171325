/* csrc/steps, compiled for a hosted program with sanitizers: every operation is
 * performed in a forked child, succeeds once where it can, and is broken once on purpose. */
#include "steps/steps.h"

#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/nsfs.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>

static struct nsd_launch launch;
static struct nsd_plan_head head;
static int *performed; /* shared with the children: how often each operation ran */
static char root[] = "/tmp/nsdemo-steps-XXXXXX";

/* One step with its texts laid out as the core does: offset 0 is absent. They stay, as those of a
 * plan do. */
static long perform(enum nsd_operation operation, const int64_t number[3],
                    const char *const text[4])
{
    static char texts[256 * 1024];
    static uint32_t size = 4;
    struct nsd_step step = {.operation = (uint32_t)operation};

    for (int i = 0; i < 3; i++)
        step.number[i] = number[i];
    for (int i = 0; i < 4; i++) {
        if (text[i] == NULL)
            continue;
        step.text[i] = size;
        CHECK(size + strlen(text[i]) + 1 < sizeof(texts));
        strcpy(texts + size, text[i]);
        size += (uint32_t)strlen(text[i]) + 1;
    }
    if (size > 4) {
        launch.text = texts;
        launch.text_size = sizeof(texts);
    }
    performed[operation]++;
    return nsd_perform(&launch, &step);
}

#define STEP(operation, numbers, texts)                                                \
    perform(NSD_##operation, (const int64_t[3])numbers, (const char *const[4])texts)
#define N(...)                                                                         \
    {                                                                                  \
        __VA_ARGS__                                                                    \
    }
#define T(...)                                                                         \
    {                                                                                  \
        __VA_ARGS__                                                                    \
    }
#define NONE                                                                           \
    {                                                                                  \
        0                                                                              \
    } /* no numbers, no texts */

/* Runs a test in a child that may change itself as it likes; what it leaves is not ours. */
#define IN_CHILD(test)                                                                 \
    do {                                                                               \
        int status_;                                                                   \
        pid_t pid_ = fork();                                                           \
        if (pid_ == 0) {                                                               \
            test();                                                                    \
            _exit(0);                                                                  \
        }                                                                              \
        CHECK_NUMBER(waitpid(pid_, &status_, 0), pid_);                                \
        if (status_ != 0)                                                              \
            fprintf(stderr, "in %s\n", #test);                                         \
        CHECK_NUMBER(status_, 0);                                                      \
        printf("ok %s\n", #test);                                                      \
        fflush(stdout);                                                                \
    } while (0)

/* Power over mounts and names, as root or in a user namespace. */
static void in_new_namespaces(int flags)
{
    char map[32];

    if (geteuid() != 0) {
        unsigned int uid = geteuid(), gid = getegid();

        CHECK_NUMBER(STEP(UNSHARE, N(CLONE_NEWUSER), NONE), 0);
        snprintf(map, sizeof(map), "0 %u 1", uid);
        CHECK_NUMBER(STEP(WRITE_PROC, NONE, T("/proc/self/uid_map", map)), 0);
        CHECK_NUMBER(STEP(WRITE_PROC, NONE, T("/proc/self/setgroups", "deny")), 0);
        snprintf(map, sizeof(map), "0 %u 1", gid);
        CHECK_NUMBER(STEP(WRITE_PROC, NONE, T("/proc/self/gid_map", map)), 0);
    }
    CHECK_NUMBER(STEP(UNSHARE, N(flags), NONE), 0);
    if ((flags & CLONE_NEWNS) != 0)
        CHECK_NUMBER(STEP(PROPAGATION, N(MS_REC | MS_PRIVATE), T("/")), 0);
}

static int64_t started(pid_t pid)
{
    char path[32], line[1024], *at;
    FILE *file;

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    file = fopen(path, "re");
    CHECK(file != NULL && fgets(line, sizeof(line), file) != NULL);
    fclose(file);
    at = strrchr(line, ')');
    for (int i = 2; i < 22; i++)
        at = strchr(at + 1, ' ');
    return strtoll(at, NULL, 10);
}

static void a_process_is_opened_if_it_is_the_same(void)
{
    pid_t me = getpid();
    struct stat file;

    CHECK_NUMBER(prctl(PR_SET_NAME, "a) b (c 1 2"), 0);
    CHECK_NUMBER(STEP(OPEN_PROCESS, N(me, started(me), 5), NONE), 0);
    CHECK(launch.slot[5] > 2);
    CHECK_NUMBER(fcntl(launch.slot[5], F_GETFD), FD_CLOEXEC);
    CHECK_NUMBER(STEP(OPEN_PROCESS, N(me, started(me) + 1, 6), NONE), -ESRCH);
    CHECK_NUMBER(launch.slot[6], -1);
    CHECK_NUMBER(STEP(OPEN_PROCESS, N(4194304 + 1, 0, 6), NONE), -ESRCH);
    CHECK_NUMBER(fstat(launch.slot[5], &file), 0);
    CHECK_NUMBER(STEP(OPEN_PROCESS, N(me, -(int64_t)file.st_ino, 6), NONE), 0);
    CHECK_NUMBER(close(launch.slot[6]), 0);
    launch.slot[6] = -1;
    CHECK_NUMBER(STEP(OPEN_PROCESS, N(me, -(int64_t)file.st_ino - 1, 6), NONE), -ESRCH);
    CHECK_NUMBER(launch.slot[6], -1);
}

static void a_root_is_opened_while_its_process_lives(void)
{
    pid_t me = getpid(), gone = fork();

    if (gone == 0)
        _exit(0);
    CHECK_NUMBER(STEP(OPEN_ROOT, N(0, -1), T(root)), 0);
    CHECK(launch.slot[0] > 2);
    CHECK_NUMBER(STEP(OPEN_ROOT, N(1, -1), T("/nowhere/at/all")), -ENOENT);
    CHECK_NUMBER(STEP(OPEN_ROOT, N(1, -1), T("/etc/passwd")), -ENOTDIR);
    CHECK_NUMBER(STEP(OPEN_PROCESS, N(me, started(me), 5), NONE), 0);
    CHECK_NUMBER(STEP(OPEN_ROOT, N(1, 5), T("/proc/self/root")), 0);
    CHECK_NUMBER(STEP(OPEN_PROCESS, N(gone, started(gone), 6), NONE), 0);
    CHECK_NUMBER(waitpid(gone, NULL, 0), gone);
    CHECK_NUMBER(STEP(OPEN_ROOT, N(2, 6), T(root)), -ESRCH);
    CHECK_NUMBER(launch.slot[2], -1);
}

static void only_a_parent_is_watched(void)
{
    head.parent = 1 + getppid();
    CHECK_NUMBER(STEP(WATCH, N(1), NONE), -ESRCH);
    CHECK_NUMBER(launch.parent, -1);
    head.parent = getppid();
    CHECK_NUMBER(STEP(WATCH, N(1), NONE), 0);
    CHECK(launch.parent > 2);
    CHECK_NUMBER(launch.ends_group, 1);
}

static void a_namespace_is_joined_by_its_file(void)
{
    in_new_namespaces(CLONE_NEWUTS);
    launch.slot[4] = open("/proc/self/ns/uts", O_RDONLY | O_CLOEXEC);
    CHECK_NUMBER(STEP(JOIN, N(4, CLONE_NEWUTS), NONE), 0);
    CHECK_NUMBER(STEP(JOIN, N(4, CLONE_NEWNET), NONE), -EINVAL);
    CHECK_NUMBER(STEP(JOIN, N(9, CLONE_NEWUTS), NONE), -EBADF);
}

/* prctl plays the kernel's part where the sysctl fs.suid_dumpable is 1. */
static void who_hides_stays_hidden_with_other_ids(void)
{
    long uid, gid;

    in_new_namespaces(CLONE_NEWUTS);
    uid = (long)getuid();
    gid = (long)getgid();
    launch.slot[4] = open("/proc/self/ns/uts", O_RDONLY | O_CLOEXEC);
    CHECK_NUMBER(STEP(SETUID, N(uid), NONE), 0);
    CHECK_NUMBER(prctl(PR_GET_DUMPABLE), 1);
    CHECK_NUMBER(STEP(HIDE, NONE, NONE), 0);
    CHECK_NUMBER(prctl(PR_GET_DUMPABLE), 0);
    CHECK_NUMBER(prctl(PR_SET_DUMPABLE, 1), 0);
    CHECK_NUMBER(STEP(JOIN, N(4, CLONE_NEWUTS), NONE), 0);
    CHECK_NUMBER(prctl(PR_GET_DUMPABLE), 0);
    CHECK_NUMBER(prctl(PR_SET_DUMPABLE, 1), 0);
    CHECK_NUMBER(STEP(BECOME_ROOT, NONE, NONE), 0);
    CHECK_NUMBER(prctl(PR_GET_DUMPABLE), 0);
    CHECK_NUMBER(prctl(PR_SET_DUMPABLE, 1), 0);
    CHECK_NUMBER(STEP(SETGID, N(gid), NONE), 0);
    CHECK_NUMBER(prctl(PR_GET_DUMPABLE), 0);
    CHECK_NUMBER(prctl(PR_SET_DUMPABLE, 1), 0);
    CHECK_NUMBER(STEP(SETUID, N(uid), NONE), 0);
    CHECK_NUMBER(prctl(PR_GET_DUMPABLE), 0);
}

static void an_impossible_namespace_is_refused(void)
{
    CHECK_NUMBER(STEP(UNSHARE, N(CLONE_THREAD | CLONE_PARENT), NONE), -EINVAL);
}

static void a_new_time_namespace_is_entered(void)
{
    struct stat before, new;

    in_new_namespaces(CLONE_NEWNS);
    launch.slot[4] = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
    CHECK(stat("/proc/self/ns/time", &before) == 0);
    CHECK_NUMBER(STEP(UNSHARE, N(CLONE_NEWTIME), NONE), 0);
    CHECK_NUMBER(STEP(ENTER_TIME, N(4), NONE), 0);
    CHECK(stat("/proc/self/ns/time", &new) == 0);
    CHECK(new.st_ino != before.st_ino);
    launch.slot[4] = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    CHECK_NUMBER(STEP(ENTER_TIME, N(4), NONE), -ENOENT);
}

static void a_namespace_is_pinned_on_a_file(void)
{
    char path[PATH_MAX];
    struct stat pinned, own;

    in_new_namespaces(CLONE_NEWNS | CLONE_NEWUTS);
    launch.slot[4] = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
    launch.slot[5] = -1;
    snprintf(path, sizeof(path), "%s/pin", root);
    CHECK_NUMBER(STEP(PIN, N(CLONE_NEWUTS, 4), T("uts", path)), 1);
    CHECK(stat(path, &pinned) == 0 && stat("/proc/self/ns/uts", &own) == 0);
    CHECK_NUMBER(pinned.st_ino, own.st_ino);
    CHECK_NUMBER(STEP(PIN, N(CLONE_NEWUTS, 4), T("uts", path)), -EEXIST);
    CHECK_NUMBER(nsd_unpin_file(path, own.st_ino + 1, false, "/proc/"), -EINVAL);
    CHECK_NUMBER(nsd_unpin_file(path, own.st_ino, false, "/none/"), -ESRCH);
    CHECK_NUMBER(nsd_unpin_file(path, own.st_ino, false, "/proc/"), 0);
    CHECK_NUMBER(nsd_unpin_file(path, 0, true, "/proc/"), -EINVAL);
    CHECK(stat(path, &pinned) == 0 && pinned.st_size == 0);
    CHECK_NUMBER(pinned.st_mode & 07777, 0);
    CHECK_NUMBER(STEP(PIN, N(CLONE_NEWUTS, 4), T("uts", path)), 0);
    CHECK_NUMBER(STEP(UNPIN, N(5), T(path)), -EBADF);
    CHECK_NUMBER(STEP(UNPIN, N(4), T(path)), 0);
    CHECK_NUMBER(access(path, F_OK), -1);
    CHECK_NUMBER(STEP(UNPIN, N(4), T(path)), -ENOENT);
    CHECK_NUMBER(STEP(PIN, N(CLONE_NEWUTS, 4), T("uts", path)), 1);
    CHECK_NUMBER(nsd_unpin_file(path, 0, true, "/proc/"), 0);
    CHECK_NUMBER(access(path, F_OK), -1);
    CHECK_NUMBER(STEP(PIN, N(CLONE_NEWUTS, 4), T("no-such-kind", path)), -ENOENT);
    CHECK_NUMBER(access(path, F_OK), -1);
    CHECK_NUMBER(STEP(PIN, N(CLONE_NEWUTS, 4), T("uts", root)), -EISDIR);
    CHECK(symlink("/proc/self/ns/uts", path) == 0);
    CHECK_NUMBER(STEP(PIN, N(CLONE_NEWUTS, 4), T("uts", path)), -ELOOP);
    CHECK_NUMBER(unlink(path), 0);
}

/* The core's part is played by a child; then by nobody. */
static void who_asks_for_a_pin_waits_for_the_living_only(void)
{
    const struct timespec moment = {.tv_nsec = 20 * 1000 * 1000};
    struct nsd_trace *trace =
        mmap(NULL, NSD_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    siginfo_t info;
    pid_t pid;

    CHECK(trace != MAP_FAILED);
    launch.trace = trace;
    pid = fork();
    if (pid == 0) {
        while (__atomic_load_n(&trace->asked, __ATOMIC_ACQUIRE) == 0)
            nanosleep(&moment, NULL);
        trace->answer = -EPERM;
        __atomic_store_n(&trace->answered, 1, __ATOMIC_RELEASE);
        _exit(0);
    }
    CHECK_NUMBER(STEP(PIN, N(CLONE_NEWUTS, -1), T("uts", "/run/pin")), -EPERM);
    launch.parent = (int)syscall(SYS_pidfd_open, pid, 0);
    CHECK_NUMBER(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
    CHECK_NUMBER(STEP(PIN, N(CLONE_NEWUTS, -1), T("uts", "/run/pin")), -ESRCH);
    CHECK_NUMBER(trace->asked, 2);
    CHECK_NUMBER(waitpid(pid, NULL, 0), pid);
}

static void only_proc_is_written_to(void)
{
    char path[sizeof(root) + 8], name[32] = "";

    CHECK_NUMBER(STEP(WRITE_PROC, NONE, T("/proc/self/comm", "boxy")), 0);
    CHECK_NUMBER(prctl(PR_GET_NAME, name), 0);
    CHECK_TEXT(name, "boxy");
    snprintf(path, sizeof(path), "%s/file", root);
    CHECK_NUMBER(STEP(WRITE_PROC, NONE, T(path, "boxy")), -ENOTDIR);
    CHECK_NUMBER(STEP(WRITE_PROC, NONE, T("/proc/self/nothing", "boxy")), -ENOENT);
    CHECK_NUMBER(STEP(WRITE_PROC, NONE, T("/proc/self/cwd", "boxy")), -ELOOP);
}

/* The file of a map, as it is seen from inside. */
static void check_map(const char *file, long inside, long outside, long count)
{
    long found[3] = {-1, -1, -1};
    char path[32];
    FILE *map;

    snprintf(path, sizeof(path), "/proc/self/%s", file);
    map = fopen(path, "r");
    CHECK(map != NULL);
    CHECK_NUMBER(fscanf(map, "%ld %ld %ld", &found[0], &found[1], &found[2]), 3);
    fclose(map);
    CHECK_NUMBER(found[0], inside);
    CHECK_NUMBER(found[1], outside);
    CHECK_NUMBER(found[2], count);
}

/* Steps that the helper finds where it got them: before it is cloned. */
static struct nsd_step map_steps[4];
static char map_texts[256];
static struct nsd_result *map_results; /* shared with the helper */

static uint32_t keep_text(const char *text)
{
    static size_t size = 4;
    size_t offset = size;

    CHECK(size + strlen(text) < sizeof(map_texts));
    strcpy(map_texts + offset, text);
    size += strlen(text) + 1;
    return (uint32_t)offset;
}

static void lay_out_maps(const char *program)
{
    const char *const files[] = {"uid_map", "setgroups", "gid_map"};
    char content[3][64] = {"", "deny", ""};

    snprintf(content[0], sizeof(content[0]), "0 %u 1", geteuid());
    snprintf(content[2], sizeof(content[2]), "3 %u 1", getegid());
    for (int i = 0; i < 3; i++) {
        map_steps[i] =
            (struct nsd_step){.operation = NSD_MAP_IDS,
                              .number = {i == 2},
                              .text = {keep_text(files[i]), keep_text(content[i])}};
        if (program != NULL)
            map_steps[i].text[2] = keep_text(program);
    }
    launch.steps = map_steps;
    launch.text = map_texts;
    launch.text_size = sizeof(map_texts);
    map_results =
        mmap(NULL, NSD_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(map_results != MAP_FAILED);
    launch.results = map_results;
    head.step_count = 4;
    launch.head = &head;
    launch.helper = -1;
}

static void maps_are_written_from_outside(void)
{
    long uid = geteuid(), gid = getegid();

    lay_out_maps(NULL);
    CHECK(STEP(MAP_HELPER, NONE, NONE) > 0);
    CHECK_NUMBER(unshare(CLONE_NEWUSER), 0);
    launch.text = map_texts;
    launch.text_size = sizeof(map_texts);
    for (int i = 0; i < 3; i++)
        CHECK_NUMBER(nsd_perform(&launch, &map_steps[i]), 0);
    check_map("uid_map", 0, uid, 1);
    check_map("gid_map", 3, gid, 1);
    CHECK_NUMBER(launch.helper, -1); /* it has gone, and was waited for */
    CHECK(waitpid(-1, NULL, 0) < 0 && errno == ECHILD);
    CHECK_NUMBER(STEP(MAP_IDS, N(1), T("uid_map", "0 0 1")), -EBADF);
}

static void check_program(const char *program, long error, const char *said)
{
    lay_out_maps(program);
    CHECK(STEP(MAP_HELPER, NONE, NONE) > 0);
    launch.text = map_texts;
    launch.text_size = sizeof(map_texts);
    CHECK_NUMBER(nsd_perform(&launch, &map_steps[0]), error);
    CHECK_TEXT((const char *)&map_results[4], said);
    nsd_dismiss_helper(&launch);
    CHECK(waitpid(-1, NULL, 0) < 0 && errno == ECHILD);
}

static void a_program_that_writes_maps_speaks(void)
{
    char path[sizeof(root) + 8], expected[96];
    int fd;

    snprintf(path, sizeof(path), "%s/map", root);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0755);
    CHECK(fd >= 0);
    CHECK(dprintf(fd, "#!/bin/sh\necho \"$# $2 $3 $4 $PATH\" \"$(ls /proc/self/fd)\"\n"
                      "exit 1\n") > 0);
    close(fd);
    snprintf(expected, sizeof(expected),
             "4 0 %u 1 /usr/sbin:/usr/bin:/sbin:/bin 0\n1\n2\n3\n", geteuid());
    check_program(path, -EPERM, expected);
}

static void a_program_that_is_not_there_is_told(void)
{
    check_program("/no/such/program", -ENOENT, "");
    check_program("/dev/null", -EACCES, "");
}

static void a_helper_that_was_killed_is_missed(void)
{
    lay_out_maps(NULL);
    CHECK(STEP(MAP_HELPER, NONE, NONE) > 0);
    CHECK_NUMBER(kill((pid_t)launch.helper_pid, SIGKILL), 0);
    CHECK_NUMBER(waitid(P_PID, (id_t)launch.helper_pid, NULL, WEXITED | WNOWAIT), 0);
    launch.text = map_texts;
    launch.text_size = sizeof(map_texts);
    CHECK_NUMBER(nsd_perform(&launch, &map_steps[0]), -EPIPE);
    nsd_dismiss_helper(&launch);
    CHECK_NUMBER(launch.helper, -1);
}

/* Whose it is, is told by what may be done to it from outside. */
static void a_user_namespace_gets_an_owner(void)
{
    if (geteuid() != 0) {
        CHECK_NUMBER(STEP(OWNER, N(0, 0), NONE), -EPERM);
        return;
    }
    CHECK_NUMBER(STEP(OWNER, N(65534, 65534), NONE), 0);
    CHECK(geteuid() == 65534 && getegid() == 65534 && getuid() == 0);
    CHECK_NUMBER(unshare(CLONE_NEWUTS), 0); /* with the power as before */
    CHECK_NUMBER(unshare(CLONE_NEWUSER), 0);
    {
        int file = open("/proc/self/ns/user", O_RDONLY);
        uid_t owner = 0;

        CHECK_NUMBER(ioctl(file, NS_GET_OWNER_UID, &owner), 0);
        CHECK_NUMBER(owner, 65534);
        close(file);
    }
}

static void a_hidden_process_is_not_dumpable(void)
{
    CHECK_NUMBER(STEP(HIDE, NONE, NONE), 0);
    CHECK_NUMBER(prctl(PR_GET_DUMPABLE), 0);
}

static void nobody_becomes_root_where_there_is_none(void)
{
    long refused = -EPERM;

    if (geteuid() == 0) {
        CHECK_NUMBER(STEP(BECOME_ROOT, NONE, NONE), 0);
        if (STEP(SETGID, N(65534), NONE) == 0) {
            CHECK_NUMBER(STEP(SETUID, N(65534), NONE), 0);
            CHECK(geteuid() == 65534 && getegid() == 65534);
        } else { /* we are in a user namespace without one: take another without anybody */
            CHECK_NUMBER(unshare(CLONE_NEWUSER), 0);
            refused = -EINVAL;
        }
    }
    CHECK_NUMBER(STEP(BECOME_ROOT, NONE, NONE), refused);
    CHECK_NUMBER(STEP(SETUID, N(0), NONE), refused);
    CHECK_NUMBER(STEP(SETGID, N(0), NONE), refused);
    CHECK_NUMBER(STEP(SETGROUPS, N(1), T("\1\1\1\1")), -EPERM);
}

static void the_loopback_comes_up(void)
{
    in_new_namespaces(CLONE_NEWNET);
    CHECK_NUMBER(STEP(LOOPBACK_UP, NONE, NONE), 0);
    CHECK_NUMBER(unshare(CLONE_NEWUSER), 0); /* not the one that owns the network */
    CHECK_NUMBER(STEP(LOOPBACK_UP, NONE, NONE), -EPERM);
}

static void a_host_is_named_in_its_own_namespace(void)
{
    char name[65] = "", large[66];

    in_new_namespaces(CLONE_NEWUTS);
    CHECK_NUMBER(STEP(SETHOSTNAME, NONE, T("boxy")), 0);
    CHECK_NUMBER(gethostname(name, sizeof(name)), 0);
    CHECK_TEXT(name, "boxy");
    memset(large, 'x', 65);
    large[65] = '\0';
    CHECK_NUMBER(STEP(SETHOSTNAME, NONE, T(large)), -EINVAL);
    CHECK_NUMBER(STEP(SETDOMAINNAME, NONE, T("example")), 0);
    CHECK_NUMBER(getdomainname(name, sizeof(name)), 0);
    CHECK_TEXT(name, "example");
    CHECK_NUMBER(STEP(SETDOMAINNAME, NONE, T(large)), -EINVAL);
}

static void only_a_cgroup_is_joined(void)
{
    CHECK_NUMBER(STEP(JOIN_CGROUP, NONE, T("/no/such/cgroup.procs")), -ENOENT);
    CHECK_NUMBER(STEP(JOIN_CGROUP, NONE, T("/dev/null")), -ENOTDIR);
    CHECK_NUMBER(STEP(JOIN_CGROUP, NONE, T("/proc/self/comm")), -ENOTDIR);
}

static void mounts_lie_where_they_were_meant_to(void)
{
    char path[sizeof(root) + 8];

    in_new_namespaces(CLONE_NEWNS);
    CHECK_NUMBER(STEP(PROPAGATION, N(MS_PRIVATE), T(root)),
                 -EINVAL); /* no mount point */
    CHECK_NUMBER(STEP(BIND, N(MS_BIND | MS_REC), T(root, root)), 0);
    CHECK_NUMBER(STEP(BIND, N(MS_BIND), T("/nowhere/at/all", root)), -ENOENT);
    CHECK_NUMBER(STEP(OPEN_ROOT, N(0, -1), T(root)), 0);
    CHECK_NUMBER(STEP(MOUNT, N(0, 0), T("tmpfs", "proc", "tmpfs", root)), 0);
    snprintf(path, sizeof(path), "%s/link", root); /* -> / */
    CHECK_NUMBER(STEP(MOUNT, N(0, 0), T("tmpfs", "link", "tmpfs", root)), -ENOTDIR);
    CHECK_NUMBER(STEP(MOUNT, N(0, -1), T("tmpfs", path, "tmpfs")), -ENOTDIR);
    CHECK_NUMBER(STEP(MOUNT, N(0, 0), T("tmpfs", "proc", "tmpfs", "/")), -ESTALE);
    CHECK_NUMBER(STEP(MOUNT, N(0, -1), T("x", root, "no such filesystem")), -ENODEV);
}

static void pivoting_lets_go_of_the_old_root(void)
{
    struct stat before, after;
    long ret;

    in_new_namespaces(CLONE_NEWNS);
    ret = STEP(PIVOT_ROOT, N(-1), T(root)); /* no mount point */
    CHECK(ret == -EBUSY || ret == -EINVAL); /* in the mount of /, or in another one */
    CHECK_NUMBER(STEP(PIVOT_ROOT, N(-1), T("/nowhere/at/all")), -ENOENT);
    CHECK_NUMBER(STEP(BIND, N(MS_BIND | MS_REC), T(root, root)), 0);
    CHECK_NUMBER(stat(root, &before), 0);
    CHECK_NUMBER(STEP(OPEN_ROOT, N(0, -1), T(root)), 0);
    CHECK_NUMBER(STEP(PIVOT_ROOT, N(0), T(root)), 0);
    CHECK_NUMBER(stat("/..", &after), 0);
    CHECK_NUMBER(before.st_ino, after.st_ino);
    CHECK(access("/etc/passwd", F_OK) == -1 && errno == ENOENT);
}

static void chroot_moves_the_working_directory_too(void)
{
    struct stat before, after;

    in_new_namespaces(CLONE_NEWNS);
    CHECK_NUMBER(STEP(CHROOT, N(-1), T("/nowhere/at/all")), -ENOENT);
    CHECK_NUMBER(stat(root, &before), 0);
    CHECK_NUMBER(STEP(CHROOT, N(-1), T(root)), 0);
    CHECK_NUMBER(stat(".", &after), 0);
    CHECK_NUMBER(before.st_ino, after.st_ino);
}

static void a_directory_outside_the_root_is_refused(void)
{
    char path[32];
    int outside = open("/tmp", O_PATH | O_DIRECTORY | O_CLOEXEC);

    in_new_namespaces(CLONE_NEWNS);
    CHECK_NUMBER(STEP(CHDIR, NONE, T("/")), 0);
    CHECK_NUMBER(STEP(CHDIR, NONE, T("/etc/passwd")), -ENOTDIR);
    CHECK_NUMBER(STEP(OPEN_ROOT, N(0, -1), T(root)), 0);
    snprintf(path, sizeof(path), "%s/proc", root);
    CHECK_NUMBER(STEP(BIND, N(MS_BIND | MS_REC), T("/proc", path)), 0);
    CHECK_NUMBER(STEP(CHROOT, N(0), NONE), 0);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", outside);
    CHECK_NUMBER(STEP(CHDIR, NONE, T(path)), -EXDEV);
}

static void who_is_below_a_mount_goes_to_it(void)
{
    char path[32];
    struct stat below, above, here;

    in_new_namespaces(CLONE_NEWNS);
    CHECK_NUMBER(STEP(PROPAGATION, N(MS_REC | MS_PRIVATE), T("/")), 0);
    snprintf(path, sizeof(path), "%s/proc", root);
    CHECK_NUMBER(STEP(CHDIR, NONE, T(path)), 0);
    CHECK_NUMBER(stat(".", &below), 0);
    CHECK_NUMBER(STEP(MOUNT, N(0, -1), T("tmpfs", path, "tmpfs")), 0);
    CHECK_NUMBER(stat(path, &above), 0);
    CHECK_NUMBER(stat(".", &here), 0);
    CHECK(here.st_dev == below.st_dev);
    CHECK_NUMBER(STEP(CHDIR, NONE, T("/proc/self/cwd")), 0);
    CHECK_NUMBER(stat(".", &here), 0);
    CHECK(here.st_dev == above.st_dev);
    CHECK_NUMBER(mkdir("gone", 0755), 0);
    CHECK_NUMBER(STEP(CHDIR, NONE, T("gone")), 0);
    CHECK_NUMBER(STEP(CHDIR, N(NSD_WHERE_WE_ARE), NONE), 0);
    CHECK_NUMBER(rmdir("../gone"), 0);
    CHECK_NUMBER(STEP(CHDIR, N(NSD_WHERE_WE_ARE), NONE), -ENOENT);
    CHECK_NUMBER(STEP(CHDIR, N(NSD_UNLESS_DELETED), NONE), 0);
    CHECK_NUMBER(stat(".", &here), 0);
    CHECK_NUMBER(stat("/", &above), 0);
    CHECK(here.st_dev == above.st_dev && here.st_ino == above.st_ino);
    CHECK_NUMBER(STEP(CHDIR, NONE, T(path)), 0);
    CHECK_NUMBER(mkdir("below", 0755), 0);
    CHECK_NUMBER(STEP(CHDIR, NONE, T("below")), 0);
    CHECK_NUMBER(STEP(MOUNT, N(0, -1), T("tmpfs", path, "tmpfs")), 0);
    CHECK_NUMBER(STEP(CHDIR, N(NSD_UNLESS_DELETED), NONE), -ENOENT);
    CHECK_NUMBER(STEP(CHDIR, N(NSD_IF_IT_CAN_BE), NONE), 0);
    CHECK_NUMBER(stat(".", &here), 0);
    CHECK(here.st_dev == above.st_dev && here.st_ino == above.st_ino);
}

static void sessions_groups_and_masks(void)
{
    CHECK_NUMBER(STEP(SETPGID, N(4194304 + 1), NONE), -EPERM);
    CHECK_NUMBER(STEP(SETPGID, N(0), NONE), 0);
    CHECK_NUMBER(getpgrp(), getpid());
    CHECK_NUMBER(STEP(SETSID, NONE, NONE), -EPERM); /* a group leader */
    umask(022);
    CHECK_NUMBER(STEP(UMASK, N(077), NONE), 022);
    CHECK_NUMBER(umask(0), 077);
}

static long flags_of(const char *path)
{
    struct statvfs filesystem;

    CHECK_NUMBER(statvfs(path, &filesystem), 0);
    return (long)filesystem.f_flag & (MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC);
}

static const char *below_root(const char *name)
{
    static char paths[2][128];
    static int turn;
    char *path = paths[turn ^= 1];

    snprintf(path, sizeof(paths[0]), "%s/%s", root, name);
    return path;
}

static void files_are_placed_below_the_root(void)
{
    struct stat file;

    in_new_namespaces(CLONE_NEWNS);
    CHECK_NUMBER(STEP(BIND, N(MS_BIND), T(root, root)), 0);
    CHECK_NUMBER(STEP(MOUNT_AT, N(MS_NODEV, -1), T("mode=711", "/proc", "tmpfs", root)),
                 0);
    CHECK_NUMBER(stat(below_root("proc"), &file), 0);
    CHECK_NUMBER(file.st_mode & 07777, 0711);
    CHECK_NUMBER(flags_of(below_root("proc")), MS_NODEV);
    /* Made where nothing is, whatever the umask. */
    umask(077);
    CHECK_NUMBER(STEP(OPEN_SOURCE, N(20, 0), T("/etc")), 0);
    CHECK_NUMBER(fcntl(launch.slot[20], F_GETFD), FD_CLOEXEC);
    CHECK_NUMBER(STEP(BIND_AT, N(MS_REC | MS_RDONLY | MS_NOEXEC, -1, 20),
                      T("/etc", "/proc/a/b/", NULL, root)),
                 0);
    CHECK_NUMBER(stat(below_root("proc/a"), &file), 0);
    CHECK_NUMBER(file.st_mode & 07777, 0755);
    CHECK_NUMBER(access(below_root("proc/a/b/passwd"), R_OK), 0);
    CHECK_NUMBER(flags_of(below_root("proc/a/b")) & (MS_RDONLY | MS_NOEXEC),
                 MS_RDONLY | MS_NOEXEC);
    CHECK_NUMBER(STEP(OPEN_SOURCE, N(21, 0), T("/etc/passwd")), 0);
    CHECK_NUMBER(STEP(BIND_AT, N(0, -1, 21), T("", "/proc/c/file", NULL, root)), 0);
    CHECK_NUMBER(stat(below_root("proc/c/file"), &file), 0);
    CHECK(S_ISREG(file.st_mode) && file.st_size > 0);
    CHECK_NUMBER(umask(022), 077);
    /* Kinds that do not go together, and ways out. */
    CHECK_NUMBER(STEP(BIND_AT, N(0, -1, 21), T("", "/proc/a", NULL, root)), -EISDIR);
    CHECK_NUMBER(STEP(BIND_AT, N(0, -1, 20), T("", "/file", NULL, root)), -ENOTDIR);
    CHECK_NUMBER(STEP(BIND_AT, N(0, -1, 22), T("", "/proc/d", NULL, root)), -EBADF);
    CHECK_NUMBER(STEP(MOUNT_AT, N(0, -1), T("", "/link/tmp", "tmpfs", root)), -ELOOP);
    CHECK_NUMBER(STEP(MOUNT_AT, N(0, -1), T("", "/link", "tmpfs", root)), -ELOOP);
    CHECK_NUMBER(STEP(MOUNT_AT, N(0, -1), T("", "/proc/../x", "tmpfs", root)), -EXDEV);
    CHECK_NUMBER(STEP(MOUNT_AT, N(0, -1), T("", "/file/x", "tmpfs", root)), -ENOTDIR);
    CHECK_NUMBER(STEP(MOUNT_AT, N(0, -1), T("", "/proc", "none-such", root)), -ENODEV);
    CHECK_NUMBER(STEP(MOUNT_AT, N(0, -1), T("size=x", "/proc", "tmpfs", root)),
                 -EINVAL);
    CHECK_NUMBER(STEP(OPEN_SOURCE, N(23, 0), T("/nowhere/at/all")), -ENOENT);
}

/* In a file system of ours instead of /proc: every name is there, and nothing is left. */
static void parts_are_hidden_or_closed(void)
{
    const char *names = "file:folder:none:file/none";
    struct stat file;

    in_new_namespaces(CLONE_NEWNS);
    CHECK_NUMBER(STEP(MOUNT_AT, N(0, -1), T("", "/proc", "tmpfs", root)), 0);
    CHECK_NUMBER(STEP(MASK_AT, N(0, -1), T(names, "/proc", "", root)), -ENOENT);
    CHECK_NUMBER(mkdir(below_root("proc/fs"), 0755), 0);
    CHECK_NUMBER(mkdir(below_root("proc/folder"), 0755), 0);
    CHECK_NUMBER(mkdir(below_root("proc/folder/secret"), 0755), 0);
    close(open(below_root("proc/fs/file"), O_CREAT | O_WRONLY, 0600));
    CHECK_NUMBER(symlink("/etc/passwd", below_root("proc/link")), 0);
    close(open(below_root("proc/file"), O_CREAT | O_WRONLY, 0600));
    umask(077);
    CHECK_NUMBER(STEP(MASK_AT, N(MS_NOEXEC, -1), T(names, "/proc", "fs:none", root)),
                 0);
    CHECK_NUMBER(umask(022), 077);
    CHECK_NUMBER(access(below_root("proc/folder/secret"), F_OK), -1);
    CHECK_NUMBER(stat(below_root("proc/folder"), &file), 0);
    CHECK_NUMBER(file.st_mode, S_IFDIR | 0555);
    CHECK_NUMBER(stat(below_root("proc/file"), &file), 0);
    CHECK_NUMBER(file.st_mode, S_IFREG | 0444);
    CHECK_NUMBER(open(below_root("proc/file"), O_WRONLY | O_CLOEXEC), -1);
    CHECK_NUMBER(errno, EROFS);
    CHECK_NUMBER(access(below_root("proc/fs/file"), F_OK), 0);
    CHECK_NUMBER(flags_of(below_root("proc/fs")) & (MS_RDONLY | MS_NOEXEC),
                 MS_RDONLY | MS_NOEXEC);
    CHECK_NUMBER(flags_of(below_root("proc")) & MS_RDONLY, 0);
    CHECK_NUMBER(STEP(MASK_AT, N(0, -1), T("", "/link", "", root)), -ESTALE);
    /* The very mount, wherever its place is called now. */
    CHECK_NUMBER(mkdir(below_root("other"), 0755), 0);
    CHECK_NUMBER(STEP(MOUNT_AT, N(0, -1), T("", "/other/x", "tmpfs", root)), 0);
    CHECK_NUMBER(mkdir(below_root("other/x/fs"), 0755), 0);
    close(open(below_root("other/x/file"), O_CREAT | O_WRONLY, 0600));
    CHECK_NUMBER(rename(below_root("other"), below_root("moved")), 0);
    CHECK_NUMBER(mkdir(below_root("other"), 0755), 0);
    CHECK_NUMBER(STEP(MASK_AT, N(0, -1), T("file", "/other/x", "", root)), 0);
    CHECK_NUMBER(open(below_root("moved/x/file"), O_WRONLY | O_CLOEXEC), -1);
    CHECK_NUMBER(errno, EROFS);
    CHECK_NUMBER(STEP(BIND_AT, N(0, -1, 22), T("", "/other/x/on", NULL, root)), -EBADF);
    CHECK_NUMBER(STEP(LINK_AT, N(0, -1), T("a", "/other/x", "link", root)), 0);
    CHECK_NUMBER(access(below_root("other/x"), F_OK), -1);
    CHECK_NUMBER(rmdir(below_root("other")), 0);
    CHECK_NUMBER(umount2(below_root("moved/x"), MNT_DETACH), 0);
    CHECK_NUMBER(rmdir(below_root("moved/x")), 0);
    CHECK_NUMBER(rmdir(below_root("moved")), 0);
}

static void links_are_made_below_the_root(void)
{
    char content[32];

    in_new_namespaces(CLONE_NEWNS);
    CHECK_NUMBER(STEP(MOUNT_AT, N(0, -1), T("", "/proc", "tmpfs", root)), 0);
    CHECK_NUMBER(STEP(LINK_AT, N(0, -1), T("a/b", "/proc/x", "name", root)), 0);
    CHECK_NUMBER(readlink(below_root("proc/x/name"), content, sizeof(content)), 3);
    CHECK_NUMBER(STEP(LINK_AT, N(0, -1), T("c", "/proc/x", "name", root)), -EEXIST);
    CHECK_NUMBER(STEP(LINK_AT, N(0, -1), T("c", "/link", "name", root)), -ELOOP);
    CHECK_NUMBER(STEP(LINK_AT, N(0, -1), T("c", "/proc/x/name", "x", root)), -ELOOP);
}

static void layers_lie_over_each_other(void)
{
    const char *more = geteuid() == 0 ? "" : ",userxattr";
    const int64_t in_memory = 30 | 2 << 8, given = 40 | 1 << 8 | NSD_OVERLAY_UPPER;

    in_new_namespaces(CLONE_NEWNS);
    CHECK_NUMBER(STEP(BIND, N(MS_BIND), T(root, root)), 0);
    CHECK_NUMBER(STEP(OPEN_SOURCE, N(30, 0), T(root)), 0);
    CHECK_NUMBER(STEP(OPEN_SOURCE, N(31, 0), T("/usr/share")), 0);
    CHECK_NUMBER(STEP(OVERLAY_AT, N(0, -1, in_memory), T("", "/proc", more, root)),
                 -ESTALE); /* no memory for the changes */
    CHECK_NUMBER(STEP(MOUNT_AT, N(MS_NOSUID, -1, 1), T("", "/proc", "tmpfs", root)), 0);
    CHECK_NUMBER(STEP(OVERLAY_AT, N(MS_NODEV, -1, in_memory),
                      T("in words", "/proc/", more, root)),
                 0);
    /* And the limits of what it covers, and of what it is made of. */
    CHECK_NUMBER(flags_of(below_root("proc")), MS_NODEV | MS_NOSUID | flags_of(root));
    CHECK_NUMBER(access(below_root("proc/file"), F_OK), 0);
    CHECK_NUMBER(access(below_root("proc/doc"), F_OK), 0);
    CHECK_NUMBER(unlink(below_root("proc/file")), 0);
    CHECK_NUMBER(access(below_root("proc/file"), F_OK), -1);
    CHECK_NUMBER(access(below_root("file"), F_OK), 0);
    /* Upper and work given; then with work on another file system. */
    CHECK_NUMBER(STEP(MOUNT_AT, N(0, -1), T("", "/proc", "tmpfs", root)), 0);
    CHECK_NUMBER(mkdir(below_root("proc/upper"), 0755), 0);
    CHECK_NUMBER(mkdir(below_root("proc/work"), 0755), 0);
    CHECK_NUMBER(mkdir(below_root("proc/on"), 0755), 0);
    CHECK_NUMBER(STEP(OPEN_SOURCE, N(40, 0), T("/usr/share")), 0);
    CHECK_NUMBER(STEP(OPEN_SOURCE, N(41, 0), T(below_root("proc/upper"))), 0);
    CHECK_NUMBER(STEP(OPEN_SOURCE, N(42, 0), T(below_root("proc/work"))), 0);
    CHECK_NUMBER(STEP(OVERLAY_AT, N(0, -1, given), T("", "/proc/on", more, root)), 0);
    CHECK_NUMBER(mkdir(below_root("proc/on/new"), 0755), 0);
    CHECK_NUMBER(access(below_root("proc/upper/new"), F_OK), 0);
    CHECK_NUMBER(STEP(OPEN_SOURCE, N(42, 0), T("/")), 0);
    CHECK_NUMBER(STEP(OVERLAY_AT, N(0, -1, given), T("", "/proc/on", more, root)),
                 -EINVAL);
    CHECK_NUMBER(STEP(OVERLAY_AT, N(0, -1, given), T("", "/link", more, root)), -ELOOP);
}

static void an_overlay_becomes_the_root(void)
{
    const char *more = geteuid() == 0 ? "" : ",userxattr";
    struct stat before, after;

    in_new_namespaces(CLONE_NEWNS);
    CHECK_NUMBER(STEP(OPEN_ROOT, N(0, -1), T(root)), 0);
    CHECK_NUMBER(STEP(OPEN_ROOT, N(0, -1, 1), T("/")), -ESTALE);
    CHECK_NUMBER(STEP(OPEN_ROOT, N(0, -1, 1), T(root)), 0);
    CHECK_NUMBER(fstat(launch.slot[0], &before), 0);
    CHECK_NUMBER(STEP(MOUNT_AT, N(0, 0, 1), T("mode=755", "/", "tmpfs", root)), 0);
    CHECK_NUMBER(STEP(OVERLAY_AT, N(0, 0, 0 | 1 << 8 | NSD_OVERLAY_IS_ROOT),
                      T("", "/", more, root)),
                 0);
    CHECK_NUMBER(fstat(launch.slot[0], &after), 0); /* what is below */
    CHECK_NUMBER(before.st_dev, after.st_dev);
    CHECK_NUMBER(stat(root, &after), 0);
    CHECK(before.st_dev != after.st_dev);
    CHECK_NUMBER(after.st_mode, before.st_mode);
    CHECK_NUMBER(fstat(launch.slot[NSD_UPPER_SLOT], &after), 0);
    CHECK_NUMBER(after.st_mode, before.st_mode);
    CHECK_NUMBER(STEP(MOUNT_AT, N(0, 0), T("", "/proc", "tmpfs", root)), 0);
    CHECK_NUMBER(STEP(PIVOT_ROOT, N(0, 1), T(root)), 0);
    CHECK_NUMBER(unlink("/file"), 0);
}

/* What is mounted below the root: a layer of its own; a file, and what is the kernel's, is closed;
 * and a root that is made anew. */
static void what_lies_below_an_overlay_is_layered(void)
{
    const char *more = geteuid() == 0 ? "" : ",userxattr";
    const int64_t over_root = 0 | 1 << 8 | NSD_OVERLAY_IS_ROOT;
    struct stat file;

    in_new_namespaces(CLONE_NEWNS);
    CHECK_NUMBER(STEP(OPEN_ROOT, N(0, -1), T(root)), 0);
    CHECK_NUMBER(STEP(BIND, N(MS_BIND, 0, 1), T(root, root)), 0);
    CHECK_NUMBER(STEP(MOUNT_AT, N(0, 0), T("mode=711", "/proc", "tmpfs", root)), 0);
    CHECK_NUMBER(mkdir(below_root("proc/in"), 0755), 0);
    CHECK_NUMBER(STEP(OPEN_SOURCE, N(20, 0), T("/proc/self")), 0);
    CHECK_NUMBER(STEP(BIND_AT, N(0, 0, 20), T("", "/proc/self", NULL, root)), 0);
    launch.held_count = 0; /* they were there before */
    CHECK_NUMBER(STEP(OPEN_ROOT, N(0, -1, 1), T(root)), 0);
    CHECK_NUMBER(STEP(MOUNT_AT, N(0, 0, 1), T("", "/", "tmpfs", root)), 0);
    CHECK_NUMBER(STEP(OVERLAY_AT, N(0, 0, over_root), T("", "/", more, root)), 0);
    CHECK_NUMBER(access(below_root("proc/in"), F_OK), -1);
    CHECK_NUMBER(STEP(LAYER_AT, N(NSD_LAYER, 0, 1), T(NULL, "/proc", more, root)), 1);
    CHECK_NUMBER(fstat(launch.slot[NSD_UPPER_SLOT], &file), 0);
    CHECK_NUMBER(file.st_mode & 07777, 0711);
    CHECK_NUMBER(mkdir(below_root("proc/new"), 0755), 0);
    CHECK_NUMBER(rmdir(below_root("proc/in")), 0);
    CHECK_NUMBER(faccessat(launch.slot[NSD_LAYER_SLOT], "in", F_OK, 0), 0);
    CHECK_NUMBER(STEP(LAYER_AT, N(NSD_LAYER, 0, 2), T(NULL, "/proc/self", more, root)),
                 0);
    CHECK_NUMBER(launch.slot[NSD_UPPER_SLOT], -1);
    CHECK_NUMBER(access(below_root("proc/self/stat"), R_OK), 0);
    CHECK_NUMBER(STEP(LAYER_AT, N(NSD_LAYER, 0, 3), T(NULL, "/file", more, root)), 0);
    CHECK_NUMBER(open(below_root("file"), O_WRONLY | O_CLOEXEC), -1);
    CHECK_NUMBER(errno, EROFS);
    CHECK_NUMBER(STEP(LAYER_AT, N(NSD_LAYER, 0, 4), T(NULL, "/none", more, root)), 0);
    CHECK_NUMBER(STEP(LAYER_AT, N(NSD_LAYER, 0, 4), T(NULL, "/../x", more, root)),
                 -EXDEV);
}

static void a_root_is_made_anew(void)
{
    const char *more = geteuid() == 0 ? "" : ",userxattr";

    in_new_namespaces(CLONE_NEWNS);
    CHECK_NUMBER(STEP(OPEN_ROOT, N(0, -1), T(root)), 0);
    CHECK_NUMBER(STEP(OPEN_ROOT, N(0, -1, 1), T(root)), 0);
    CHECK_NUMBER(STEP(LAYER_AT, N(NSD_LAYER_SKELETON, 0, 1), T(NULL, "/", more, root)),
                 -ESTALE); /* no memory for it */
    CHECK_NUMBER(STEP(MOUNT_AT, N(0, 0, 1), T("", "/", "tmpfs", root)), 0);
    CHECK_NUMBER(STEP(LAYER_AT, N(NSD_LAYER_SKELETON, 0, 1), T(NULL, "/", more, root)),
                 0);
    CHECK_NUMBER(STEP(LAYER_AT, N(NSD_LAYER_PLACE, 0, 2), T(NULL, "/proc", more, root)),
                 0);
    CHECK_NUMBER(STEP(LAYER_AT, N(NSD_LAYER, 0, 3), T(NULL, "/file", more, root)), 0);
    CHECK_NUMBER(STEP(LINK_AT, N(0, 0), T("/", "/", "link", root)), 0);
    CHECK_NUMBER(STEP(MOUNT_AT, N(0, 0), T("", "/proc", "tmpfs", root)), 0);
    CHECK_NUMBER(STEP(PIVOT_ROOT, N(0, 1), T(root)), 0);
    CHECK_NUMBER(access("/file", R_OK), 0);
    CHECK_NUMBER(access("/upper3", F_OK), -1);
    CHECK_NUMBER(access("/etc", F_OK), -1);
    CHECK_NUMBER(mkdir("/new", 0755), 0);
    CHECK_NUMBER(mkdir("/proc/new", 0755), 0);
}

static void descriptors_are_handed_over(void)
{
    char byte, control[CMSG_SPACE(2 * sizeof(int))] __attribute__((aligned(8)));
    struct iovec piece = {&byte, 1};
    struct msghdr message = {.msg_iov = &piece,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof(control)};
    struct stat sent, got;
    int ends[2], fds[2];

    launch.slot[NSD_UPPER_SLOT] = open("/", O_PATH | O_CLOEXEC);
    launch.slot[10] = open("/usr", O_PATH | O_CLOEXEC);
    launch.slot[NSD_SOCKET_SLOT] = -1;
    CHECK_NUMBER(STEP(HAND_OVER, N(NSD_UPPER_SLOT, 10), NONE), -EBADF);
    CHECK_NUMBER(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
    launch.slot[NSD_SOCKET_SLOT] = ends[1];
    CHECK_NUMBER(STEP(HAND_OVER, N(NSD_UPPER_SLOT, 10), NONE), 0);
    CHECK_NUMBER(recvmsg(ends[0], &message, MSG_CMSG_CLOEXEC), 1);
    memcpy(fds, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fds));
    CHECK_NUMBER(fstat(launch.slot[10], &sent), 0);
    CHECK_NUMBER(fstat(fds[1], &got), 0);
    CHECK(sent.st_ino == got.st_ino && sent.st_dev == got.st_dev);
    CHECK_NUMBER(STEP(HAND_OVER, N(10, -1), NONE), 0);
    message.msg_controllen = sizeof(control);
    CHECK_NUMBER(recvmsg(ends[0], &message, MSG_CMSG_CLOEXEC), 1);
    CHECK_NUMBER(CMSG_FIRSTHDR(&message)->cmsg_len, CMSG_LEN(sizeof(int)));
    close(ends[0]);
    CHECK_NUMBER(STEP(HAND_OVER, N(NSD_UPPER_SLOT, 10), NONE), -EPIPE);
}

static void a_root_is_closed_without_what_lies_below_or_alone(void)
{
    in_new_namespaces(CLONE_NEWNS);
    CHECK_NUMBER(STEP(READONLY, N(NSD_READONLY_TOP, -1), T(NULL, NULL, NULL, root)),
                 -EINVAL); /* no mount */
    CHECK_NUMBER(STEP(BIND, N(MS_BIND), T(root, root)), 0);
    CHECK_NUMBER(STEP(MOUNT_AT, N(0, -1), T("", "/proc", "tmpfs", root)), 0);
    CHECK_NUMBER(STEP(READONLY, N(NSD_READONLY_BELOW, -1), T(NULL, NULL, NULL, root)),
                 0);
    CHECK_NUMBER(flags_of(root) & MS_RDONLY, 0);
    CHECK_NUMBER(flags_of(below_root("proc")) & MS_RDONLY, MS_RDONLY);
    CHECK_NUMBER(STEP(MOUNT_AT, N(0, -1), T("", "/proc", "tmpfs", root)), 0);
    CHECK_NUMBER(STEP(READONLY, N(NSD_READONLY_TOP, -1), T(NULL, NULL, NULL, root)), 0);
    CHECK_NUMBER(flags_of(root) & MS_RDONLY, MS_RDONLY);
    CHECK_NUMBER(flags_of(below_root("proc")) & MS_RDONLY, 0);
    /* What was read-only already is not opened again. */
    CHECK_NUMBER(STEP(READONLY, N(NSD_READONLY_BELOW, -1), T(NULL, NULL, NULL, root)),
                 0);
    CHECK_NUMBER(flags_of(root) & MS_RDONLY, MS_RDONLY);
    CHECK_NUMBER(flags_of(below_root("proc")) & MS_RDONLY, MS_RDONLY);
    CHECK_NUMBER(STEP(READONLY, N(NSD_READONLY_ALL, -1), NONE), 0);
    CHECK_NUMBER(flags_of("/") & MS_RDONLY, MS_RDONLY);
}

static void a_device_is_told_by_its_number(void)
{
    CHECK_NUMBER(STEP(OPEN_SOURCE, N(20, 0x103), T("/dev/null")), 0);
    CHECK_NUMBER(STEP(OPEN_SOURCE, N(21, 0x103), T("/dev/zero")), -ENODEV);
    CHECK_NUMBER(STEP(OPEN_SOURCE, N(21, 0x103), T("/etc/passwd")), -ENODEV);
    CHECK_NUMBER(launch.slot[21], -1);
}

static void a_session_of_its_own(void)
{
    CHECK_NUMBER(STEP(SETSID, NONE, NONE), getpid());
    CHECK_NUMBER(STEP(SETPGID, N(0), NONE), -EPERM); /* a session leader */
}

/* A terminal as the core opens it; its end for the command becomes descriptor 0. */
static int open_terminal(void)
{
    int ours = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), theirs;

    CHECK(ours >= 0 && unlockpt(ours) == 0);
    theirs = ioctl(ours, TIOCGPTPEER, O_RDWR | O_NOCTTY);
    CHECK(theirs > 2);
    CHECK_NUMBER(dup2(theirs, 0), 0);
    close(theirs);
    return ours;
}

static int received_descriptor(int socket)
{
    char byte, room[CMSG_SPACE(sizeof(int))];
    struct iovec piece = {&byte, 1};
    struct msghdr message = {.msg_iov = &piece,
                             .msg_iovlen = 1,
                             .msg_control = room,
                             .msg_controllen = sizeof(room)};
    int fd = -1;

    if (recvmsg(socket, &message, MSG_DONTWAIT) == 1 && CMSG_FIRSTHDR(&message) != NULL)
        memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fd));
    return fd;
}

static void a_terminal_is_the_cores_without_a_devpts(void)
{
    int pair[2], null = open("/dev/null", O_RDWR | O_CLOEXEC), ours, kept;

    CHECK_NUMBER(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    ours = open_terminal();
    CHECK_NUMBER(STEP(TERMINAL, N(1, -1), NONE), -EPERM); /* no session of its own */
    in_new_namespaces(CLONE_NEWNS);
    CHECK_NUMBER(STEP(MOUNT_AT, N(0, -1), T("", "/dev/pts", "tmpfs")), 0);
    launch.slot[NSD_TERMINAL_SLOT] = pair[1];
    CHECK_NUMBER(STEP(SETSID, NONE, NONE), getpid());
    kept = dup(0);
    CHECK_NUMBER(dup2(null, 0), 0);
    CHECK_NUMBER(STEP(TERMINAL, N(1, -1), NONE), -ENOTTY);
    CHECK_NUMBER(dup2(kept, 0), 0);
    CHECK_NUMBER(STEP(TERMINAL, N(1, -1), NONE), 0);
    CHECK_NUMBER(received_descriptor(pair[0]), -1);
    CHECK_NUMBER(tcgetsid(0), getpid());
    CHECK_NUMBER(write(ours, "key\n", 4), 4);
    CHECK_NUMBER(read(0, (char[8]){0}, 8), 4);
}

static void a_terminal_is_of_the_devpts_that_is_there(void)
{
    struct winsize size = {.ws_row = 30, .ws_col = 100};
    int pair[2], cores = open_terminal(), ours;
    unsigned int number = 99;

    CHECK_NUMBER(ioctl(cores, TIOCSWINSZ, &size), 0);
    CHECK_NUMBER(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    launch.slot[NSD_TERMINAL_SLOT] = pair[1];
    in_new_namespaces(CLONE_NEWNS);
    CHECK_NUMBER(
        STEP(MOUNT_AT, N(0, -1), T("newinstance,ptmxmode=0666", "/dev/pts", "devpts")),
        0);
    CHECK_NUMBER(STEP(SETSID, NONE, NONE), getpid());
    CHECK_NUMBER(STEP(TERMINAL, N(1, -1), NONE), 1);
    ours = received_descriptor(pair[0]);
    CHECK(ours >= 0);
    CHECK_NUMBER(ioctl(ours, TIOCGPTN, &number), 0);
    CHECK_NUMBER(number, 0);
    CHECK_NUMBER(ioctl(0, TIOCGWINSZ, &size), 0);
    CHECK_NUMBER(size.ws_col * 1000 + size.ws_row, 100030);
    CHECK_NUMBER(write(ours, "key\n", 4), 4);
    CHECK_NUMBER(read(0, (char[8]){0}, 8), 4);
    CHECK_NUMBER(STEP(TERMINAL, N(1, -1), NONE), -EPERM); /* it has one */
}

static void inheritable_capabilities_are_dropped(void)
{
    CHECK_NUMBER(STEP(DROP_INHERITABLE, NONE, NONE), 0);
    CHECK_NUMBER(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, 0, 0, 0), 0);
}

static void a_limit_is_lowered_and_never_raised(void)
{
    struct rlimit limit;

    CHECK_NUMBER(STEP(RLIMIT, N(RLIMIT_CORE, 0, 5), NONE), 0);
    CHECK_NUMBER(getrlimit(RLIMIT_CORE, &limit), 0);
    CHECK_NUMBER((long)limit.rlim_cur, 0);
    CHECK_NUMBER((long)limit.rlim_max, 5);
    CHECK_NUMBER(STEP(RLIMIT, N(RLIMIT_CORE, 6, 5), NONE), -EINVAL);
    CHECK_NUMBER(STEP(RLIMIT, N(99, 0, 0), NONE), -EINVAL);
    CHECK_NUMBER(STEP(RLIMIT, N(RLIMIT_NOFILE, 0, -1), NONE), -EPERM);
}

/* CAP_KILL is number 5, CAP_SYS_ADMIN 21. */
static void securebits_are_set_with_power(void)
{
    in_new_namespaces(CLONE_NEWUSER);
    CHECK_NUMBER(STEP(CAPSET, N(-1, 1 << 5), NONE), 0);
    CHECK_NUMBER(STEP(SECUREBITS, N(1 << 6 | 3), NONE), 0);
    CHECK_NUMBER(prctl(PR_GET_SECUREBITS), 1 << 6 | 3);
    CHECK_NUMBER(STEP(SECUREBITS, N(1 << 6), NONE), -EPERM); /* it is locked */
    /* Nothing more becomes ambient; what is stays so. */
    CHECK_NUMBER(STEP(CAPSET, N(-1, 1 << 5), NONE), 0);
    CHECK_NUMBER(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, 5, 0, 0), 1);
    CHECK_NUMBER(STEP(CAPSET, N(-1, 1 << 5 | 1), NONE), -EPERM);
    CHECK_NUMBER(STEP(CAPSET, NONE, NONE), 0);
    CHECK_NUMBER(STEP(SECUREBITS, N(3), NONE), -EPERM);
}

static void nothing_is_opened_but_what_is_allowed(void)
{
    char path[128];
    long version;
    int fd;

    launch.slot[NSD_RULESET_SLOT] = -1;
    version = STEP(LANDLOCK, NONE, NONE);
    CHECK_NUMBER(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    if (version == -EOPNOTSUPP || version == -ENOSYS) { /* this kernel has none */
        CHECK_NUMBER(STEP(LANDLOCK_ALLOW, N(0), T(root)), version);
        CHECK(STEP(LANDLOCK_RESTRICT, NONE, NONE) < 0);
        return;
    }
    CHECK(version >= 3);
    snprintf(path, sizeof(path), "%s/file", root);
    CHECK_NUMBER(STEP(LANDLOCK_ALLOW, N(0), T("/nowhere/at/all")), -ENOENT);
    CHECK_NUMBER(STEP(LANDLOCK_ALLOW, N(0), T(root)), 0);
    CHECK_NUMBER(STEP(LANDLOCK_ALLOW, N(1), T("/dev/null")), 0);
    CHECK_NUMBER(STEP(LANDLOCK_RESTRICT, NONE, NONE), 0);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    close(fd);
    CHECK_NUMBER(open(path, O_WRONLY | O_CLOEXEC), -1);
    CHECK_NUMBER(errno, EACCES);
    CHECK_NUMBER(truncate(path, 0), -1);
    CHECK_NUMBER(errno, EACCES);
    CHECK_NUMBER(open("/etc/passwd", O_RDONLY | O_CLOEXEC), -1);
    CHECK_NUMBER(errno, EACCES);
    fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    close(fd);
    launch.slot[NSD_RULESET_SLOT] = -1;
    CHECK_NUMBER(STEP(LANDLOCK_RESTRICT, NONE, NONE), -EBADF);
}

static void only_what_is_kept_is_left(void)
{
    in_new_namespaces(CLONE_NEWUSER);
    CHECK_NUMBER(STEP(KEEP_CAPABILITIES, NONE, NONE), 0);
    CHECK_NUMBER(prctl(PR_GET_KEEPCAPS), 1);
    CHECK_NUMBER(STEP(DROP_BOUNDING, N(1 << 5), NONE), 0);
    CHECK_NUMBER(prctl(PR_CAPBSET_READ, 5), 1);
    CHECK_NUMBER(prctl(PR_CAPBSET_READ, 21), 0);
    CHECK_NUMBER(STEP(CAPSET, N(1 << 5, 1 << 5), NONE), 0);
    CHECK_NUMBER(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, 5, 0, 0), 1);
    CHECK_NUMBER(STEP(CAPSET, N(-1, 0), NONE), 0);
    CHECK_NUMBER(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, 5, 0, 0), 0);
    CHECK_NUMBER(STEP(CAPSET, N(1 << 21, 0), NONE), -EPERM);
    CHECK_NUMBER(STEP(CAPSET, N(-1, 1 << 21), NONE), -EPERM);
    CHECK_NUMBER(STEP(CAPSET, NONE, NONE), 0);
    CHECK_NUMBER(STEP(DROP_BOUNDING, NONE, NONE), -EPERM);
}

/* A filter is bytes and holds zeros: its bytes lie before the step's other text. */
static long set_filter(const struct sock_filter *filter, int64_t count)
{
    struct nsd_step step = {.operation = NSD_SECCOMP, .number = {count}, .text = {8}};
    struct {
        char absent[8];
        struct sock_filter filter[2];
    } text = {{0}, {filter[0], filter[1]}};

    launch.text = (const char *)&text;
    launch.text_size = sizeof(text);
    performed[NSD_SECCOMP]++;
    return nsd_perform(&launch, &step);
}

static void a_filter_needs_a_promise_and_a_valid_program(void)
{
    const struct sock_filter allows[2] = {{BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW}};
    const struct sock_filter endless[2] = {{BPF_JMP | BPF_JA, 0, 0, 7}};

    CHECK_NUMBER(STEP(CAPSET, NONE, NONE), 0);
    CHECK_NUMBER(set_filter(allows, 1), -EACCES);
    CHECK_NUMBER(STEP(SECCOMP, NONE, NONE), -EINVAL); /* no instruction at all */
    CHECK_NUMBER(STEP(NO_NEW_PRIVS, NONE, NONE), 0);
    CHECK_NUMBER(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 1);
    CHECK_NUMBER(set_filter(allows, 0), -EINVAL);
    CHECK_NUMBER(set_filter(endless, 1), -EINVAL);
    CHECK_NUMBER(set_filter(allows, 1), 0);
    CHECK_NUMBER(prctl(PR_GET_SECCOMP), 2);
}

static void dying_with_the_parent_needs_that_parent(void)
{
    int signal = 0;

    launch.self = NSD_FIRST;
    head.parent = getppid();
    CHECK_NUMBER(STEP(DIE_WITH_PARENT, NONE, NONE), 0);
    CHECK_NUMBER(prctl(PR_GET_PDEATHSIG, &signal), 0);
    CHECK_NUMBER(signal, SIGKILL);
    CHECK_NUMBER(prctl(PR_SET_PDEATHSIG, 0), 0);
    head.parent = 1 + getppid();
    CHECK_NUMBER(STEP(DIE_WITH_PARENT, NONE, NONE), -ESRCH);
    CHECK_NUMBER(prctl(PR_SET_PDEATHSIG, 0), 0);
}

static void those_that_change_who_we_are_live_elsewhere(void)
{
    CHECK_NUMBER(STEP(CLONE, NONE, NONE), -ENOSYS);
    CHECK_NUMBER(STEP(GUARD, NONE, NONE), -ENOSYS);
    CHECK_NUMBER(STEP(THREAD, NONE, NONE), -ENOSYS);
    CHECK_NUMBER(STEP(FORK, NONE, NONE), -ENOSYS);
    CHECK_NUMBER(STEP(INIT, NONE, NONE), -ENOSYS);
    CHECK_NUMBER(STEP(EXEC, NONE, NONE), -ENOSYS);
    CHECK_NUMBER(STEP(END, NONE, NONE), -ENOSYS);
}

/* The error of an execution, as execvp(3) chooses it, and the path that it is about. */
static void check_execution(const char *first, const char *second, long error,
                            long tried)
{
    char *vectors[] = {(char[]){"name"},          NULL, NULL, (char *)(uintptr_t)first,
                       (char *)(uintptr_t)second, NULL};
    struct nsd_result result = {0};

    head.step_count = 1;
    head.argv_count = 1;
    head.path_count = 2;
    launch.results = &result;
    launch.vectors = vectors;
    nsd_execute(&launch);
    CHECK_NUMBER(result.error, -error);
    CHECK_NUMBER(result.value, tried);
}

static void executing_reports_the_error_that_matters(void)
{
    check_execution("/nowhere/a", "/nowhere/b", -ENOENT, 0);
    check_execution("/etc/passwd", "/nowhere/b", -EACCES, 0);
    check_execution("/etc/passwd/x", "/etc/passwd", -EACCES, 1);
}

static void executing_succeeds_with_the_second_path(void)
{
    char *vectors[] = {(char[]){"true"},      NULL, NULL, (char[]){"/nowhere/true"},
                       (char[]){"/bin/true"}, NULL};
    struct nsd_result result = {0};

    head.step_count = 1;
    head.argv_count = 1;
    head.path_count = 2;
    launch.results = &result;
    launch.vectors = vectors;
    nsd_execute(&launch);
    UNREACHED("the command was not executed");
}

static void make_root(void)
{
    char path[sizeof(root) + 8];
    int fd;

    CHECK(mkdtemp(root) != NULL && chmod(root, 0755) == 0);
    snprintf(path, sizeof(path), "%s/proc", root);
    CHECK_NUMBER(mkdir(path, 0755), 0);
    snprintf(path, sizeof(path), "%s/link", root);
    CHECK_NUMBER(symlink("/", path), 0);
    snprintf(path, sizeof(path), "%s/file", root);
    fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
    CHECK(fd >= 0);
    close(fd);
}

static void remove_root(void)
{
    static const char *const names[] = {"proc", "link", "file"};
    char path[sizeof(root) + 8];

    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof(path), "%s/%s", root, names[i]);
        if (unlink(path) < 0)
            rmdir(path);
    }
    rmdir(root);
}

static void every_operation_was_performed(void)
{
    static const char *const words[] = {
#define ROW(name, word, function, way, numbers, texts) (word),
#include "operations.def"
    };

    for (int i = 0; i < NSD_OPERATION_COUNT; i++) {
        if (performed[i] == 0)
            fprintf(stderr, "%s is not tested\n", words[i]);
        CHECK(performed[i] > 0);
    }
}

static int namespaces_are_allowed(void)
{
    int status;
    pid_t pid = fork();

    if (pid == 0)
        _exit(unshare(geteuid() == 0 ? CLONE_NEWNS : CLONE_NEWUSER | CLONE_NEWNS) < 0);
    CHECK_NUMBER(waitpid(pid, &status, 0), pid);
    return status == 0;
}

/* Numbers that lead behind an array, and texts behind the plan's. */
static void what_leads_nowhere_is_not_performed(void)
{
    static const struct {
        enum nsd_operation operation;
        int64_t number[3];
        uint32_t text[4];
    } bad[] = {
        {NSD_OPERATION_COUNT, {0}, {0}},
        {NSD_OPEN_PROCESS, {1, 0, NSD_SLOTS}, {0}},
        {NSD_OPEN_PROCESS, {1, 0, -1}, {0}},
        {NSD_OPEN_ROOT, {NSD_SLOTS, -1}, {4}},
        {NSD_OPEN_ROOT, {0, NSD_SLOTS}, {4}},
        {NSD_OPEN_ROOT, {0, -2}, {4}},
        {NSD_OPEN_ROOT, {0, -1}, {0}},
        {NSD_JOIN, {INT64_MAX}, {0}},
        {NSD_JOIN, {INT64_MIN}, {0}},
        {NSD_ENTER_TIME, {-1}, {0}},
        {NSD_PIN, {0, NSD_SLOTS}, {4, 4}},
        {NSD_PIN, {0, -1}, {4}},
        {NSD_OPEN_SOURCE, {NSD_SLOTS}, {4}},
        {NSD_BIND_AT, {0, -1, -1}, {4, 4}},
        {NSD_BIND_AT, {0, NSD_SLOTS, 0}, {4, 4}},
        {NSD_MOUNT_AT, {0, NSD_SLOTS}, {4, 4, 4}},
        {NSD_MASK_AT, {0, -2}, {4, 4, 4}},
        {NSD_LINK_AT, {0, NSD_SLOTS}, {4, 4, 4}},
        {NSD_OVERLAY_AT, {0, -1, 0}, {4, 4, 4}},
        {NSD_OVERLAY_AT, {0, -1, 60 | 20 << 8}, {4, 4, 4}},
        {NSD_OVERLAY_AT, {0, -1, 70 | 1 << 8 | NSD_OVERLAY_UPPER}, {4, 4, 4}},
        {NSD_OVERLAY_AT, {0, -1, 5 | NSD_OVERLAY_IS_ROOT}, {4, 4, 4}},
        {NSD_LAYER_AT, {4, 0, 1}, {0, 4, 4}},
        {NSD_LAYER_AT, {0, -1, 1}, {0, 4, 4}},
        {NSD_LAYER_AT, {0, 0, -1}, {0, 4, 4}},
        {NSD_LAYER_AT, {0, 0, 1}, {4}},
        {NSD_HAND_OVER, {0, NSD_SLOTS}, {0}},
        {NSD_READONLY, {3, -1}, {0}},
        {NSD_PIVOT_ROOT, {NSD_SLOTS}, {4}},
        {NSD_CHROOT, {-1}, {0}},
        {NSD_MOUNT, {0, 1 << 20}, {4, 4, 4}},
        {NSD_SETHOSTNAME, {0}, {0}},
        {NSD_SETHOSTNAME, {0}, {8}},
        {NSD_CHDIR, {0}, {UINT32_MAX}},
        {NSD_WRITE_PROC, {0}, {4}},
        {NSD_CLONE, {CLONE_VM | CLONE_SIGHAND | CLONE_THREAD}, {0}},
        {NSD_CLONE, {CLONE_NEWUTS, 3}, {0}},
        {NSD_SETGROUPS, {-1}, {4}},
        {NSD_SETGROUPS, {2}, {4}},
        {NSD_SETGROUPS, {1}, {0}},
        {NSD_SECCOMP, {1}, {4}},
        {NSD_SECCOMP, {1 << 20}, {4}},
    };
    static const char texts[8] = "\0\0\0\0abc"; /* 4 is a text, 8 is none */

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct nsd_step step = {.operation = (uint32_t)bad[i].operation};

        memcpy(step.number, bad[i].number, sizeof(step.number));
        memcpy(step.text, bad[i].text, sizeof(step.text));
        launch.text = texts;
        launch.text_size = sizeof(texts);
        printf("%zu ", i);
        CHECK_NUMBER(nsd_check_step(&step, texts, sizeof(texts)), -EINVAL);
        CHECK_NUMBER(nsd_perform(&launch, &step), -EINVAL);
    }
}

/* head, two steps, three empty vectors, text: and each of its sizes wrong once. */
static void what_is_no_plan_is_not_laid_out(void)
{
    struct {
        struct nsd_plan_head head;
        struct nsd_step steps[2];
        uint64_t vectors[4];
        char text[8];
    } good = {.head = {.step_count = 2, .argv_count = 1},
              .steps = {{.operation = NSD_SETSID}, {.operation = NSD_EXEC}},
              .vectors = {4}},
      bad;

    memset(good.head.slot, -1, sizeof(good.head.slot));
    for (int wrong = 0; wrong < 8; wrong++) {
        struct nsd_launch it = {.head = &bad.head, .plan_size = sizeof(bad)};

        bad = good;
        if (wrong == 1)
            it.plan_size = sizeof(bad.head) - 1;
        if (wrong == 2)
            it.plan_size = sizeof(bad) - sizeof(bad.text);
        if (wrong == 3)
            bad.head.step_count = 0;
        if (wrong == 4)
            bad.head.step_count = UINT32_MAX;
        if (wrong == 5)
            bad.head.envp_count = UINT32_MAX;
        if (wrong == 6)
            bad.vectors[0] = sizeof(bad.text);
        if (wrong == 7)
            bad.text[7] = 'x';
        CHECK_NUMBER(nsd_lay_out(&it), wrong == 0);
    }
}

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

/* Above the limit of now, and with a table that is full. */
static void descriptors_of_any_number_are_closed(bool has_proc)
{
    struct rlimit limit;
    int kept[] = {9, 0};
    int high;

    CHECK_NUMBER(getrlimit(RLIMIT_NOFILE, &limit), 0);
    if (limit.rlim_cur > 1000)
        limit.rlim_cur = 1000;
    high = (int)limit.rlim_cur - 1;
    for (int fd = 3; fd <= high; fd++)
        CHECK_NUMBER(dup2(2, fd), fd);
    kept[1] = high - 1;
    limit.rlim_cur = 20;
    if (!has_proc && limit.rlim_max > 1024 * 1024)
        limit.rlim_max = 1024 * 1024;
    CHECK_NUMBER(setrlimit(RLIMIT_NOFILE, &limit), 0);
    CHECK_NUMBER(nsd_close_all_but(kept, 2), 0);
    for (int fd = 0; fd <= high; fd++)
        CHECK_NUMBER(is_open(fd), fd < 3 || fd == kept[0] || fd == kept[1]);
}

static void descriptors_are_listed(void)
{
    descriptors_of_any_number_are_closed(true);
}

static void write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    CHECK(fd >= 0);
    CHECK_NUMBER(write(fd, text, strlen(text)), (long long)strlen(text));
    close(fd);
}

static void descriptors_are_closed_without_proc(void)
{
    uid_t uid = geteuid();
    char uids[32], gids[32];

    snprintf(uids, sizeof(uids), "0 %u 1", (unsigned int)uid);
    snprintf(gids, sizeof(gids), "0 %u 1", (unsigned int)getegid());
    CHECK_NUMBER(unshare(CLONE_NEWNS | (uid == 0 ? 0 : CLONE_NEWUSER)), 0);
    if (uid != 0) { /* nobody makes no directory */
        write_text("/proc/self/uid_map", uids);
        write_text("/proc/self/setgroups", "deny");
        write_text("/proc/self/gid_map", gids);
    }
    CHECK_NUMBER(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
    CHECK_NUMBER(mount("tmpfs", "/proc", "tmpfs", 0, NULL), 0);
    CHECK_NUMBER(mkdir("/proc/self", 0755), 0);
    CHECK_NUMBER(mkdir("/proc/self/fd", 0755), 0); /* no list of ours */
    descriptors_of_any_number_are_closed(false);
}

/* More numbers than can be tried: an error is better than a descriptor too many. */
static void descriptors_that_nobody_can_list_are_an_error(void)
{
    struct rlimit limit;

    CHECK_NUMBER(getrlimit(RLIMIT_NOFILE, &limit), 0);
    if (limit.rlim_max <= 1024 * 1024)
        return; /* this machine does not allow as many */
    CHECK_NUMBER(unshare(CLONE_NEWNS | (geteuid() == 0 ? 0 : CLONE_NEWUSER)), 0);
    CHECK_NUMBER(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
    CHECK_NUMBER(mount("tmpfs", "/proc", "tmpfs", 0, NULL), 0);
    CHECK_NUMBER(nsd_close_all_but(NULL, 0), -EMFILE);
}

int main(void)
{
    performed = mmap(NULL, sizeof(int[NSD_OPERATION_COUNT]), PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(performed != MAP_FAILED);
    launch.head = &head;
    launch.parent = -1;
    launch.helper = -1;
    for (int i = 0; i < NSD_SLOTS; i++)
        launch.slot[i] = -1;
    if (!namespaces_are_allowed()) {
        puts("this machine gives us no namespaces");
        return SKIPPED;
    }
    make_root();
    atexit(remove_root);
    IN_CHILD(a_process_is_opened_if_it_is_the_same);
    IN_CHILD(a_root_is_opened_while_its_process_lives);
    IN_CHILD(only_a_parent_is_watched);
    IN_CHILD(a_namespace_is_joined_by_its_file);
    IN_CHILD(who_hides_stays_hidden_with_other_ids);
    IN_CHILD(an_impossible_namespace_is_refused);
    IN_CHILD(a_new_time_namespace_is_entered);
    IN_CHILD(a_namespace_is_pinned_on_a_file);
    IN_CHILD(who_asks_for_a_pin_waits_for_the_living_only);
    IN_CHILD(only_proc_is_written_to);
    IN_CHILD(descriptors_are_listed);
    IN_CHILD(descriptors_are_closed_without_proc);
    IN_CHILD(descriptors_that_nobody_can_list_are_an_error);
    IN_CHILD(maps_are_written_from_outside);
    IN_CHILD(a_program_that_writes_maps_speaks);
    IN_CHILD(a_program_that_is_not_there_is_told);
    IN_CHILD(a_helper_that_was_killed_is_missed);
    IN_CHILD(a_user_namespace_gets_an_owner);
    IN_CHILD(a_hidden_process_is_not_dumpable);
    IN_CHILD(nobody_becomes_root_where_there_is_none);
    IN_CHILD(the_loopback_comes_up);
    IN_CHILD(a_host_is_named_in_its_own_namespace);
    IN_CHILD(only_a_cgroup_is_joined);
    IN_CHILD(mounts_lie_where_they_were_meant_to);
    IN_CHILD(pivoting_lets_go_of_the_old_root);
    IN_CHILD(chroot_moves_the_working_directory_too);
    IN_CHILD(a_directory_outside_the_root_is_refused);
    IN_CHILD(who_is_below_a_mount_goes_to_it);
    IN_CHILD(sessions_groups_and_masks);
    IN_CHILD(files_are_placed_below_the_root);
    IN_CHILD(links_are_made_below_the_root);
    IN_CHILD(parts_are_hidden_or_closed);
    IN_CHILD(layers_lie_over_each_other);
    IN_CHILD(an_overlay_becomes_the_root);
    IN_CHILD(what_lies_below_an_overlay_is_layered);
    IN_CHILD(a_root_is_made_anew);
    IN_CHILD(descriptors_are_handed_over);
    IN_CHILD(a_root_is_closed_without_what_lies_below_or_alone);
    IN_CHILD(a_device_is_told_by_its_number);
    IN_CHILD(a_session_of_its_own);
    IN_CHILD(a_terminal_is_the_cores_without_a_devpts);
    IN_CHILD(a_terminal_is_of_the_devpts_that_is_there);
    IN_CHILD(inheritable_capabilities_are_dropped);
    IN_CHILD(securebits_are_set_with_power);
    IN_CHILD(nothing_is_opened_but_what_is_allowed);
    IN_CHILD(a_limit_is_lowered_and_never_raised);
    IN_CHILD(only_what_is_kept_is_left);
    IN_CHILD(a_filter_needs_a_promise_and_a_valid_program);
    IN_CHILD(dying_with_the_parent_needs_that_parent);
    IN_CHILD(those_that_change_who_we_are_live_elsewhere);
    IN_CHILD(executing_reports_the_error_that_matters);
    IN_CHILD(executing_succeeds_with_the_second_path);
    RUN(what_leads_nowhere_is_not_performed);
    RUN(what_is_no_plan_is_not_laid_out);
    RUN(every_operation_was_performed);
    return 0;
}
