/* pins.h - namespaces that outlive their processes: a bind mount of /proc/PID/ns/X on a file.
 *
 * A child of the process that launches makes it, in our mount namespace, while the command's process
 * waits inside the new namespaces. All pins of a launch are made, or none.
 */
#ifndef NSD_PINS_H
#define NSD_PINS_H

#include "../builder.h"
#include "child.h"

/* The pins of a plan; NULL if it has none. 0, or -ENOMEM. */
int nsd_pins_of(const struct nsd_builder *plan, struct nsd_pins **ret_pins);

/* Makes the next one if the command's process has asked for it. 0; -ETIMEDOUT, or -EINTR when a
 * signal handler may want to run: call again. */
int nsd_pins_answer(struct nsd_child *child, int64_t deadline);

/* The launch has failed: takes away what was pinned, as far as that can be had within NSD_GRACE. */
void nsd_pins_undo(struct nsd_child *child);

/* It has not: the pins stay, and are somebody else's from now on. */
void nsd_pins_keep(struct nsd_child *child);

/* Takes away a pin, and its file if that is as we make it: empty and of mode 0. -EINVAL: what
 * lies there is none. */
int nsd_unpin(const char *path);

#endif
