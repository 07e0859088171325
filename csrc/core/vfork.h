/* vfork.h - what the parent hands to its vfork child; see vfork.c for its law. */
#ifndef NSD_VFORK_H
#define NSD_VFORK_H

#include "launch.h"

struct nsd_start {
    int stdio[3]; /* as in struct nsd_launch_options */
    int *kept;    /* ascending: descriptors above 2 that the child keeps */
    int kept_count;
    int *handed; /* those of them that whom it executes gets, too */
    int handed_count;
    const char *image_path; /* the launcher on disk */
    char *stack;            /* the child's */
    size_t trace_size;      /* whole pages */
    char *bytes;            /* the plan as it lies in its file, behind the trace */
    size_t size;
    bool direct;                /* the child performs the plan itself: direct.c */
    struct nsd_result *results; /* and notes it here */

    struct nsd_trace *trace; /* as the child has mapped it; NULL: not yet */
    uint32_t waiting_state;  /* its state now */
    enum nsd_start_stage stage;
    int error;
};

/* The signals that this process ignores, bit N-1 for signal N. */
uint64_t nsd_ignored_signals(void);

/* Runs in the vfork child; never returns. argument is a struct nsd_start. */
int nsd_child_main(void *argument);

/* direct.c, in the vfork child: performs the plan up to its end; returns when that is a
 * failure, which stands in start->results. */
void nsd_child_perform(const struct nsd_start *start);

#endif
