#include "forks.h"

#include <unistd.h>

static uint32_t forks;
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
    pthread_atfork(NULL, NULL, count_in_child);
}

struct nsd_owner nsd_owner_now(void)
{
    pthread_once(&once, mind_forks);
    return (struct nsd_owner){.pid = getpid(), .forks = forks};
}

bool nsd_is_owner(const struct nsd_owner *owner)
{
    return owner->pid == getpid() && owner->forks == forks;
}

pthread_mutex_t *nsd_lock_of(const struct nsd_owner *owner, pthread_mutex_t *own)
{
    return nsd_is_owner(owner) ? own : &inherited;
}
