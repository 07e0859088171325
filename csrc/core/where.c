#include "where.h"

#include <limits.h>
#include <linux/sched.h>
#include <string.h>
#include <unistd.h>

void nsd_add_where_we_are(struct nsd_builder *builder)
{
    nsd_add(builder, NSD_CHDIR);
}

static bool is_relative(const struct nsd_builder *builder, uint64_t offset)
{
    return offset != 0 && nsd_builder_text(builder, offset)[0] != '/';
}

/* Does a step look a path up from where we are? */
static bool looks_from_here(const struct nsd_builder *builder,
                            const struct nsd_step *step)
{
    switch ((int)step->operation) {
    case NSD_BIND:
        return is_relative(builder, step->text[0]) ||
               is_relative(builder, step->text[1]);
    case NSD_MOUNT:
        return is_relative(builder, step->text[1]) && step->text[3] == 0;
    case NSD_CHDIR:
    case NSD_CHROOT:
    case NSD_OPEN_ROOT:
    case NSD_PIVOT_ROOT:
    case NSD_PROPAGATION:
        return is_relative(builder, step->text[0]);
    default:
        return is_relative(builder, step->text[3]);
    }
}

static bool goes_elsewhere(const struct nsd_step *step)
{
    return step->operation == NSD_CHROOT || step->operation == NSD_PIVOT_ROOT ||
           (step->operation == NSD_CHDIR && step->text[0] != 0);
}

void nsd_say_who_looks(struct nsd_builder *builder)
{
    bool needed = false;

    for (uint32_t i = 0; i < builder->paths.count; i++)
        needed |= is_relative(builder, builder->paths.offsets[i]);
    for (uint32_t i = builder->step_count; i-- > 0;) {
        struct nsd_step *step = &builder->steps[i];

        if (goes_elsewhere(step))
            needed = false;
        needed |= looks_from_here(builder, step);
        if (step->operation == NSD_CHDIR && step->text[0] == 0 &&
            step->number[0] != NSD_IF_IT_CAN_BE)
            step->number[0] = needed ? NSD_WHERE_WE_ARE : NSD_UNLESS_DELETED;
    }
}

static bool is_below(const char *path, const char *folder)
{
    size_t length = strlen(folder);

    return strncmp(path, folder, length) == 0 &&
           (path[length] == '/' || path[length] == '\0');
}

/* Who was in a directory before something was mounted over it would stay below: he goes there
 * again, by its path. Who will be elsewhere does not go, since there may be nothing any more;
 * but an init stays, where the command may look. A new /proc alone asks it of few. */
void nsd_follow_the_path(struct nsd_builder *builder, const struct nsd_request *request)
{
    char here[PATH_MAX];

    if (request->root != NULL || request->root_of.pid != 0 ||
        nsd_joins(request, CLONE_NEWNS))
        return; /* in "/" since the root changed */
    if (request->file_count == 0 &&
        !(request->mount_proc && getcwd(here, sizeof(here)) != NULL &&
          is_below(here, "/proc")))
        return;
    if (request->cwd == NULL || request->cwd[0] != '/')
        nsd_add_where_we_are(builder);
    else if (request->init)
        nsd_add(builder, NSD_CHDIR)->number[0] = NSD_IF_IT_CAN_BE;
}
