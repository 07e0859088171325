/* snooper HALF HALF - lies in wait for whoever joins, and goes through their pockets.
 *
 * As PID 1 of a pid namespace it knows the next number, so it sees a joiner from its first
 * moment on. Everything that is not this container's own is a finding. SIGTERM ends it.
 */
#include "look.h"

#include <dirent.h>
#include <signal.h>
#include <stdint.h>

static volatile sig_atomic_t ended;
static struct stat ours[3]; /* the programs and the root of this container */
static int seen, refused, findings;

static void end(int signal)
{
    ended = signal;
}

static void tell(int pid, const char *what, const char *detail)
{
    if (findings++ < 20)
        printf("found %s of %d: %s\n", what, pid, detail);
}

static int is_ours(const struct stat *file)
{
    for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
        if (file->st_dev == ours[i].st_dev && file->st_ino == ours[i].st_ino)
            return 1;
    return 0;
}

/* exe, cwd and root lead to files: whose? */
static void look_at_link(int pid, const char *name)
{
    char path[64], target[256] = "?";
    struct stat file;
    ssize_t length;

    snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
    if (stat(path, &file) < 0) {
        refused += errno == EACCES || errno == EPERM;
        return;
    }
    length = readlink(path, target, sizeof(target) - 1);
    if (length > 0)
        target[length] = '\0';
    if (!is_ours(&file))
        tell(pid, name, target);
}

/* Their numbers may be listed by whoever has the same uid outside; what they lead to may not
 * be known. */
static void look_at_descriptors(int pid)
{
    char path[64], target[256];
    DIR *directory;

    snprintf(path, sizeof(path), "/proc/%d/fd", pid);
    directory = opendir(path);
    if (directory == NULL) {
        refused += errno == EACCES || errno == EPERM;
        return;
    }
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        ssize_t length;

        if (entry->d_name[0] == '.' || atoi(entry->d_name) <= 2)
            continue;
        length =
            readlinkat(dirfd(directory), entry->d_name, target, sizeof(target) - 1);
        if (length > 0) {
            target[length] = '\0';
            tell(pid, "a descriptor", target);
        } else {
            refused += errno == EACCES || errno == EPERM;
        }
    }
    closedir(directory);
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

static void look(int pid)
{
    size_t bytes = 0;
    int found;

    look_at_link(pid, "exe");
    look_at_link(pid, "cwd");
    look_at_link(pid, "root");
    look_at_descriptors(pid);
    if (file_has_marker(pid, "environ") > 0)
        tell(pid, "environ", "the secret");
    found = memory_has_marker(pid, 1, &bytes);
    if (found > 0)
        tell(pid, "memory", "the secret");
    refused += found == -EACCES || found == -EPERM;
}

int main(int argc, char **argv)
{
    int next = getpid() + 1;

    if (argc != 3 || stat("/proc/self/exe", &ours[0]) < 0 ||
        stat("/bin/busybox", &ours[1]) < 0 || stat("/", &ours[2]) < 0)
        return 2;
    snprintf(marker, sizeof(marker), "%s%s", argv[1], argv[2]);
    signal(SIGTERM, end);
    puts("waiting");
    fflush(stdout);
    for (int counted = 0; !ended;) {
        if (kill(next, 0) == 0 || errno == EPERM) {
            seen += counted != next;
            counted = next;
            look(next);
        } else if (counted == next || last_pid() >= next) {
            next++;
        }
    }
    printf("seen %d refused %d findings %d\n", seen, refused, findings);
    return 0;
}
