/* power.h - the steps that take power from a process, or leave it some; see steps.h. */
#ifndef NSD_POWER_H
#define NSD_POWER_H

#include "steps.h"

/* What is permitted becomes effective. */
long nsd_raise_permitted(void);

/* Makes what is permitted ambient, as far as possible, so that it outlives execve. */
void nsd_keep_permitted(void);

/* Of what is permitted, no more than these, by numbers below 32; nothing inheritable. */
void nsd_keep_only(uint32_t capabilities);

#endif
