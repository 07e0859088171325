#include "builder.h"

#include "../steps/steps.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void nsd_builder_init(struct nsd_builder *builder)
{
    *builder = (struct nsd_builder){0};
    for (int i = 0; i < NSD_SLOTS; i++)
        builder->slot[i] = -1;
    nsd_keep(builder, "", 0); /* offset 0 means absent, so nothing else may lie there */
}

void nsd_builder_free(struct nsd_builder *builder)
{
    free(builder->steps);
    free(builder->text);
    free(builder->argv.offsets);
    free(builder->envp.offsets);
    free(builder->paths.offsets);
    *builder = (struct nsd_builder){.error = -EINVAL};
}

/* realloc for an array that must hold `needed` elements; false leaves it as it was. */
static int grow(void **array, uint32_t *room, size_t needed, size_t element)
{
    size_t wanted = *room == 0 ? 16 : *room;
    void *larger;

    if (needed <= *room)
        return 0;
    while (wanted < needed)
        wanted *= 2;
    larger = realloc(*array, wanted * element);
    if (larger == NULL)
        return -ENOMEM;
    *array = larger;
    *room = (uint32_t)wanted;
    return 0;
}

static void *copy_of(const void *bytes, size_t size, int *error)
{
    void *copy = malloc(size == 0 ? 1 : size);

    if (copy == NULL)
        *error = -ENOMEM;
    else if (size != 0)
        memcpy(copy, bytes, size);
    return copy;
}

/* A vector's room follows from its count, so that there is nothing to remember: a power of
 * two, from 16. */
static uint32_t vector_room(uint32_t count)
{
    uint32_t room = count == 0 ? 0 : 16;

    while (room != 0 && room < count)
        room *= 2;
    return room;
}

static void copy_vector(struct nsd_vector *to, const struct nsd_vector *from,
                        int *error)
{
    size_t room = vector_room(from->count);

    to->count = 0;
    to->offsets = malloc((room + 1) * sizeof(*to->offsets));
    if (to->offsets == NULL) {
        *error = -ENOMEM;
        return;
    }
    if (from->count != 0)
        memcpy(to->offsets, from->offsets, from->count * sizeof(*to->offsets));
    to->count = from->count;
}

void nsd_builder_copy(struct nsd_builder *to, const struct nsd_builder *from)
{
    *to = *from;
    to->steps =
        copy_of(from->steps, from->step_count * sizeof(*from->steps), &to->error);
    to->step_room = to->step_count;
    to->text = copy_of(from->text, from->text_size, &to->error);
    to->text_room = to->text_size;
    copy_vector(&to->argv, &from->argv, &to->error);
    copy_vector(&to->envp, &from->envp, &to->error);
    copy_vector(&to->paths, &from->paths, &to->error);
}

struct nsd_step *nsd_add(struct nsd_builder *builder, enum nsd_operation operation)
{
    static _Thread_local struct nsd_step scratch;
    struct nsd_step *step = &scratch;
    void *steps = builder->steps;
    int ret = builder->step_count >= NSD_MAX_STEPS
                  ? -E2BIG
                  : grow(&steps, &builder->step_room, builder->step_count + 1u,
                         sizeof(*builder->steps));

    builder->steps = steps;
    if (ret < 0 && builder->error == 0)
        builder->error = ret;
    if (ret == 0)
        step = &builder->steps[builder->step_count++];
    *step = (struct nsd_step){.operation = (uint32_t)operation};
    return step;
}

/* The kinds of step that change who performs the next one have their places; seen has a bit
 * for each that came before. */
