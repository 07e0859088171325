/* foreground.h - the caller's terminal, given back as it was when a command has had it.
 *
 * A shell with job control takes the terminal's foreground for itself, and gives it back when it
 * ends. In a pid namespace of its own it cannot: there our process group has no number. And who
 * is killed gives nothing back.
 */
#ifndef NSD_FOREGROUND_H
#define NSD_FOREGROUND_H

#include <stdbool.h>
#include <sys/types.h>
#include <termios.h>

struct nsd_foreground {
    pid_t
        group; /* ours, which had the foreground; 0: it had not, or there is no terminal */
    struct termios modes;
};

/* As it is now. */
void nsd_foreground_note(struct nsd_foreground *ret_foreground);

/* The command has ended, which has, or had, the pid. The foreground is taken back from it, and
 * from a process group that is no more: from nobody else, such as the shell that has put us into
 * the background. waited: the caller sat there until the end, and has not changed the modes
 * himself meanwhile. */
void nsd_foreground_restore(struct nsd_foreground *foreground, pid_t command,
                            bool waited);

#endif
