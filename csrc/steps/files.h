/* files.h - finding a place below a root without following a link. */
#ifndef NSD_FILES_STEPS_H
#define NSD_FILES_STEPS_H

#include "steps.h"

/* What a path must lead to. A kind that may be made is, where nothing is there. */
enum nsd_kind {
    NSD_ANYTHING,
    NSD_A_DIRECTORY,
    NSD_A_FILE,
};

/* One name in a folder. Returns an O_PATH descriptor, or -errno; -ELOOP for a link. */
long nsd_open_name(long folder, const char *name, enum nsd_kind kind);

/* A path below an open directory, without following a link. */
long nsd_open_below(long folder, const char *path, enum nsd_kind kind);

/* The target of a step: text 1, below the root in text 3, which is compared with the slot in
 * number 1. */
long nsd_open_target(const struct nsd_launch *launch, const struct nsd_step *step,
                     enum nsd_kind kind);

#endif
