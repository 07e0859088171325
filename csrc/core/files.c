#include "files.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

#define LONGEST_NAME 16 /* below /dev */

/* The devices that no program should miss, none of which leads to hardware. The number says
 * that it is really this one: somebody may have put a file in its place. */
static const struct {
    const char *path;
    int64_t number; /* major << 8 | minor */
} devices[] = {
    {"/dev/null", 0x103},   {"/dev/zero", 0x105},    {"/dev/full", 0x107},
    {"/dev/random", 0x108}, {"/dev/urandom", 0x109}, {"/dev/tty", 0x500},
};

#define DEVICES ((int)(sizeof(devices) / sizeof(devices[0])))

static int add_source(struct nsd_builder *builder, const char *path, int64_t device,
                      int slot)
{
    if (slot < NSD_UPPER_SLOT)
        nsd_add_step(builder, NSD_OPEN_SOURCE, NSD_NUMBERS(slot, device),
                     NSD_TEXTS(path));
    else if (builder->error == 0)
        builder->error = -E2BIG;
    return slot + 1;
}

void nsd_add_sources(struct nsd_builder *builder, const struct nsd_file *files,
                     int count, const struct nsd_place *place)
{
    int slot = place->first_source;

    for (int i = 0; i < count; i++) {
        switch (files[i].kind) {
        case NSD_FILE_BIND:
        case NSD_FILE_LOWER:
        case NSD_FILE_UPPER:
        case NSD_FILE_WORK:
            slot = add_source(builder, files[i].source, 0, slot);
            break;
        case NSD_FILE_DEV:
            for (int n = 0; n < DEVICES; n++)
                slot = add_source(builder, devices[n].path, devices[n].number, slot);
            break;
        case NSD_FILE_FILESYSTEM:
        case NSD_FILE_OVERLAY:
        case NSD_FILE_ROOT_OVERLAY:
        case NSD_FILE_READONLY_ROOT:
        case NSD_FILE_MASK:
        case NSD_FILE_LAYER:
        case NSD_FILE_LINK:
        case NSD_FILE_KIND_COUNT:
            break;
        }
    }
}

static void add_bind(struct nsd_builder *builder, const struct nsd_place *place,
                     const char *source, const char *target, int64_t flags, int slot)
{
    nsd_add_step(builder, NSD_BIND_AT, NSD_NUMBERS(flags, place->root_slot, slot),
                 NSD_TEXTS(source, target, NULL, place->root));
}

/* A program or a device could lie in a tmpfs: it gets no more rights than what it covers. */
static void add_filesystem(struct nsd_builder *builder, const struct nsd_place *place,
                           const char *type, const char *target, int64_t flags,
                           const char *options)
{
    nsd_add_step(builder, NSD_MOUNT_AT,
                 NSD_NUMBERS(flags, place->root_slot, strcmp(type, "tmpfs") == 0),
                 NSD_TEXTS(options == NULL ? "" : options, target, type, place->root));
}

/* devpts without gid=: no group of the host's need exist inside. ptmx is that of the new
 * devpts, so that a terminal opened inside is none of the host's. */
static int add_dev(struct nsd_builder *builder, const struct nsd_place *place,
                   const struct nsd_file *file, int slot)
{
    const char *target = file->target;
    static const char *const links[][2] = {
        {"fd", "/proc/self/fd"},       {"stdin", "/proc/self/fd/0"},
        {"stdout", "/proc/self/fd/1"}, {"stderr", "/proc/self/fd/2"},
        {"ptmx", "pts/ptmx"},
    };
    size_t length = strlen(target);
    char *path = malloc(length + LONGEST_NAME);

    if (path == NULL) {
        builder->error = builder->error == 0 ? -ENOMEM : builder->error;
        return slot + DEVICES;
    }
    memcpy(path, target, length + 1);
    add_filesystem(builder, place, "tmpfs", target, file->flags, file->options);
    for (int i = 0; i < DEVICES; i++) {
        snprintf(path + length, LONGEST_NAME, "%s", devices[i].path + strlen("/dev"));
        add_bind(builder, place, devices[i].path, path, MS_NOSUID | MS_NOEXEC, slot++);
    }
    for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++)
        nsd_add_step(builder, NSD_LINK_AT, NSD_NUMBERS(0, place->root_slot),
                     NSD_TEXTS(links[i][1], target, links[i][0], place->root));
    snprintf(path + length, LONGEST_NAME, "/pts");
    add_filesystem(builder, place, "devpts", path, MS_NOSUID | MS_NOEXEC,
                   "newinstance,ptmxmode=0666,mode=620");
    snprintf(path + length, LONGEST_NAME, "/shm");
    add_filesystem(builder, place, "tmpfs", path, MS_NOSUID | MS_NODEV, file->source);
    snprintf(path + length, LONGEST_NAME, "/mqueue");
    if (place->has_ipc)
        add_filesystem(builder, place, "mqueue", path, MS_NOSUID | MS_NODEV | MS_NOEXEC,
                       NULL);
    free(path);
    return slot;
}

