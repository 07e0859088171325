#include "users.h"

#include <stdio.h>
#include <unistd.h>

void nsd_users_init(struct nsd_users *users)
{
    *users = (struct nsd_users){
        .owner_uid = -1,
        .owner_gid = -1,
        .uid = -1,
        .gid = -1,
    };
}

/* The process writes its own files. */
static void add_writes(struct nsd_builder *builder, const char *uid_map,
                       const char *setgroups, const char *gid_map)
{
    nsd_add_step(builder, NSD_WRITE_PROC, NSD_NUMBERS(0),
                 NSD_TEXTS("/proc/self/uid_map", uid_map));
    nsd_add_step(builder, NSD_WRITE_PROC, NSD_NUMBERS(0),
                 NSD_TEXTS("/proc/self/setgroups", setgroups));
    nsd_add_step(builder, NSD_WRITE_PROC, NSD_NUMBERS(0),
                 NSD_TEXTS("/proc/self/gid_map", gid_map));
}

/* The caller becomes root inside, and nobody else exists there. setgroups is denied before
 * gid_map may be written: otherwise somebody could drop a group that keeps him out. */
void nsd_add_map_root(struct nsd_builder *builder)
{
    char uid_map[32], gid_map[32];

    snprintf(uid_map, sizeof(uid_map), "0 %u 1", (unsigned int)geteuid());
    snprintf(gid_map, sizeof(gid_map), "0 %u 1", (unsigned int)getegid());
    add_writes(builder, uid_map, "deny", gid_map);
}

void nsd_add_map_helper(struct nsd_builder *builder, const struct nsd_users *users)
{
    if (users->outside)
        nsd_add(builder, NSD_MAP_HELPER);
}

void nsd_add_owner(struct nsd_builder *builder, const struct nsd_users *users)
{
    if (users->owner_uid >= 0)
        nsd_add_step(builder, NSD_OWNER,
                     NSD_NUMBERS(users->owner_uid, users->owner_gid), NSD_TEXTS(NULL));
}

void nsd_add_maps(struct nsd_builder *builder, const struct nsd_users *users)
{
    if (users->uid_map == NULL) {
        nsd_add_map_root(builder);
        return;
    }
    if (!users->outside) {
        add_writes(builder, users->uid_map, users->setgroups, users->gid_map);
    } else {
        nsd_add_step(builder, NSD_MAP_IDS, NSD_NUMBERS(0),
                     NSD_TEXTS("uid_map", users->uid_map, users->newuidmap));
        if (users->setgroups != NULL)
            nsd_add_step(builder, NSD_MAP_IDS, NSD_NUMBERS(0),
                         NSD_TEXTS("setgroups", users->setgroups));
        nsd_add_step(builder, NSD_MAP_IDS, NSD_NUMBERS(1),
                     NSD_TEXTS("gid_map", users->gid_map, users->newgidmap));
    }
    if (users->uid == 0 && users->gid == 0) {
        nsd_add(builder, NSD_BECOME_ROOT);
        return;
    }
    if (users->gid >= 0)
        nsd_add(builder, NSD_SETGID)->number[0] = users->gid;
    if (users->uid >= 0)
        nsd_add(builder, NSD_SETUID)->number[0] = users->uid;
}
