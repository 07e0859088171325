#include "orphans.h"

#include "child.h"
#include "kept.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

/* The number may be another child's once somebody else's waitpid() has taken this one: it is
 * known by its pidfd. */
struct orphan {
    struct orphan *next;
    pid_t pid;
    struct nsd_kept pidfd;
    void (*let_go)(void *);
    void *of;
};

/* It belongs to the process: those of its parent are not a fork's. */
static struct {
    pthread_mutex_t lock;
    struct orphan *first;
    bool minds_forks;
} ours = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void forget_in_child(void)
{
    pthread_mutex_init(&ours.lock, NULL);
    for (struct orphan *at = ours.first; at != NULL; at = at->next)
        if (nsd_is_still(&at->pidfd))
            close(at->pidfd.fd);
    ours.first = NULL;
}

bool nsd_reap_until(pid_t pid, int64_t deadline, int *ret_status)
{
    struct pollfd ended = {.fd = -1, .events = POLLIN};
    int status = -1;
    pid_t found;

    while ((found = waitpid(pid, &status, WNOHANG)) == 0 && nsd_now() < deadline) {
        int64_t a_while = nsd_now() + 5000000;

        if (ended.fd < 0)
            ended.fd = (int)syscall(SYS_pidfd_open, pid, 0);
        nsd_sleep_until(ended.fd < 0 && a_while < deadline ? a_while : deadline, &ended,
                        1);
    }
    if (ended.fd >= 0)
        close(ended.fd);
    if (ret_status != NULL)
        *ret_status = found == pid ? status : -1;
    return found != 0;
}

void nsd_orphan(pid_t pid, void (*let_go)(void *), void *of)
{
    struct orphan *orphan = calloc(1, sizeof(*orphan));

    if (orphan == NULL) /* what it uses stays, and so does its zombie */
        return;
    orphan->pid = pid;
    orphan->let_go = let_go;
    orphan->of = of;
    nsd_keep_file(syscall(SYS_pidfd_open, pid, 0), &orphan->pidfd);
    pthread_mutex_lock(&ours.lock);
    if (!ours.minds_forks)
        ours.minds_forks = pthread_atfork(NULL, NULL, forget_in_child) == 0;
    orphan->next = ours.first;
    __atomic_store_n(&ours.first, orphan, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&ours.lock);
}

bool nsd_end(pid_t pid, void (*let_go)(void *), void *of)
{
    kill(pid, SIGKILL);
    if (nsd_reap_until(pid, nsd_now() + NSD_GRACE, NULL))
        return true;
    nsd_orphan(pid, let_go, of);
    return false;
}

void nsd_see_off(pid_t pid)
{
    if (pid > 0 && !nsd_reap_until(pid, nsd_now() + NSD_GRACE, NULL))
        nsd_end(pid, NULL, NULL);
}

static bool has_ended(const struct orphan *orphan)
{
    siginfo_t info = {0};

    if (orphan->pidfd.fd < 0) /* more descriptors than are kept, or no such call */
        return waitpid(orphan->pid, NULL, WNOHANG) != 0;
    if (!nsd_is_still(&orphan->pidfd)) /* closed behind our back */
        return true;
    return waitid((idtype_t)P_PIDFD, (id_t)orphan->pidfd.fd, &info, WEXITED | WNOHANG) <
               0 ||
           info.si_pid != 0;
}

void nsd_reap_orphans(void)
{
    struct orphan *over = NULL, **link = &ours.first;

    if (__atomic_load_n(&ours.first, __ATOMIC_ACQUIRE) == NULL)
        return;
    pthread_mutex_lock(&ours.lock);
    while (*link != NULL) {
        struct orphan *orphan = *link;

        if (!has_ended(orphan)) {
            link = &orphan->next;
            continue;
        }
        *link = orphan->next;
        orphan->next = over;
        over = orphan;
    }
    pthread_mutex_unlock(&ours.lock);
    while (over != NULL) {
        struct orphan *orphan = over;

        over = orphan->next;
        if (orphan->let_go != NULL)
            orphan->let_go(orphan->of);
        if (nsd_is_still(&orphan->pidfd))
            close(orphan->pidfd.fd);
        free(orphan);
    }
}

size_t nsd_orphans(pid_t *ret_pids, size_t room)
{
    size_t count = 0;

    nsd_reap_orphans();
    pthread_mutex_lock(&ours.lock);
    for (struct orphan *at = ours.first; at != NULL; at = at->next)
        if (count++ < room)
            ret_pids[count - 1] = at->pid;
    pthread_mutex_unlock(&ours.lock);
    return count;
}
