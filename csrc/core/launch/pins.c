#include "pins.h"

#include "../../steps/steps.h"
#include "borrowed.h"
#include "orphans.h"
#include "trace.h"

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
    uint32_t made;             /* the first so many */
    struct nsd_errand *errand; /* of the one that is being made */
    char name[64];             /* what is pinned, in /proc */
    int result;
    uint32_t users; /* when they are given up */
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

/* An errand, as whoever owns the path may let us wait for ever. */
static void child_makes_pin(void *argument)
{
    struct nsd_pins *pins = argument;
    struct nsd_pin *pin = &pins->pin[pins->tried];
    long namespace = sys4(__NR_openat, AT_FDCWD, pins->name, O_RDONLY | O_CLOEXEC, 0);
    struct stat pinned = {0};
    long ret = namespace < 0 ? namespace : sys2(__NR_fstat, namespace, &pinned);

    if (ret >= 0) {
        pin->inode = pinned.st_ino;
        ret = nsd_pin_file(namespace, pin->path, "/proc/");
    }
    pin->made_file = ret == 1;
    pins->result = (int)ret;
}

static int begin_pin(struct nsd_child *child)
{
    struct nsd_pins *pins = child->pins;
    pid_t pid = __atomic_load_n(&child->trace->command, __ATOMIC_ACQUIRE);

    if (pid <= 0)
        pid = child->first;
    if (!nsd_is_our_child(pid))
        return -ESRCH;
    snprintf(pins->name, sizeof(pins->name), "/proc/%d/ns/%s", (int)pid,
             pins->pin[pins->tried].file);
    pins->result = -ECHILD; /* its child was killed */
    return nsd_errand_start(&pins->errand, child_makes_pin, pins);
}

int nsd_pins_answer(struct nsd_child *child, int64_t deadline)
{
    struct nsd_pins *pins = child->pins;
    struct nsd_trace *trace = child->trace;
    int ret = 0;

    if (pins == NULL)
        return 0;
    if (pins->errand == NULL) {
        if (pins->tried == pins->count ||
            __atomic_load_n(&trace->asked, __ATOMIC_ACQUIRE) == pins->tried)
            return 0;
        ret = begin_pin(child);
        if (ret < 0)
            pins->result = ret;
    }
    if (ret == 0) {
        ret = nsd_errand_wait(pins->errand, deadline);
        if (ret < 0)
            return ret;
        pins->errand = NULL;
    }
    pins->tried++;
    pins->made += pins->result >= 0;
    trace->answer = pins->result;
    __atomic_store_n(&trace->answered, pins->tried, __ATOMIC_RELEASE);
    syscall(SYS_futex, &trace->answered, FUTEX_WAKE, 1);
    return 0;
}

static void let_go(void *argument)
{
    struct nsd_pins *pins = argument;

    if (__atomic_sub_fetch(&pins->users, 1, __ATOMIC_ACQ_REL) == 0)
        free(pins);
}

/* Also of the one that somebody was about to make when he was ended. */
static void child_undoes(void *argument)
{
    struct nsd_pins *pins = argument;

    for (uint32_t i = pins->made + 1; i-- > 0;) {
        const struct nsd_pin *pin = &pins->pin[i];

        if (i < pins->count && pin->inode != 0)
            nsd_unpin_file(pin->path, pin->inode, pin->made_file, "/proc/");
    }
}

void nsd_pins_undo(struct nsd_child *child)
{
    const int64_t deadline = nsd_now() + NSD_GRACE;
    struct nsd_pins *pins = child->pins;
    struct nsd_errand *errand;
    int ret;

    if (pins == NULL)
        return;
    child->pins = NULL;
    pins->users = pins->errand == NULL ? 1 : 2;
    if (pins->errand != NULL)
        nsd_errand_leave(pins->errand, let_go);
    if (nsd_errand_start(&errand, child_undoes, pins) < 0) {
        child_undoes(pins);
    } else {
        while ((ret = nsd_errand_wait(errand, deadline)) == -EINTR)
            continue;
        if (ret < 0) {
            __atomic_add_fetch(&pins->users, 1, __ATOMIC_ACQ_REL);
            nsd_errand_leave(errand, let_go);
        }
    }
    let_go(pins);
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
