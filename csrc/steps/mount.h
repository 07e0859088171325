/* mount.h - making a mount, and getting hold of it. */
#ifndef NSD_MOUNT_H
#define NSD_MOUNT_H

#include "steps.h"

/* A new file system on a directory; options as mount(2) takes them, MS_RDONLY, MS_NOSUID,
 * MS_NODEV, MS_NOEXEC. Returns a descriptor of it, or -errno. */
long nsd_mount_new(const char *type, const char *options, long flags, long target);

/* What a descriptor leads to, with what is mounted below or without, at a second place. Returns a descriptor of the mount. Of a file, a kernel that has only mount(2)
 * lets nobody get hold: -ENOSYS or -EPERM, and nothing was done. */
long nsd_bind_new(long source, long target, long flags, bool recursive, bool is_folder);

/* What is mounted on a directory, found without a name: at the root of a process ".." leads up to
 * that. The directory itself, if nothing is. */
long nsd_open_top(long folder);

/* Such a kernel's way. */
long nsd_bind_without_flags(long source, long target, bool recursive);

#endif
