/* direct.h - when the launcher is not needed; see direct.c for what that takes. */
#ifndef NSD_DIRECT_H
#define NSD_DIRECT_H

#include "builder.h"

#include <stdbool.h>

/* Can the vfork child perform this plan itself? */
bool nsd_is_direct(const struct nsd_builder *plan);

/* Does a launch of this plan find out by itself that the command is a set-user-ID program, which
 * the kernel does not end with its parent? */
bool nsd_looks_at_command(const struct nsd_builder *plan);

/* Has this kernel what steps/command.c needs? */
bool nsd_can_check_commands(void);

/* May a command with our own uid write to the program that runs this process? */
bool nsd_may_write_python(void);

#endif
