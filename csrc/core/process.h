/* process.h - what a process is, apart from its namespaces and root: its session, terminal and
 * limits, and what power it keeps.
 */
#ifndef NSD_PROCESS_H
#define NSD_PROCESS_H

#include "request.h"

/* All of it. Credentials come late: whatever precedes them may need power. */
void nsd_add_process(struct nsd_builder *builder, const struct nsd_request *request);

/* The same in two parts, for whoever is born where he can be seized: credentials before that, the
 * rest, which needs no power, after it. longer: capabilities that go with the rest only. */
void nsd_add_credentials(struct nsd_builder *builder, const struct nsd_request *request,
                         int64_t longer);
void nsd_add_rest(struct nsd_builder *builder, const struct nsd_request *request,
                  int64_t longer);

/* Also for plans built by hand: the supplementary groups. */
void nsd_add_groups(struct nsd_builder *builder, const struct nsd_request *request);

#endif
