/* forks.h - whose something is: a fork has the memory of all that we hold, and owns none of it.
 *
 * A pid alone does not tell: a fork of a fork may be given that of the owner, who has ended.
 */
#ifndef NSD_FORKS_H
#define NSD_FORKS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct nsd_owner {
    pid_t pid;
    uint32_t forks; /* that lie between the first process and this one */
};

/* The calling process. */
struct nsd_owner nsd_owner_now(void);

bool nsd_is_owner(const struct nsd_owner *owner);

/* The lock of what may be inherited: `own`, except in a fork, where a thread that is not there
 * may hold it. There one lock serves all. */
pthread_mutex_t *nsd_lock_of(const struct nsd_owner *owner, pthread_mutex_t *own);

#endif
