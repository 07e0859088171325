/* trace.h - what is read from the trace page, and what of it is believed.
 *
 * Whoever can reach the launcher's memory can write to that page. So each number is looked at
 * before it is used: a pid names a child of ours, an enum what there is, and nothing that is read
 * here is an index, a size or a pointer of ours.
 */
#ifndef NSD_TRACE_H
#define NSD_TRACE_H

#include "child.h"

/* Is this a child of ours that nobody has reaped? Then the number is its own. */
bool nsd_is_our_child(pid_t pid);

/* The process that was cloned to be the command, or 0: the number is that of somebody else.
 * *ret_gone: of nobody any more; somebody else has reaped it. */
pid_t nsd_trace_command(const struct nsd_child *child, bool *ret_gone);

/* A copy of the results, each as some process may have noted it. */
void nsd_trace_results(const struct nsd_child *child, struct nsd_result *ret_results);

/* The command's wait status as init noted it; false: it has not, or that is none. */
bool nsd_trace_status(const struct nsd_child *child, int *ret_status);

#endif
