#include "image.h"

#include "../../steps/steps.h"

#include <fcntl.h>
#include <linux/memfd.h>
#include <pthread.h>
#include <stdbool.h>

/* What the core keeps for the process, as the guard. A fork has a copy of the descriptor. */
static struct nsd_kept ours = {.fd = -1};
static uint32_t pause_left; /* launches */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* In a file that nobody can change: not its bytes, and not who may execute it (a container root
 * with our uid finds it as /proc/PID/exe; that he can keep us from reading it, nsd_is_still sees). */
static long sealed_image(void)
{
    const int seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
    long fd =
        nsd_raw_memfd("nsdemo", MFD_CLOEXEC | MFD_ALLOW_SEALING, 0x10 /* MFD_EXEC */);
    long ret = fd < 0 ? fd : nsd_raw_write(fd, nsd_image, nsd_image_size);

    if (ret == 0)
        ret = sys2(__NR_fchmod, fd, 0555);
    if (ret == 0) {
        ret = sys3(__NR_fcntl, fd, F_ADD_SEALS, seals | 0x20 /* F_SEAL_EXEC */);
        if (ret < 0) /* before Linux 6.3 */
            ret = sys3(__NR_fcntl, fd, F_ADD_SEALS, seals);
    }
    if (ret < 0 && fd >= 0)
        sys1(__NR_close, fd);
    return ret < 0 ? ret : fd;
}

/* For this launch alone, where memfds are refused. A file that is open for writing cannot be
 * executed, so it is opened once more; it has no name by which anybody else could. */
static long image_in_tmpfile(void)
{
    char path[NSD_FD_PATH];
    long writable = nsd_raw_tmpfile();
    long ret =
        writable < 0 ? writable : nsd_raw_write(writable, nsd_image, nsd_image_size);

    if (ret == 0)
        ret = sys2(__NR_fchmod, writable, 0555);
    if (ret == 0)
        ret = sys3(__NR_openat, AT_FDCWD, nsd_path_of(writable, path),
                   O_RDONLY | O_CLOEXEC);
    if (writable >= 0)
        sys1(__NR_close, writable);
    return ret;
}

struct nsd_kept nsd_image_kept(void)
{
    struct nsd_kept kept = {.fd = -1};

    /* Not waited for: in a fork, nobody may be there to give it back. */
    if (pthread_mutex_trylock(&lock) != 0)
        return kept;
    if (pause_left > 0)
        pause_left--;
    else if (!nsd_is_still(&ours))
        pause_left = nsd_pause_after(nsd_keep_file(sealed_image(), &ours));
    kept = ours;
    pthread_mutex_unlock(&lock);
    return kept;
}

static long execute(long image, char *const argv[])
{
    char *envp[] = {NULL}; /* /proc/1/environ must not tell the host's */

    return image < 0 ? image
                     : sys5(__NR_execveat, image, "", argv, envp, AT_EMPTY_PATH);
}

/* A refused memfd (vm.memfd_noexec=2, a seccomp filter) shows at its creation or only at
 * execution; then the next way is tried. */
long nsd_image_execute(const struct nsd_kept *kept, char *const argv[])
{
    execute(nsd_is_still(kept) ? kept->fd : sealed_image(), argv);
    return execute(image_in_tmpfile(), argv);
}
