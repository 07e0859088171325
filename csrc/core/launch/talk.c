/* talk.c - what a command is told and says: its pipes, or its terminal, while it runs. */
#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

static void close_stream(int *fd)
{
    close(*fd);
    *fd = -1;
}

/* Appends what one read gives; the number of bytes, 0 at the end (and closes it), -errno. A
 * terminal ends with EIO, when nobody has its other end any more. */
static ssize_t read_some(struct nsd_buffer *buffer)
{
    const size_t piece = 64 * 1024;
    ssize_t got;

    if (buffer->room - buffer->size < piece) {
        size_t room = buffer->room == 0 ? piece : buffer->room * 2;
        char *data = realloc(buffer->data, room);

        if (data == NULL)
            return -ENOMEM;
        buffer->data = data;
        buffer->room = room;
    }
    got = read(buffer->fd, buffer->data + buffer->size, buffer->room - buffer->size);
    if (got > 0)
        buffer->size += (size_t)got;
    else if (got == 0 || errno == EIO)
        close_stream(&buffer->fd);
    else if (errno != EINTR && errno != EAGAIN)
        return -errno;
    return got < 0 ? 0 : got;
}

/* A pipe that polls as writable takes PIPE_BUF bytes without blocking. */
static void write_some(struct nsd_streams *streams)
{
    size_t size = streams->input_left < 4096 ? streams->input_left : 4096;
    ssize_t written = size == 0 ? 0 : write(streams->input_fd, streams->input, size);

    if (written > 0) {
        streams->input += written;
        streams->input_left -= (size_t)written;
    }
    if (streams->input_left == 0 || (written < 0 && errno != EINTR && errno != EAGAIN))
        close_stream(&streams->input_fd); /* EPIPE: it does not want to hear more */
}

/* One round of poll; pidfd: of the command while it runs, else -1. */
static int serve_streams(int pidfd, struct nsd_streams *streams, int64_t deadline)
{
    struct pollfd fds[4] = {
        {.fd = streams->input_fd, .events = POLLOUT},
        {.fd = streams->output[0].fd, .events = POLLIN},
        {.fd = streams->output[1].fd, .events = POLLIN},
        {.fd = pidfd, .events = POLLIN},
    };
    int ret = nsd_sleep_until(deadline, fds, 4);

    if (ret < 0)
        return ret;
    if (fds[0].revents != 0)
        write_some(streams);
    for (int i = 0; i < 2 && ret >= 0; i++)
        if (fds[1 + i].revents != 0)
            ret = (int)read_some(&streams->output[i]);
    return ret < 0 ? ret : 0;
}

/* What lies in the pipe, or the terminal: no more than it holds, because somebody may still be
 * writing to it. */
static int drain(struct nsd_buffer *buffer)
{
    struct pollfd readable = {.fd = buffer->fd, .events = POLLIN};
    ssize_t left = buffer->fd < 0 ? 0 : fcntl(buffer->fd, F_GETPIPE_SZ);

    if (buffer->fd >= 0 && left < 0)
        left = 64 * 1024; /* a terminal */
    while (left > 0 && buffer->fd >= 0) {
        int found = poll(&readable, 1, 0);
        ssize_t got = found > 0 ? read_some(buffer) : found < 0 ? -errno : 0;

        if (got < 0)
            return (int)got;
        if (found == 0)
            break;
        left -= got;
    }
    return 0;
}

static bool is_open(const struct nsd_streams *streams)
{
    return streams->output[0].fd >= 0 || streams->output[1].fd >= 0;
}

/* How long, in ns, and how much is heard of those who outlive the command. */
#define LATE_TIME 1000000000
#define LATE_SIZE ((size_t)64 << 20)

/* The command has ended, but not all that it started: "cmd > >(filter)" has its filter still to
 * be heard. What stays for good, as a daemon does, is not waited for. */
static int hear_the_late(struct nsd_streams *streams, int64_t deadline)
{
    const struct nsd_buffer *output = streams->output;

    if (streams->late_until == 0) {
        streams->late_until = nsd_now() + LATE_TIME;
        streams->late_size = output[0].size + output[1].size + LATE_SIZE;
    }
    if (deadline > streams->late_until)
        deadline = streams->late_until;
    while (is_open(streams) && output[0].size + output[1].size < streams->late_size) {
        int ret = serve_streams(-1, streams, deadline);

        if (ret == -ETIMEDOUT)
            break;
        if (ret < 0)
            return ret;
    }
    return 0;
}

int nsd_child_communicate(struct nsd_child *child, struct nsd_streams *streams,
                          int64_t deadline)
{
    if (streams->input_fd >= 0 && streams->input_left == 0)
        close_stream(&streams->input_fd);
    while (child->pidfd >= 0 && !nsd_child_reap(child, true)) {
        int ret = serve_streams(child->pidfd, streams, deadline);

        if (ret < 0)
            return ret;
    }
    if (!child->ends_all) {
        int ret = hear_the_late(streams, deadline);

        if (ret < 0)
            return ret;
    }
    for (int i = 0; i < 2; i++) {
        if (drain(&streams->output[i]) < 0)
            return -ENOMEM;
        if (streams->output[i].fd < 0)
            continue;
        streams->cut |= !child->ends_all;
        close_stream(&streams->output[i].fd);
    }
    if (streams->input_fd >= 0)
        close_stream(&streams->input_fd);
    return nsd_child_wait(child, deadline);
}
