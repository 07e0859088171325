/* direct.h - when the launcher is not needed; see direct.c for what that takes. */
#ifndef NSD_DIRECT_H
#define NSD_DIRECT_H

#include "../builder.h"

#include <stdbool.h>

/* Can the vfork child perform this plan itself? */
bool nsd_is_direct(const struct nsd_builder *plan);

/* How many steps of another plan come before the launcher. Who is cloned into a new user namespace
 * is nobody there until its ids are mapped, and would lose all power if it became the launcher
 * before. */
uint32_t nsd_early_steps(const struct nsd_builder *plan);

#endif
