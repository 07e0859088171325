/* kept.h - files without a name, and those of them that the process keeps between launches.
 *
 * Their numbers may be closed behind our back and given to other files, so each is known by
 * device and inode, too. All of it may run in the vfork child (vfork.c): nothing asks libc.
 */
#ifndef NSD_KEPT_H
#define NSD_KEPT_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct nsd_kept {
    int fd; /* -1: none */
    uint64_t device, inode;
    uint32_t mode; /* who finds it through /proc/PID/exe may have changed that */
};

/* Takes a descriptor over, under a number that no standard stream has. 0; a negative errno, also
 * if that is what fd was; -ERANGE where the number would be so high that handing it down costs
 * more than a new file: a child's table is copied up to the highest descriptor that it keeps. */
long nsd_keep_file(long fd, struct nsd_kept *ret_file);

/* For how many launches a file that could not be kept is not tried for again. Nothing is for
 * ever: a sysctl is changed, descriptors below CHEAP_DESCRIPTORS are closed; and who has none left
 * may have some the next time. */
static inline uint32_t nsd_pause_after(long ret)
{
    return ret == 0 || ret == -EMFILE || ret == -ENFILE || ret == -ENOMEM ? 0 : 64;
}

/* Is it the same file, with the same mode? */
bool nsd_is_still(const struct nsd_kept *file);

/* Files without a name, and what is written to them. Negative errnos. */
long nsd_raw_memfd(const char *name, unsigned int flags, unsigned int newer_flag);
long nsd_raw_tmpfile(void);
long nsd_raw_write(long fd, const void *data, size_t size);

#endif
