/* power.h - the steps that take power from a process, or leave it some; see steps.h. */
#ifndef NSD_POWER_H
#define NSD_POWER_H

#include "steps.h"

long nsd_drop_inheritable(void);
long nsd_raise_permitted(void);

/* Makes what is permitted ambient, as far as possible, so that it outlives execve. */
void nsd_keep_permitted(void);

/* Of what is permitted, no more than these, by numbers below 32; nothing inheritable. */
void nsd_keep_only(uint32_t capabilities);
long nsd_drop_bounding(const struct nsd_step *step);
long nsd_set_capabilities(const struct nsd_step *step);
long nsd_set_limit(const struct nsd_step *step);
long nsd_landlock(struct nsd_launch *launch);
long nsd_landlock_allow(const struct nsd_launch *launch, const struct nsd_step *step);
long nsd_landlock_restrict(const struct nsd_launch *launch);
long nsd_filter_calls(const struct nsd_launch *launch, const struct nsd_step *step);

#endif
