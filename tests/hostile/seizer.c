/* seizer KEPT [PID] - holds CAP_SYS_PTRACE, and seizes whoever joins before his command is
 * executed; or that one process.
 *
 * As PID 1 of a pid namespace it knows the next number. Whoever it stops is searched: power that
 * is not among KEPT (a mask in hex), descriptors behind 2, and memory that is shared with
 * somebody else. SIGTERM ends it.
 */
#include "look.h"

#include <dirent.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdint.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static volatile sig_atomic_t ended;
static uint64_t kept;
static int seen, seized, early, findings;

static void end(int signal)
{
    ended = signal;
}

static void tell(int pid, const char *what, const char *detail)
{
    if (findings++ < 20)
        printf("found %s of %d: %s\n", what, pid, detail);
}

static void look_at_power(int pid)
{
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, pid};
    struct __user_cap_data_struct data[2] = {{0}, {0}};
    uint64_t permitted;
    char text[32];

    if (syscall(SYS_capget, &head, data) < 0)
        return;
    permitted = (uint64_t)data[1].permitted << 32 | data[0].permitted;
    snprintf(text, sizeof(text), "%llx", (unsigned long long)permitted);
    if ((permitted & ~kept) != 0)
        tell(pid, "power", text);
}

static void look_at_descriptors(int pid)
{
    char path[64], target[256];
    DIR *directory;

    snprintf(path, sizeof(path), "/proc/%d/fd", pid);
    directory = opendir(path);
    if (directory == NULL)
        return;
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        ssize_t length;

        if (entry->d_name[0] == '.' || atoi(entry->d_name) <= 2)
            continue;
        length =
            readlinkat(dirfd(directory), entry->d_name, target, sizeof(target) - 1);
        target[length > 0 ? length : 0] = '\0';
        tell(pid, "a descriptor", target);
    }
    closedir(directory);
}

/* The file in which Python reads what came of each step. */
static void look_at_memory(int pid)
{
    int fd = open_of(pid, "maps", O_RDONLY);
    FILE *maps = fd < 0 ? NULL : fdopen(fd, "r");
    char line[512];

    while (maps != NULL && fgets(line, sizeof(line), maps) != NULL)
        if (strstr(line, "nsdemo-plan") != NULL)
            tell(pid, "memory", line);
    if (maps != NULL)
        fclose(maps);
}

static int is_launcher(int pid)
{
    char path[64], target[256];
    ssize_t length;

    snprintf(path, sizeof(path), "/proc/%d/exe", pid);
    length = readlink(path, target, sizeof(target) - 1);
    target[length > 0 ? length : 0] = '\0';
    return strstr(target, "memfd:nsdemo") != NULL;
}

static void seize(int pid)
{
    int status;

    if (ptrace(PTRACE_SEIZE, pid, 0, 0) < 0)
        return;
    seized++;
    if (ptrace(PTRACE_INTERRUPT, pid, 0, 0) < 0 || waitpid(pid, &status, __WALL) != pid)
        return;
    if (WIFSTOPPED(status) && is_launcher(pid)) {
        early++;
        look_at_power(pid);
        look_at_descriptors(pid);
        look_at_memory(pid);
    }
    ptrace(PTRACE_DETACH, pid, 0, 0);
}

/* The last number that this pid namespace has given away. */
static int last_pid(void)
{
    char text[128] = "";
    int fd = open("/proc/loadavg", O_RDONLY | O_CLOEXEC);
    const char *last = NULL;

    if (fd >= 0 && read(fd, text, sizeof(text) - 1) > 0)
        last = strrchr(text, ' ');
    close(fd);
    return last == NULL ? 0 : atoi(last);
}

int main(int argc, char **argv)
{
    int next = getpid() + 1;

    if (argc < 2)
        return 2;
    kept = strtoull(argv[1], NULL, 16);
    if (argc == 3) {
        seize(atoi(argv[2]));
        printf("seen 1 seized %d early %d findings %d\n", seized, early, findings);
        return 0;
    }
    signal(SIGTERM, end);
    puts("waiting");
    fflush(stdout);
    while (!ended) {
        if (kill(next, 0) == 0 || errno == EPERM) {
            seen++;
            seize(next++);
        } else if (last_pid() >= next) {
            next++;
        }
    }
    printf("seen %d seized %d early %d findings %d\n", seen, seized, early, findings);
    return 0;
}
