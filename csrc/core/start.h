/* start.h - what start.c and begin.c share: a struct nsd_start from its making to its end. */
#ifndef NSD_START_H
#define NSD_START_H

#include "vfork.h"

/* What the launch will be, as far as the plan tells; shared: as in the options. */
void nsd_start_describe(struct nsd_child *child, const struct nsd_builder *plan,
                        size_t shared);

/* The child's stack and its descriptors. slots: those that a plan names; -1 and the standard
 * ones are passed over. 0 or -ENOMEM; nsd_start_clear frees it in any case. */
int nsd_start_prepare(struct nsd_start *start, const struct nsd_launch_options *options,
                      const int *slots, int slot_count);
void nsd_start_clear(struct nsd_start *start);

/* The plan in the layout of plan.h, in start->bytes. 0 or -ENOMEM. */
int nsd_start_serialize(struct nsd_start *start, const struct nsd_builder *plan,
                        int terminal);

/* The child; a pid or a negative errno. The kernel writes the pid before the child runs. */
pid_t nsd_start_clone(struct nsd_start *start, int flags, pid_t *ret_pid);

/* When the child has left our memory: 0 if it is the launcher now (or the command, or has
 * noted the step that failed); else it has been reaped. */
int nsd_start_result(struct nsd_start *start, struct nsd_child *child,
                     enum nsd_start_stage *reterr_stage);

#endif
