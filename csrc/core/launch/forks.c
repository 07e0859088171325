#include "forks.h"

#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18 /* Linux 4.14 */
#endif

static uint32_t forks;
static pid_t *our_pid; /* in a page that is empty in every fork; NULL: there is none */
static pthread_mutex_t inherited = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void count_in_child(void)
{
    forks++;
    pthread_mutex_init(&inherited, NULL);
}

/* Without memory for that, the pid has to do. */
static void mind_forks(void)
{
    const size_t size = sizeof(*our_pid);
    void *page =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    pthread_atfork(NULL, NULL, count_in_child);
    if (page == MAP_FAILED)
        return;
    if (madvise(page, size, MADV_WIPEONFORK) == 0)
        __atomic_store_n(&our_pid, page, __ATOMIC_RELEASE);
    else
        munmap(page, size);
}

/* Asked a dozen times in each launch, the kernel once. */
static pid_t pid_now(void)
{
    pid_t *known = __atomic_load_n(&our_pid, __ATOMIC_ACQUIRE);
    pid_t pid = known == NULL ? 0 : __atomic_load_n(known, __ATOMIC_RELAXED);

    if (pid == 0)
        pid = getpid();
    if (known != NULL)
        __atomic_store_n(known, pid, __ATOMIC_RELAXED);
    return pid;
}

struct nsd_owner nsd_owner_now(void)
{
    pthread_once(&once, mind_forks);
    return (struct nsd_owner){.pid = pid_now(), .forks = forks};
}

bool nsd_is_owner(const struct nsd_owner *owner)
{
    return owner->pid == pid_now() && owner->forks == forks;
}

pthread_mutex_t *nsd_lock_of(const struct nsd_owner *owner, pthread_mutex_t *own)
{
    return nsd_is_owner(owner) ? own : &inherited;
}
