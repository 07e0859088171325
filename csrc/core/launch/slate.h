/* slate.h - the file on which trace and plan are written: kept, wiped, and used again.
 *
 * There is one, for launches whose launcher is hidden from whom it joins, and gone when the
 * command runs: nobody else may get hold of what the next plan is read from. Whoever finds it
 * in use, or needs more room, has a file made for that launch alone (vfork.c).
 */
#ifndef NSD_SLATE_H
#define NSD_SLATE_H

#include "kept.h"

#include "../../plan.h"

#include <stddef.h>

#define NSD_SLATE_SIZE (4 * NSD_PAGE)

struct nsd_slate {
    struct nsd_kept file;
    struct nsd_trace *trace; /* where it is mapped; the trace has the first page */
};

/* NULL: there is none to have. Its bytes are zeros. In a launch of this
 * process alone; a fork does not have the memory. */
const struct nsd_slate *nsd_slate_take(void);

/* used: the bytes to wipe; 0 if somebody may still have it before him, and the next must be a
 * new one. */
void nsd_slate_give_back(size_t used);

#endif