/* In memory, if there is no upper directory: the overlay covers that, too. trusted.* attributes,
 * in which an overlay keeps its notes, are for real root. */
static void add_overlay(struct nsd_builder *builder, const struct nsd_place *place,
                        const struct nsd_file *file, int64_t directories)
{
    if ((directories & NSD_OVERLAY_UPPER) == 0)
        add_filesystem(builder, place, "tmpfs", file->target, 0, file->options);
    nsd_add_step(builder, NSD_OVERLAY_AT,
                 NSD_NUMBERS(file->flags, place->root_slot, directories),
                 NSD_TEXTS(file->source, file->target,
                           place->has_user ? ",userxattr" : "", place->root));
}

static void add_layer(struct nsd_builder *builder, const struct nsd_place *place,
                      const struct nsd_file *file, int number)
{
    nsd_add_step(builder, NSD_LAYER_AT,
                 NSD_NUMBERS(file->flags, place->root_slot, number),
                 NSD_TEXTS(NULL, file->target, place->has_user ? ",userxattr" : "",
                           place->root));
    if (file->flags == NSD_LAYER || file->flags == NSD_LAYER_SKELETON)
        nsd_add_step(builder, NSD_HAND_OVER,
                     NSD_NUMBERS(NSD_UPPER_SLOT, NSD_LAYER_SLOT), NSD_TEXTS(NULL));
}

void nsd_add_root_overlay(struct nsd_builder *builder, const struct nsd_file *files,
                          int count, const struct nsd_place *place)
{
    if (files[0].flags == 0) {
        add_overlay(builder, place, &files[0],
                    place->root_slot | 1 << 8 | NSD_OVERLAY_IS_ROOT);
        nsd_add_step(builder, NSD_HAND_OVER,
                     NSD_NUMBERS(NSD_UPPER_SLOT, place->root_slot), NSD_TEXTS(NULL));
    } else {
        add_filesystem(builder, place, "tmpfs", "/", 0, files[0].options);
    }
    for (int i = 1; i < count; i++) {
        if (files[i].kind == NSD_FILE_LAYER)
            add_layer(builder, place, &files[i], i);
        if (files[i].kind == NSD_FILE_LINK)
            nsd_add_step(builder, NSD_LINK_AT, NSD_NUMBERS(0, place->root_slot),
                         NSD_TEXTS(files[i].source, files[i].target, files[i].options,
                                   place->root));
    }
}

bool nsd_cover_proc(struct nsd_builder *builder, const struct nsd_file *files,
                    int count, const struct nsd_place *place)
{
    static const char proc[] = "/proc";

    for (int i = 0; i < count; i++) {
        const char *rest = files[i].target + strlen(proc);

        if (files[i].kind == NSD_FILE_LAYER || files[i].kind == NSD_FILE_LINK ||
            strncmp(files[i].target, proc, strlen(proc)) != 0 ||
            (*rest != '\0' && *rest != '/'))
            continue;
        add_filesystem(builder, place, "proc", proc, MS_NOSUID | MS_NODEV | MS_NOEXEC,
                       NULL);
        return true;
    }
    return false;
}

void nsd_add_readonly_root(struct nsd_builder *builder, const struct nsd_file *files,
                           int count, const struct nsd_place *place,
                           enum nsd_readonly which)
{
    for (int i = 0; i < count; i++)
        if (files[i].kind == NSD_FILE_READONLY_ROOT)
            nsd_add_step(builder, NSD_READONLY, NSD_NUMBERS(which, place->root_slot),
                         NSD_TEXTS(NULL, NULL, NULL, place->root));
}

void nsd_add_files(struct nsd_builder *builder, const struct nsd_file *files, int count,
                   const struct nsd_place *place)
{
    int slot = place->first_source;
    int lower = 0, upper = 0; /* of the overlay that follows */

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
            slot = add_dev(builder, place, file, slot);
            break;
        case NSD_FILE_LOWER:
            lower++;
            break;
        case NSD_FILE_UPPER:
            upper = NSD_OVERLAY_UPPER;
            break;
        case NSD_FILE_WORK:
            break;
        case NSD_FILE_OVERLAY:
            add_overlay(builder, place, file, slot | lower << 8 | upper);
            slot += lower + (upper == 0 ? 0 : 2);
            lower = upper = 0;
            break;
        case NSD_FILE_MASK:
            nsd_add_step(
                builder, NSD_MASK_AT, NSD_NUMBERS(file->flags, place->root_slot),
                NSD_TEXTS(file->source, file->target, file->options, place->root));
            break;
        case NSD_FILE_ROOT_OVERLAY:
        case NSD_FILE_READONLY_ROOT:
        case NSD_FILE_LAYER:
        case NSD_FILE_LINK:
        case NSD_FILE_KIND_COUNT:
            break;
        }
    }
}
