#include "files.h"

#include <errno.h>
#include <string.h>
#include <sys/mount.h>

#define NUMBERS(...) ((const int64_t[3]){__VA_ARGS__})
#define TEXTS(...) ((const char *const[4]){__VA_ARGS__})

static int add_source(struct nsd_builder *builder, const char *path, int64_t device,
                      int slot)
{
    if (slot < NSD_SLOTS)
        nsd_add_step(builder, NSD_OPEN_SOURCE, NUMBERS(slot, device), TEXTS(path));
    else if (builder->error == 0)
        builder->error = -E2BIG;
    return slot + 1;
}

void nsd_add_sources(struct nsd_builder *builder, const struct nsd_file *files,
                     int count, int first_slot)
{
    int slot = first_slot;

    for (int i = 0; i < count; i++)
        if (files[i].kind == NSD_FILE_BIND)
            slot = add_source(builder, files[i].source, 0, slot);
}

static void add_bind(struct nsd_builder *builder, const struct nsd_place *place,
                     const char *source, const char *target, int64_t flags, int slot)
{
    nsd_add_step(builder, NSD_BIND_AT, NUMBERS(flags, place->root_slot, slot),
                 TEXTS(source, target, NULL, place->root));
}

static void add_filesystem(struct nsd_builder *builder, const struct nsd_place *place,
                           const char *type, const char *target, int64_t flags,
                           const char *options)
{
    nsd_add_step(builder, NSD_MOUNT_AT, NUMBERS(flags, place->root_slot),
                 TEXTS(options == NULL ? "" : options, target, type, place->root));
}

void nsd_add_files(struct nsd_builder *builder, const struct nsd_file *files, int count,
                   const struct nsd_place *place)
{
    int slot = place->first_source;

    for (int i = 0; i < count; i++) {
        const struct nsd_file *file = &files[i];

        switch (file->kind) {
        case NSD_FILE_BIND:
            add_bind(builder, place, file->source, file->target, file->flags, slot++);
            break;
        case NSD_FILE_FILESYSTEM:
            add_filesystem(builder, place, file->source, file->target, file->flags,
                           file->options);
            break;
        case NSD_FILE_DEV:
        case NSD_FILE_KIND_COUNT:
            break;
        }
    }
}
