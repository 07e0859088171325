/* kept.h - files without a name that the process keeps between launches.
 *
 * Their numbers may be closed behind our back and given to other files, so each is known by
 * device and inode, too. All of it may run in the vfork child (vfork.c): nothing asks libc.
 */
#ifndef NSD_KEPT_H
#define NSD_KEPT_H

#include <stdbool.h>
#include <stdint.h>

struct nsd_kept {
    int fd; /* -1: none */
    uint64_t device, inode;
};

/* Takes a descriptor over, under a number that no standard stream has. False, and it is closed,
 * where that would be so high that handing it down costs more than a new file: a child's table
 * is copied up to the highest descriptor that it keeps. */
bool nsd_keep_file(long fd, struct nsd_kept *ret_file);

bool nsd_is_still(const struct nsd_kept *file);

#endif
