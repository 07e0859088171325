/* held.h - the mounts that a plan has made, by their paths: a root, and a target in it. */
#ifndef NSD_HELD_H
#define NSD_HELD_H

#include "steps.h"

/* Keeps the descriptor of a mount, which now covers whatever was held there or below. -E2BIG
 * closes it. */
long nsd_keep_mount(struct nsd_launch *launch, const char *root, const char *target,
                    long fd);

/* Something that nobody holds was mounted there. */
void nsd_forget(struct nsd_launch *launch, const char *root, const char *target);

/* Opens the last mount that a path leads to, or through, if that is held; and what is the rest of
 * the path then. Else the root by its path, compared with a slot if that is not -1. */
long nsd_open_held(const struct nsd_launch *launch, const char *root,
                   const char *target, long slot, const char **ret_rest);

/* What an earlier step mounted at the target of this one, text 1 below the root in text 3; the
 * caller's to close. -ESTALE: nothing that is held. */
long nsd_open_mount(const struct nsd_launch *launch, const struct nsd_step *step);

#endif
