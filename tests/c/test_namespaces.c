/* The table of the eight namespaces, and who is in which. */
#include "core/namespaces.h"

#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

static void every_row_is_filled_and_every_flag_its_own(void)
{
    int seen = 0;

    for (int i = 0; i < NSD_NAMESPACE_COUNT; i++) {
        const struct nsd_namespace *row = &nsd_namespaces[i];

        CHECK(row->keyword != NULL && row->file != NULL);
        CHECK(row->flag != 0 && (row->flag & (row->flag - 1)) == 0);
        CHECK_NUMBER(seen & row->flag, 0);
        seen |= row->flag;
    }
    CHECK_NUMBER(nsd_namespaces[NSD_MOUNT_NS].flag, CLONE_NEWNS);
    CHECK_NUMBER(nsd_namespaces[NSD_USER_NS].flag, CLONE_NEWUSER);
    CHECK_TEXT(nsd_namespaces[NSD_MOUNT_NS].file, "mnt");
}

static void an_identity_is_what_stat_says(void)
{
    for (int i = 0; i < NSD_NAMESPACE_COUNT; i++) {
        struct nsd_identity ours, mine;
        struct stat found;
        char path[64];

        snprintf(path, sizeof(path), "/proc/self/ns/%s", nsd_namespaces[i].file);
        if (stat(path, &found) < 0)
            continue; /* not in this kernel */
        CHECK_NUMBER(nsd_identity_of(0, (enum nsd_namespace_kind)i, &ours), 0);
        CHECK_NUMBER(nsd_identity_of(getpid(), (enum nsd_namespace_kind)i, &mine), 0);
        CHECK_NUMBER(ours.device, found.st_dev);
        CHECK_NUMBER(ours.inode, found.st_ino);
        CHECK_NUMBER(mine.inode, ours.inode);
    }
}

static pid_t ended_child(void)
{
    pid_t pid = fork();

    if (pid == 0)
        _exit(0);
    return pid;
}

static void nobody_has_no_identity(void)
{
    struct nsd_identity identity = {1, 2};
    int64_t started = 3;
    int flags = 4;
    pid_t pid = ended_child();

    CHECK_NUMBER(waitpid(pid, NULL, 0), pid);
    CHECK_NUMBER(nsd_identity_of(pid, NSD_UTS_NS, &identity), -ESRCH);
    CHECK_NUMBER(nsd_process_started(pid, &started), -ESRCH);
    CHECK_NUMBER(nsd_process_birth(pid, &started), -ESRCH);
    CHECK_NUMBER(nsd_foreign_namespaces(pid, CLONE_NEWUTS, &flags), -ESRCH);
    CHECK(identity.device == 1 && identity.inode == 2 && started == 3 && flags == 4);
}

static void a_zombie_has_ended(void)
{
    pid_t pid = ended_child();
    siginfo_t info;
    int64_t started;

    CHECK_NUMBER(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
    CHECK_NUMBER(nsd_process_started(pid, &started), -ESRCH);
    CHECK_NUMBER(waitpid(pid, NULL, 0), pid);
}

static void the_start_is_found_behind_any_name(void)
{
    static const char *const names[] = {"plain", ") R 1 2 3 (", "a b) c",
                                        ")))))))))))))))"};
    int64_t before, started;

    CHECK_NUMBER(nsd_process_started(getpid(), &before), 0);
    CHECK(before > 0);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        CHECK_NUMBER(prctl(PR_SET_NAME, names[i]), 0);
        CHECK_NUMBER(nsd_process_started(getpid(), &started), 0);
        CHECK_NUMBER(started, before);
        CHECK_NUMBER(nsd_process_birth(getpid(), &started), 0);
        CHECK(started == before || started < 0);
    }
}

static void the_kind_of_a_file_is_told(void)
{
    int pipe_ends[2];

    for (int i = 0; i < NSD_NAMESPACE_COUNT; i++) {
        char path[64];
        int fd;

        snprintf(path, sizeof(path), "/proc/self/ns/%s", nsd_namespaces[i].file);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            continue;
        CHECK_NUMBER(nsd_kind_of_file(fd), i);
        close(fd);
    }
    CHECK_NUMBER(pipe2(pipe_ends, O_CLOEXEC), 0);
    CHECK_NUMBER(nsd_kind_of_file(pipe_ends[0]), -EINVAL);
    CHECK_NUMBER(nsd_kind_of_file(-1), -EINVAL);
    close(pipe_ends[0]);
    close(pipe_ends[1]);
}

static void what_we_share_is_not_foreign(void)
{
    int flags = -1;

    CHECK_NUMBER(nsd_foreign_namespaces(getpid(), ~0, &flags), 0);
    CHECK_NUMBER(flags, 0);
}

static void what_a_child_left_is_foreign(void)
{
    int ready[2], flags = 0, expected = CLONE_NEWUTS;
    char byte = 'x';
    pid_t pid;

    if (!nsd_has_capability(21 /* CAP_SYS_ADMIN */))
        expected |= CLONE_NEWUSER;
    CHECK_NUMBER(pipe2(ready, O_CLOEXEC), 0);
    pid = fork();
    if (pid == 0) {
        if (unshare(expected) < 0)
            byte = '!';
        if (write(ready[1], &byte, 1) != 1)
            _exit(1);
        pause();
        _exit(0);
    }
    CHECK_NUMBER(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    close(ready[1]);
    if (byte == '!') {
        puts("skipped: this machine allows no new namespaces");
    } else {
        CHECK_NUMBER(nsd_foreign_namespaces(pid, ~0, &flags), 0);
        CHECK_NUMBER(flags, expected);
        CHECK_NUMBER(nsd_foreign_namespaces(pid, CLONE_NEWNET, &flags), 0);
        CHECK_NUMBER(flags, 0);
    }
    kill(pid, SIGKILL);
    CHECK_NUMBER(waitpid(pid, NULL, 0), pid);
}

static void capabilities_are_what_proc_says(void)
{
    FILE *status = fopen("/proc/self/status", "re");
    char line[256];
    unsigned long long effective = 0;

    CHECK(status != NULL);
    while (fgets(line, sizeof(line), status) != NULL)
        if (strncmp(line, "CapEff:", 7) == 0)
            effective = strtoull(line + 7, NULL, 16);
    fclose(status);
    for (int i = 0; i < 41; i++)
        CHECK_NUMBER(nsd_has_capability(i), effective >> i & 1);
}

int main(void)
{
    RUN(every_row_is_filled_and_every_flag_its_own);
    RUN(an_identity_is_what_stat_says);
    RUN(nobody_has_no_identity);
    RUN(a_zombie_has_ended);
    RUN(the_start_is_found_behind_any_name);
    RUN(the_kind_of_a_file_is_told);
    RUN(what_we_share_is_not_foreign);
    RUN(what_a_child_left_is_foreign);
    RUN(capabilities_are_what_proc_says);
    return 0;
}
