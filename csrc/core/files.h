/* files.h - what is mounted in the root of a container, as steps. */
#ifndef NSD_FILES_H
#define NSD_FILES_H

#include "builder.h"

#include <stdbool.h>

enum nsd_file_kind {
    NSD_FILE_BIND,       /* source: a path of ours */
    NSD_FILE_FILESYSTEM, /* source: its type; options: for mount(2) */
    NSD_FILE_DEV, /* a whole /dev; options: of its tmpfs, source: of /dev/shm's */
    NSD_FILE_LOWER, /* source: a directory of the overlay that follows, the upmost first */
    NSD_FILE_UPPER, /* source: its directory for changes */
    NSD_FILE_WORK, /* source: and that for the kernel's work, on the same file system */
    NSD_FILE_OVERLAY, /* source: the directories in words; options: of the tmpfs for changes */
    NSD_FILE_ROOT_OVERLAY, /* the first: in memory, over the root, which stays as it is; flags:
                            * 1 if that is a layer of its own, a skeleton */
    NSD_FILE_READONLY_ROOT, /* all that is not mounted by these cannot be written to */
    NSD_FILE_MASK, /* source: names that are hidden below the target; options: closed */
    NSD_FILE_LAYER, /* target: below the root; flags: enum nsd_layer; after the overlay */
    NSD_FILE_LINK, /* source: its content; target: its directory; options: its name; likewise */
    NSD_FILE_KIND_COUNT,
};

struct nsd_file {
    enum nsd_file_kind kind;
    int64_t flags; /* MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC; MS_REC of a bind */
    const char *source;
    const char *target; /* below the root */
    const char *options;
};

/* Where files go. */
struct nsd_place {
    const char *root; /* NULL: ours */
    int root_slot;    /* where it was opened first, or -1 */
    int first_source; /* the slot that the sources begin with */
    bool has_user;    /* there is a new user namespace, which may not set trusted.* */
    bool has_ipc; /* there is a new ipc namespace, whose message queues /dev shows */
};

/* The slot with which a plan's sources begin: those before it are for the root and targets. */
#define NSD_FIRST_SOURCE 10

/* Opens all sources. Too many: -E2BIG in builder->error. */
void nsd_add_sources(struct nsd_builder *builder, const struct nsd_file *files,
                     int count, const struct nsd_place *place);

/* Covers the root, which its slot holds, as the first of them says, and the layers below it. */
void nsd_add_root_overlay(struct nsd_builder *builder, const struct nsd_file *files,
                          int count, const struct nsd_place *place);

/* Whether something is to be mounted on /proc, or below; if so, mounts that by a step that keeps
 * hold of it. */
bool nsd_cover_proc(struct nsd_builder *builder, const struct nsd_file *files,
                    int count, const struct nsd_place *place);

/* Closes what came along with the root, before more is mounted in it; its own mount in the
 * end. Nothing, unless that is asked for. */
void nsd_add_readonly_root(struct nsd_builder *builder, const struct nsd_file *files,
                           int count, const struct nsd_place *place,
                           enum nsd_readonly which);

/* Mounts them, in their order. */
void nsd_add_files(struct nsd_builder *builder, const struct nsd_file *files, int count,
                   const struct nsd_place *place);

#endif
