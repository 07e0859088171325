/* terminal.c - a terminal of its own for the command.
 *
 * A terminal (pty) has two ends: the command's, which it reads and writes as 0, 1 and 2, and
 * ours, which is a keyboard and a screen. The core opened one where Python is, and gave the
 * command's end to those of 0, 1, 2 that get a terminal. A container with a devpts of its own
 * gets one from there, which has a name inside; our end is sent back through a socket.
 *
 * The container may have anything at /dev/pts, so it is opened without following a link, and
 * must be a devpts: in that file system nobody but the kernel makes files. Whatever is not as
 * it should be there: the terminal is the one that the core opened.
 */
#include "steps.h"

#include <asm/ioctls.h>
#include <asm/statfs.h>
#include <asm/termbits.h>
#include <asm/termios.h>
#include <linux/errno.h>
#include <linux/fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>

/* Our end of a new terminal of the devpts at /dev/pts. */
static long open_ours(void)
{
    struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
                           .resolve = RESOLVE_NO_SYMLINKS};
    long folder = sys4(__NR_openat2, AT_FDCWD, "/dev/pts", &how, sizeof(how));
    struct statfs filesystem;
    long ret;

    if (folder < 0)
        return folder;
    ret = sys2(__NR_fstatfs, folder, &filesystem);
    if (ret == 0 && filesystem.f_type != DEVPTS_SUPER_MAGIC)
        ret = -ENODEV;
    how.flags = O_RDWR | O_NOCTTY | O_CLOEXEC;
    how.resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV; /* nothing mounted over it */
    if (ret == 0)
        ret = sys4(__NR_openat2, folder, "ptmx", &how, sizeof(how));
    sys1(__NR_close, folder);
    return ret;
}

/* The command's end; by this call it is that of this terminal, whatever its name leads to. */
static long open_theirs(long ours)
{
    const int unlocked = 0;
    long ret = sys3(__NR_ioctl, ours, TIOCSPTLCK, &unlocked);

    return ret < 0 ? ret
                   : sys3(__NR_ioctl, ours, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
}

/* Size and settings, which the core has chosen. */
static void make_alike(long from, long to)
{
    struct termios settings;
    struct winsize size = {.ws_row = 24, .ws_col = 80}; /* if the core has none */

    if (sys3(__NR_ioctl, from, TCGETS, &settings) == 0)
        sys3(__NR_ioctl, to, TCSETS, &settings);
    sys3(__NR_ioctl, from, TIOCGWINSZ, &size);
    sys3(__NR_ioctl, to, TIOCSWINSZ, &size);
}

static long replace(long theirs, int64_t which)
{
    long ret = 0;

    for (int fd = 0; fd < 3 && ret >= 0; fd++)
        if ((which >> fd & 1) != 0)
            ret = sys3(__NR_dup3, theirs, fd, 0);
    return ret < 0 ? ret : 0;
}

/* 1: those descriptors are a terminal of the container's devpts now; else: -errno. */
static long take_own(const struct nsd_launch *launch, int64_t which, long first)
{
    long socket = launch->slot[NSD_TERMINAL_SLOT];
    long ours = socket < 0 ? -EBADF : open_ours();
    long theirs, ret;

    if (ours < 0)
        return ours;
    theirs = open_theirs(ours);
    ret = theirs < 0 ? theirs : nsd_send_descriptors(socket, 1, ours, -1);
    sys1(__NR_close, ours);
    if (ret == 0) {
        make_alike(first, theirs);
        ret = replace(theirs, which);
    }
    if (theirs >= 0)
        sys1(__NR_close, theirs);
    return ret < 0 ? ret : 1;
}

/* which: of 0, 1, 2, a bit for each; owner: the user to whom it shall belong, or -1
 *
 * Returns whether the terminal is of the container's own devpts. */
long nsd_terminal(struct nsd_launch *launch, const struct nsd_step *step)
{
    int64_t which = step->number[0];
    long first = (which & 1) != 0 ? 0 : (which & 2) != 0 ? 1 : 2;
    bool own = take_own(launch, which, first) > 0;
    long ret = sys3(__NR_ioctl, first, TIOCSCTTY, 0);

    /* A name may be opened by its owner alone. The kernel refuses where our namespace does not
     * know the group; what is open already works. */
    if (ret == 0 && step->number[1] >= 0) {
        ret = sys3(__NR_fchown, first, step->number[1], -1);
        if (ret == -EPERM)
            ret = 0;
    }
    return ret < 0 ? ret : own;
}
