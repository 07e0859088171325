/* where.h - the working directory of a plan that mounts something: the same path, in what is
 * mounted now, and not what lies below it. */
#ifndef NSD_WHERE_H
#define NSD_WHERE_H

#include "request.h"

/* The step that goes to where we are by its path. */
void nsd_add_where_we_are(struct nsd_builder *builder);

/* That step, or another, if the request mounts where the command would start. */
void nsd_follow_the_path(struct nsd_builder *builder,
                         const struct nsd_request *request);

/* A working directory that was deleted has no path. It is missed only where one of the steps
 * that follow, or the command, is looked up from there: says so in the step. */
void nsd_say_who_looks(struct nsd_builder *builder);

#endif
