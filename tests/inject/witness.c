/* witness - what a command can see of its container, in lines that two launches can be
 * compared by. It is linked at 0x70000000, so that the filter of notify.py knows its system
 * calls from those of whoever started it. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <net/if.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

extern char **environ;

static void say_who(int argc, char **argv)
{
    uid_t uid[3];
    gid_t gid[3], groups[64];
    int count = getgroups(64, groups);

    getresuid(&uid[0], &uid[1], &uid[2]);
    getresgid(&gid[0], &gid[1], &gid[2]);
    printf("ids %u %u %u, %u %u %u, groups", uid[0], uid[1], uid[2], gid[0], gid[1],
           gid[2]);
    for (int i = 0; i < count; i++)
        printf(" %u", groups[i]);
    printf("\nargv");
    for (int i = 0; i < argc; i++)
        printf(" %s", argv[i]);
    printf("\nenv");
    for (char **at = environ; *at != NULL; at++)
        printf(" %s", *at);
    printf("\nis the first %d, parent %d, leads session %d, group %d\n", getpid() == 1,
           getppid() < 2 ? getppid() : 2, getsid(0) == getpid(),
           getpgid(0) == getpid());
}

static void say_power(void)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct caps[2] = {0};
    unsigned long long bounding = 0, ambient = 0;
    int death = 0;

    syscall(SYS_capget, &head, caps);
    for (int i = 0; i < 64; i++) {
        bounding |= (unsigned long long)(prctl(PR_CAPBSET_READ, i, 0, 0, 0) == 1) << i;
        ambient |= (unsigned long long)(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, i,
                                              0, 0) == 1)
                   << i;
    }
    prctl(PR_GET_PDEATHSIG, &death);
    printf("caps %x%08x %x%08x %x%08x %llx %llx\n", caps[1].effective,
           caps[0].effective, caps[1].permitted, caps[0].permitted, caps[1].inheritable,
           caps[0].inheritable, bounding, ambient);
    printf("no_new_privs %d, securebits %d, dies with parent %d\n",
           prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), prctl(PR_GET_SECUREBITS), death);
    for (int i = 0; i < 16; i++) {
        struct rlimit limit;

        if (getrlimit((__rlimit_resource_t)i, &limit) == 0)
            printf("limit %d %lld %lld\n", i, (long long)limit.rlim_cur,
                   (long long)limit.rlim_max);
    }
}

static void say_signals(void)
{
    sigset_t mask;

    sigprocmask(SIG_SETMASK, NULL, &mask);
    printf("signals not as by default:");
    for (int i = 1; i < 65; i++) {
        struct sigaction action;

        if (sigismember(&mask, i) == 1)
            printf(" %d blocked", i);
        if (sigaction(i, NULL, &action) == 0 && action.sa_handler != SIG_DFL)
            printf(" %d ignored", i);
    }
    printf("\n");
}

static void say_descriptors(void)
{
    for (int fd = 0; fd < 1024; fd++) {
        struct stat file;

        if (fstat(fd, &file) == 0)
            printf("fd %d %o%s\n", fd, file.st_mode & S_IFMT, isatty(fd) ? " tty" : "");
    }
}

static void say_file(const char *path)
{
    static char text[64 * 1024];
    int fd = open(path, O_RDONLY);
    ssize_t got, size = 0;

    while (fd >= 0 && size < (ssize_t)sizeof(text) - 1 &&
           (got = read(fd, text + size, sizeof(text) - 1 - (size_t)size)) > 0)
        size += got;
    text[size] = '\0';
    if (fd >= 0)
        close(fd);
    printf("file %s: %s\n%s", path, fd < 0 ? strerror(errno) : "", text);
}

static void say_links(void)
{
    static const char *const names[] = {"ns/cgroup", "ns/ipc",  "ns/mnt",  "ns/net",
                                        "ns/pid",    "ns/time", "ns/user", "ns/uts"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char path[64], target[512] = "";

        snprintf(path, sizeof(path), "/proc/self/%s", names[i]);
        if (readlink(path, target, sizeof(target) - 1) < 0)
            snprintf(target, sizeof(target), "%s", strerror(errno));
        printf("link %s %s\n", names[i], target);
    }
}

static void say_folder(const char *path)
{
    struct dirent **found = NULL;
    int count = scandir(path, &found, NULL, alphasort);

    printf("folder %s:", path);
    for (int i = 0; i < count; i++) {
        struct stat file;
        char whole[512];

        snprintf(whole, sizeof(whole), "%s/%s", path, found[i]->d_name);
        if (lstat(whole, &file) == 0)
            printf(" %s %o", found[i]->d_name, file.st_mode);
    }
    printf("\n");
}

static void try_to_write(const char *path)
{
    char whole[512];
    int fd;

    snprintf(whole, sizeof(whole), "%s/written-by-the-witness", path);
    fd = open(whole, O_CREAT | O_WRONLY | O_EXCL, 0777);
    printf("write in %s: %s\n", path, fd < 0 ? strerror(errno) : "yes");
    if (fd >= 0) {
        struct stat file;

        fstat(fd, &file);
        printf("mode of a new file %o\n", file.st_mode);
        unlink(whole);
    }
}

static void say_names(void)
{
    struct ifreq lo = {.ifr_name = "lo"};
    struct utsname name;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    char folder[512];

    uname(&name);
    printf("host %s, domain %s\n", name.nodename, name.domainname);
    printf("lo %d %d\n", ioctl(fd, SIOCGIFFLAGS, &lo), lo.ifr_flags & IFF_UP);
    close(fd);
    printf("cwd %s\n", getcwd(folder, sizeof(folder)) == NULL ? "none" : folder);
}

int main(int argc, char **argv)
{
    static const char *const files[] = {
        "/proc/self/uid_map",   "/proc/self/gid_map",        "/proc/self/setgroups",
        "/proc/self/mountinfo", "/proc/self/timens_offsets", "/proc/1/comm"};
    static const char *const folders[] = {"/", "/dev", "/tmp", "/mnt"};

    if (argc > 1 && strcmp(argv[1], "wait") == 0) /* for somebody to join */
        return getchar() == EOF ? 0 : 1;
    say_who(argc, argv);
    say_power();
    say_signals();
    say_descriptors();
    say_names();
    say_links();
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
        say_file(files[i]);
    for (size_t i = 0; argc > 1 && i < sizeof(folders) / sizeof(folders[0]); i++) {
        say_folder(folders[i]);
        try_to_write(folders[i]);
    }
    return 7;
}
