/* handover.c - descriptors for the Python process: what it could not open by itself.
 *
 * The directory that takes the changes of a root lies in memory, under the overlay, where no
 * path leads. A descriptor holds it as long as somebody has it, longer than the container.
 */
#include "constants.h"
#include "steps.h"

#include <linux/errno.h>

/* As the kernel has them; libc's headers are for programs with one. */
struct piece {
    const void *base;
    size_t size;
};

struct message {
    void *name;
    int name_size;
    const struct piece *pieces;
    size_t piece_count;
    const void *control;
    size_t control_size;
    unsigned int flags;
};

struct rights {
    size_t size;
    int level;
    int type;
    int fds[2];
};

long nsd_send_descriptors(long socket, int count, long first, long second)
{
    const struct rights rights = {
        .size = __builtin_offsetof(struct rights, fds) + sizeof(int) * (size_t)count,
        .level = SOL_SOCKET,
        .type = SCM_RIGHTS,
        .fds = {(int)first, (int)second},
    };
    const struct piece piece = {"", 1}; /* a message has a byte at least */
    const struct message message = {
        .pieces = &piece,
        .piece_count = 1,
        .control = count == 0 ? NULL : &rights,
        .control_size = count == 0 ? 0 : sizeof(rights),
    };
    long ret = sys3(__NR_sendmsg, socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);

    return ret < 0 ? ret : 0;
}

/* A slot that is empty is an empty message: there is no layer to look at. */
long nsd_hand_over(struct nsd_launch *launch, const struct nsd_step *step)
{
    bool both = step->number[1] >= 0;
    bool none = launch->slot[step->number[0]] < 0;

    return nsd_send_descriptors(launch->slot[NSD_SOCKET_SLOT],
                                none   ? 0
                                : both ? 2
                                       : 1,
                                launch->slot[step->number[0]],
                                both ? launch->slot[step->number[1]] : -1);
}
