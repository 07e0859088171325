/* vfork.h - what the parent hands to its vfork child; see vfork.c for its law. */
#ifndef NSD_VFORK_H
#define NSD_VFORK_H

#include "image.h"
#include "settle.h"
#include "slate.h"

struct nsd_start {
    const struct nsd_builder *plan;
    const struct nsd_launch_options *options;
    struct nsd_child *child;
    char *bytes; /* the plan as it lies in its file, behind the trace */
    size_t size;
    struct nsd_kept image;         /* what the process keeps */
    const struct nsd_slate *slate; /* NULL: the child makes a file for trace and plan */
    bool direct;                   /* the child performs the plan itself: direct.c */
    int *kept; /* ascending: descriptors above 2 that the child keeps */
    int kept_count;
    enum nsd_start_stage stage;
    int error;
};

/* Runs in the vfork child; never returns. argument is a struct nsd_start. */
int nsd_child_main(void *argument);

/* direct.c, in the vfork child: performs the plan up to its end; returns when that is a failure, which
 * stands in child->results. */
void nsd_child_perform(struct nsd_start *start);

#endif
