#include "pins.h"

#include "../steps/steps.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct nsd_pin {
    const char *file; /* in /proc/PID/ns */
    const char *path;
    uint64_t inode; /* of the namespace */
    bool made_file;
};

/* The strings follow the pins. */
struct nsd_pins {
    uint32_t count;
    uint32_t tried;
    uint32_t made; /* the first so many */
    struct nsd_pin pin[];
};

static const char *keep(char **at, const char *text)
{
    char *start = *at;
    size_t size = strlen(text) + 1;

    memcpy(start, text, size);
    *at += size;
    return start;
}

/* Others are made by the launcher, in a mount namespace that it has joined. */
static bool is_ours(const struct nsd_step *step)
{
    return step->operation == NSD_PIN && step->number[1] < 0;
}

int nsd_pins_of(const struct nsd_builder *plan, struct nsd_pins **ret_pins)
{
    size_t count = 0, size = 0;
    struct nsd_pins *pins;
    char *at;

    for (uint32_t i = 0; i < plan->step_count; i++) {
        const struct nsd_step *step = &plan->steps[i];

        if (!is_ours(step))
            continue;
        count++;
        for (int n = 0; n < 2; n++)
            size += strlen(nsd_builder_text(plan, step->text[n])) + 1;
    }
    if (count == 0)
        return 0;
    pins = calloc(1, sizeof(*pins) + count * sizeof(struct nsd_pin) + size);
    if (pins == NULL)
        return -ENOMEM;
    at = (char *)&pins->pin[count];
    for (uint32_t i = 0; i < plan->step_count; i++) {
        const struct nsd_step *step = &plan->steps[i];
        struct nsd_pin *pin = &pins->pin[pins->count];

        if (!is_ours(step))
            continue;
        pin->file = keep(&at, nsd_builder_text(plan, step->text[0]));
        pin->path = keep(&at, nsd_builder_text(plan, step->text[1]));
        pins->count++;
    }
    *ret_pins = pins;
    return 0;
}

static int make_pin(pid_t pid, struct nsd_pin *pin)
{
    struct stat pinned;
    char name[64];
    long ret;
    int namespace;

    snprintf(name, sizeof(name), "/proc/%d/ns/%s", (int)pid, pin->file);
    namespace = open(name, O_RDONLY | O_CLOEXEC);
    if (namespace < 0)
        return -errno;
    ret = fstat(namespace, &pinned) < 0 ? -errno
                                        : nsd_pin_file(namespace, pin->path, "/proc/");
    if (ret >= 0)
        pin->inode = pinned.st_ino;
    close(namespace);
    pin->made_file = ret == 1;
    return (int)ret;
}

/* A number is a process's own as long as that is a child which nobody has reaped. */
static bool is_our_child(pid_t pid)
{
    siginfo_t info = {0};

    return pid > 0 &&
           waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           info.si_pid == 0;
}

void nsd_pins_answer(struct nsd_child *child)
{
    struct nsd_pins *pins = child->pins;
    struct nsd_trace *trace = child->trace;
    pid_t pid;
    int ret;

    if (pins == NULL || pins->tried == pins->count ||
        __atomic_load_n(&trace->asked, __ATOMIC_ACQUIRE) == pins->tried)
        return;
    pid = trace->command > 0 ? trace->command : child->first;
    ret = is_our_child(pid) ? make_pin(pid, &pins->pin[pins->tried]) : -ESRCH;
    pins->tried++;
    pins->made += ret >= 0;
    trace->answer = ret;
    __atomic_store_n(&trace->answered, pins->tried, __ATOMIC_RELEASE);
    syscall(SYS_futex, &trace->answered, FUTEX_WAKE, 1);
}

void nsd_pins_undo(struct nsd_child *child)
{
    struct nsd_pins *pins = child->pins;

    while (pins != NULL && pins->made > 0) {
        const struct nsd_pin *pin = &pins->pin[--pins->made];

        nsd_unpin_file(pin->path, pin->inode, pin->made_file, "/proc/");
    }
    nsd_pins_keep(child);
}

void nsd_pins_keep(struct nsd_child *child)
{
    free(child->pins);
    child->pins = NULL;
}

int nsd_unpin(const char *path)
{
    return (int)nsd_unpin_file(path, 0, true, "/proc/");
}
