/* The vfork zone.
 *
 * child_* functions run in the vfork child: in our memory, on a stack of their own,
 * with all signals blocked, while the calling thread sleeps and others run on. No malloc,
 * no stdio, no locks, no return to Python. The descriptor table is shared with the parent
 * until child_own_descriptors has run, and nothing may be opened or closed before.
 *
 * What the child makes, it makes after that: the plan's and the image's memfds are born in
 * its small private table with low numbers and never exist in the parent, so that no fork
 * of another thread can inherit them, and 10,000 open files cost nothing. The trace's
 * mapping is made here too: mappings are shared, descriptors are not.
 *
 * The way out is execve, of the launcher or (direct.c) of the command itself; or the first
 * error, noted in start->stage and start->error, or with the step that failed.
 */
#include "vfork.h"

#include "image.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/futex.h>
#include <linux/memfd.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_close_range
#define SYS_close_range 436
#endif

static void child_close_range(unsigned int first, unsigned int last)
{
    if (first > last || syscall(SYS_close_range, first, last, 0) == 0)
        return;
    for (unsigned int fd = first; fd <= last && fd < 65536; fd++)
        close((int)fd);
}

/* A table of our own that ends behind the last descriptor we keep: the kernel copies only
 * that part. */
static int child_own_descriptors(const struct nsd_start *start)
{
    unsigned int above = start->kept_count == 0
                             ? 3u
                             : (unsigned int)start->kept[start->kept_count - 1] + 1u;

    if (syscall(SYS_close_range, above, ~0u, CLOSE_RANGE_UNSHARE) == 0)
        return 0;
    /* Before Linux 5.9, or refused by a seccomp filter. */
    if (unshare(CLONE_FILES) < 0)
        return -1;
    child_close_range(above, ~0u);
    return 0;
}

/* What becomes the command's 0, 1 or 2 is kept only until then, under its own number. */
static bool child_is_handed_on(const struct nsd_start *start, int fd)
{
    for (int i = 0; i < start->options->pass_count; i++)
        if (start->options->pass_fds[i] == fd)
            return true;
    for (int i = 0; i < NSD_SLOTS; i++)
        if (start->plan->slot[i] == fd)
            return true;
    return start->options->terminal == fd;
}

static int child_arrange_descriptors(const struct nsd_start *start)
{
    int from[3];
    unsigned int next = 3;

    for (int i = 0; i < 3; i++) {
        from[i] = start->options->stdio[i];
        /* Out of each other's way: stdout=0 with stdin=1 must not meet half-way. */
        if (from[i] >= 0 && from[i] < 3 && from[i] != i)
            from[i] = fcntl(from[i], F_DUPFD_CLOEXEC, 3);
        if (from[i] < 0 && (start->options->stdio[i] >= 0 || fcntl(i, F_GETFD) < 0))
            return -1;
    }
    for (int i = 0; i < 3; i++) {
        if (from[i] == i && fcntl(i, F_SETFD, 0) < 0)
            return -1;
        if (from[i] > 2 && dup3(from[i], i, 0) < 0)
            return -1;
    }
    for (int i = 0; i < start->kept_count; i++) {
        int flag = child_is_handed_on(start, start->kept[i]) ? 0 : FD_CLOEXEC;

        if (fcntl(start->kept[i], F_SETFD, flag) < 0)
            return -1;
        child_close_range(next, (unsigned int)start->kept[i] - 1u);
        next = (unsigned int)start->kept[i] + 1u;
    }
    /* What lies above was not copied, but a moved stdio descriptor may. */
    child_close_range(next, next + 8);
    return 0;
}

static int child_write_all(int fd, const void *data, size_t size)
{
    const char *bytes = data;

    while (size > 0) {
        ssize_t written = write(fd, bytes, size);

        if (written < 0)
            return -1;
        bytes += written;
        size -= (size_t)written;
    }
    return 0;
}

static int child_memfd(const char *name, unsigned int flags, unsigned int newer_flag)
{
    int fd = (int)syscall(SYS_memfd_create, name, flags | newer_flag);

    if (fd < 0 && errno == EINVAL) /* before Linux 6.3 */
        fd = (int)syscall(SYS_memfd_create, name, flags);
    return fd;
}

/* A file without a name, for where memfds are refused. */
static int child_tmpfile(void)
{
    static const char *const places[] = {"/dev/shm", "/tmp", "/var/tmp", "/run"};

    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        int fd = open(places[i], O_TMPFILE | O_RDWR | O_CLOEXEC, 0700);

        if (fd >= 0)
            return fd;
    }
    return -1;
}

/* The launcher, in a file that nobody can change: not its bytes, not its mode (a container
 * root with our uid could otherwise chmod it through /proc). */
