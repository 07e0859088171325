#include "foreground.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A descriptor of the terminal that our session has, and its foreground; -1: there is none. Standard
 * descriptors are asked first, they are open. */
static int open_terminal(pid_t *ret_group)
{
    int fd;

    for (fd = 0; fd < 3; fd++) {
        *ret_group = tcgetpgrp(fd);
        if (*ret_group >= 0)
            return fd;
    }
    fd = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    *ret_group = tcgetpgrp(fd);
    if (*ret_group >= 0)
        return fd;
    close(fd);
    return -1;
}

static void close_terminal(int fd)
{
    if (fd > 2)
        close(fd);
}

void nsd_foreground_note(struct nsd_foreground *ret_foreground)
{
    pid_t group;
    int fd = open_terminal(&group);

    ret_foreground->group = 0;
    if (fd < 0)
        return;
    if (group == getpgrp() && tcgetattr(fd, &ret_foreground->modes) == 0)
        ret_foreground->group = group;
    close_terminal(fd);
}

/* 0 is a group that has no number here, as that of a shell outside of our pid namespace. */
static bool is_abandoned(pid_t group, pid_t command)
{
    return group > 1 && (group == command || (kill(-group, 0) < 0 && errno == ESRCH));
}

static bool same_modes(const struct termios *a, const struct termios *b)
{
    return a->c_iflag == b->c_iflag && a->c_oflag == b->c_oflag &&
           a->c_cflag == b->c_cflag && a->c_lflag == b->c_lflag &&
           memcmp(a->c_cc, b->c_cc, sizeof(a->c_cc)) == 0;
}

/* Another thread that waits tells nothing about who uses the terminal meanwhile. */
static bool is_main_thread(void)
{
    return syscall(SYS_gettid) == getpid();
}

static void give_back(const struct nsd_foreground *foreground, int fd, pid_t group,
                      pid_t command, bool waited)
{
    struct termios modes;
    bool taken = group != foreground->group;

    if (taken &&
        (!is_abandoned(group, command) || tcsetpgrp(fd, foreground->group) < 0))
        return;
    if ((taken || (waited && is_main_thread())) && tcgetattr(fd, &modes) == 0 &&
        !same_modes(&modes, &foreground->modes))
        tcsetattr(fd, TCSANOW, &foreground->modes);
}

void nsd_foreground_restore(struct nsd_foreground *foreground, pid_t command,
                            bool waited)
{
    pid_t group;
    sigset_t blocked, before;
    int fd;

    if (foreground->group == 0 || foreground->group != getpgrp())
        return;
    fd = open_terminal(&group);
    if (fd < 0)
        return;
    /* Who touches the terminal in the background is stopped, unless it blocks this. */
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGTTOU);
    pthread_sigmask(SIG_BLOCK, &blocked, &before);
    give_back(foreground, fd, group, command, waited);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    close_terminal(fd);
    foreground->group = 0;
}
