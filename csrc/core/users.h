/* users.h - who is who in a new user namespace, as steps. */
#ifndef NSD_USERS_H
#define NSD_USERS_H

#include "builder.h"

#include <stdbool.h>

/* The maps are texts as the kernel's files take them: "inside outside count" lines. They are
 * checked by whoever writes them here; the kernel checks them again. */
struct nsd_users {
    const char *uid_map,
        *gid_map;          /* NULL: the caller is root, and nobody else is there */
    const char *setgroups; /* "allow", "deny"; NULL: as the kernel has it */
    bool outside;          /* a helper outside writes them, not the process */
    const char *newuidmap, *newgidmap; /* by these programs; NULL: the helper itself */
    int64_t owner_uid, owner_gid;      /* of the namespace; -1: the caller's ids */
    int64_t uid, gid; /* to become before anything is mounted; -1: keep */
};

void nsd_users_init(struct nsd_users *users);

/* Before anything is joined or unshared: what has to stay outside. */
void nsd_add_map_helper(struct nsd_builder *builder, const struct nsd_users *users);

/* Before the user namespace is made. */
void nsd_add_owner(struct nsd_builder *builder, const struct nsd_users *users);

/* After the user namespace is made, and before anything else is. */
void nsd_add_maps(struct nsd_builder *builder, const struct nsd_users *users);

/* The maps of nsd_users_init; also for plans built by hand. */
void nsd_add_map_root(struct nsd_builder *builder);

#endif
