#include "slate.h"

#include <fcntl.h>
#include <linux/memfd.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static struct {
    bool in_use;
    uint32_t pause_left; /* launches */
    bool minds_forks;
    pid_t owner;
    struct nsd_slate slate;
} ours = {.slate.file.fd = -1};

static void throw_away(void)
{
    if (ours.slate.trace != NULL && ours.owner == getpid())
        munmap(ours.slate.trace, NSD_SLATE_SIZE);
    if (nsd_is_still(&ours.slate.file))
        close(ours.slate.file.fd);
    ours.slate = (struct nsd_slate){.file.fd = -1};
}

/* A fork has the descriptor, but not the memory; and who had it in use is not there. */
static void forget_in_child(void)
{
    ours.owner = 0;
    throw_away();
    ours.in_use = false;
}

static void make_new(void)
{
    void *base = MAP_FAILED;
    long ret = -ENOMEM;

    if (!ours.minds_forks)
        ours.minds_forks = pthread_atfork(NULL, NULL, forget_in_child) == 0;
    if (ours.minds_forks)
        ret = nsd_keep_file(
            nsd_raw_memfd("nsdemo-plan", MFD_CLOEXEC, 0x8 /* MFD_NOEXEC_SEAL */),
            &ours.slate.file);
    ours.pause_left = nsd_pause_after(ret);
    if (ret == 0 && ftruncate(ours.slate.file.fd, NSD_SLATE_SIZE) == 0)
        base = mmap(NULL, NSD_SLATE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
                    ours.slate.file.fd, 0);
    if (base == MAP_FAILED) {
        throw_away();
        return;
    }
    madvise(base, NSD_SLATE_SIZE, MADV_DONTFORK);
    ours.slate.trace = base;
    ours.owner = getpid();
}

const struct nsd_slate *nsd_slate_take(void)
{
    if (__atomic_exchange_n(&ours.in_use, true, __ATOMIC_ACQUIRE))
        return NULL;
    if (ours.slate.trace != NULL &&
        (ours.owner != getpid() || !nsd_is_still(&ours.slate.file)))
        throw_away();
    if (ours.slate.trace == NULL && ours.pause_left > 0)
        ours.pause_left--;
    else if (ours.slate.trace == NULL)
        make_new();
    if (ours.slate.trace != NULL)
        return &ours.slate;
    __atomic_store_n(&ours.in_use, false, __ATOMIC_RELEASE);
    return NULL;
}

void nsd_slate_give_back(size_t used)
{
    if (used == 0)
        throw_away();
    else
        memset(ours.slate.trace, 0, used);
    __atomic_store_n(&ours.in_use, false, __ATOMIC_RELEASE);
}