static bool is_in_place(uint32_t operation, uint32_t index, unsigned int *seen)
{
    enum {
        FORKED = 1,
        HAS_INIT = 2,
        HAS_COMMAND = 4,
        HAS_THREAD = 8
    };
    unsigned int before = *seen;

    if (operation == NSD_FORK)
        *seen |= FORKED;
    if (operation == NSD_INIT)
        *seen |= HAS_INIT;
    if (operation == NSD_THREAD)
        *seen |= HAS_THREAD;
    if (operation == NSD_EXEC || operation == NSD_END)
        *seen |= HAS_COMMAND;
    if ((before & HAS_COMMAND) != 0 || (operation == NSD_CLONE && index != 0))
        return false;
    if (operation == NSD_THREAD)
        return (before & (FORKED | HAS_THREAD)) == 0;
    if ((operation == NSD_EXEC || operation == NSD_END) && (before & FORKED) == 0)
        return (before & HAS_THREAD) == 0; /* a thread is there to fork */
    if (operation == NSD_FORK)
        return (before & FORKED) == 0;
    return operation != NSD_INIT || (before & (FORKED | HAS_INIT)) == FORKED;
}

int nsd_builder_check(const struct nsd_builder *builder, uint32_t *reterr_step)
{
    unsigned int seen = 0;

    for (uint32_t i = 0; i < builder->step_count; i++) {
        const struct nsd_step *step = &builder->steps[i];

        *reterr_step = i;
        if (!is_in_place(step->operation, i, &seen) ||
            nsd_check_step(step, builder->text, builder->text_size) < 0)
            return -EINVAL;
    }
    return 0;
}

bool nsd_builder_is_whole(const struct nsd_builder *builder)
{
    uint32_t last;

    if (builder->step_count == 0)
        return false;
    last = builder->steps[builder->step_count - 1].operation;
    return last == NSD_EXEC || last == NSD_END || last == NSD_GUARD;
}

static uint32_t keep_string(struct nsd_builder *builder, const char *string,
                            size_t size)
{
    if (size < NSD_MAX_STRING)
        return nsd_keep(builder, string, size);
    if (builder->error == 0)
        builder->error = -E2BIG;
    return 0;
}

struct nsd_step *nsd_add_step(struct nsd_builder *builder, enum nsd_operation operation,
                              const int64_t number[3], const char *const text[4])
{
    struct nsd_step *step = nsd_add(builder, operation);

    for (int i = 0; i < 3; i++)
        step->number[i] = number[i];
    for (int i = 0; i < 4; i++)
        if (text[i] != NULL)
            step->text[i] = keep_string(builder, text[i], strlen(text[i]));
    return step;
}

uint32_t nsd_keep(struct nsd_builder *builder, const void *bytes, size_t size)
{
    size_t offset = (builder->text_size + 3u) & ~(size_t)3;
    void *text = builder->text;
    int ret = 0;

    if (size > NSD_MAX_TEXT || offset + size + 1 > NSD_MAX_TEXT)
        ret = -E2BIG;
    if (ret == 0)
        ret = grow(&text, &builder->text_room, offset + size + 1, 1);
    builder->text = text;
    if (ret < 0) {
        if (builder->error == 0)
            builder->error = ret;
        return 0;
    }
    memset(builder->text + builder->text_size, 0, offset - builder->text_size);
    memcpy(builder->text + offset, bytes, size);
    builder->text[offset + size] = '\0';
    builder->text_size = (uint32_t)(offset + size + 1);
    return (uint32_t)offset;
}

void nsd_vector_add(struct nsd_builder *builder, struct nsd_vector *vector,
                    const char *string, size_t size)
{
    uint32_t offset = keep_string(builder, string, size);
    void *offsets = vector->offsets;
    uint32_t room = vector_room(vector->count);

    if (grow(&offsets, &room, vector->count + 1u, sizeof(*vector->offsets)) < 0) {
        builder->error = builder->error == 0 ? -ENOMEM : builder->error;
        return;
    }
    vector->offsets = offsets;
    vector->offsets[vector->count++] = offset;
}

const char *nsd_builder_text(const struct nsd_builder *builder, uint64_t offset)
{
    return offset == 0 ? NULL : builder->text + offset;
}