static int child_sealed_image(void)
{
    const int seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
    int fd =
        child_memfd("nsdemo", MFD_CLOEXEC | MFD_ALLOW_SEALING, 0x10 /* MFD_EXEC */);

    if (fd < 0)
        return -1;
    if (child_write_all(fd, nsd_image, nsd_image_size) < 0 || fchmod(fd, 0555) < 0)
        return -1;
    if (fcntl(fd, F_ADD_SEALS, seals | 0x20 /* F_SEAL_EXEC */) < 0 &&
        fcntl(fd, F_ADD_SEALS, seals) < 0) /* before Linux 6.3 */
        return -1;
    return fd;
}

/* A file that is open for writing cannot be executed, so it is opened once more. */
static int child_image_in_tmpfile(void)
{
    char path[40] = "/proc/self/fd/";
    int writable = child_tmpfile();
    char digits[12];
    size_t at = strlen(path), n = 0;
    int fd;

    if (writable < 0 || child_write_all(writable, nsd_image, nsd_image_size) < 0 ||
        fchmod(writable, 0555) < 0)
        return -1;
    for (int rest = writable; rest > 0; rest /= 10)
        digits[n++] = (char)('0' + rest % 10);
    while (n > 0)
        path[at++] = digits[--n];
    fd = open(path, O_RDONLY | O_CLOEXEC);
    close(writable);
    return fd;
}

static int child_make_plan(struct nsd_start *start)
{
    struct nsd_child *child = start->child;
    int fd = child_memfd("nsdemo-plan", 0, 0x8 /* MFD_NOEXEC_SEAL */);
    void *trace;

    if (fd < 0) {
        fd = child_tmpfile();
        if (fd < 0 || fcntl(fd, F_SETFD, 0) < 0)
            return -1;
    }
    /* Writing behind the trace makes the file as long as it must be; the trace is zeros. */
    if (lseek(fd, (off_t)child->trace_size, SEEK_SET) < 0 ||
        child_write_all(fd, start->bytes, start->size) < 0)
        return -1;
    trace = mmap(NULL, child->trace_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (trace == MAP_FAILED)
        return -1;
    child->trace = trace;
    child->waiting_state = (uint32_t)syscall(SYS_getpid) | FUTEX_WAITERS;
    child->trace->state = child->waiting_state;
    child->trace->plan_offset = (uint32_t)child->trace_size;
    return fd;
}

uint64_t nsd_ignored_signals(void)
{
    struct {
        void (*handler)(int);
        unsigned long flags;
        void (*restorer)(void);
        uint64_t mask;
    } action;
    uint64_t ignored = 0;

    for (int i = 1; i <= 64; i++)
        if (syscall(SYS_rt_sigaction, i, NULL, &action, sizeof(action.mask)) == 0 &&
            action.handler == SIG_IGN)
            ignored |= (uint64_t)1 << (i - 1);
    return ignored;
}

static void child_write_number(char *to, unsigned long value)
{
    char digits[24];
    int n = 0;

    do
        digits[n++] = (char)('0' + value % 10);
    while ((value /= 10) > 0);
    while (n > 0)
        *to++ = digits[--n];
    *to = '\0';
}

static void child_execute(int image, int plan, size_t plan_size)
{
    /* As long as "nsdemo-watch" and "nsdemo-init", which those who stay write over it. */
    char name[] = "nsdemo-start", number[24], size[24];
    char *argv[] = {name, number, size, NULL};
    char *envp[] = {NULL}; /* /proc/1/environ must not tell the host's */

    child_write_number(number, (unsigned long)plan);
    child_write_number(size, plan_size);
    syscall(SYS_execveat, image, "", argv, envp, AT_EMPTY_PATH);
}

/* A refused memfd (vm.memfd_noexec=2, a seccomp filter) shows at its creation or only at
 * execution; then the next way is tried. */
static int child_execute_image(struct nsd_start *start, int plan)
{
    size_t size = start->child->trace_size + start->size;
    int image = child_sealed_image();

    if (image >= 0)
        child_execute(image, plan, size);
    if (start->options->image_path != NULL) {
        image = open(start->options->image_path, O_RDONLY | O_CLOEXEC);
        if (image >= 0)
            child_execute(image, plan, size);
    }
    image = child_image_in_tmpfile();
    if (image >= 0)
        child_execute(image, plan, size);
    return -1;
}

int nsd_child_main(void *argument)
{
    struct nsd_start *start = argument;
    int plan;

    start->stage = NSD_START_DESCRIPTORS;
    if (child_own_descriptors(start) == 0 && child_arrange_descriptors(start) == 0) {
        if (start->direct) {
            nsd_child_perform(start);
            _exit(127);
        }
        start->stage = NSD_START_PLAN;
        plan = child_make_plan(start);
        if (plan >= 0) {
            start->stage = NSD_START_EXECUTE;
            child_execute_image(start, plan);
        }
    }
    start->error = errno == 0 ? EIO : errno;
    _exit(127);
}
