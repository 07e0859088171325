/* builder.h - building a plan: append steps, keep strings.
 *
 * A builder is zero-initialised by nsd_builder_init and released by nsd_builder_free. The
 * first error sticks in .error (0 or a negative errno: -ENOMEM, -E2BIG, -ENAMETOOLONG), so
 * that a recipe reads as a list of steps; check it once, before launching.
 */
#ifndef NSD_BUILDER_H
#define NSD_BUILDER_H

#include "../plan.h"

#include <stdbool.h>
#include <stddef.h>

/* The kernel's own bounds: MAX_ARG_STRLEN for a string, 6 MB for all of them. */
#define NSD_MAX_STRING (128 * 1024)
#define NSD_MAX_TEXT (8 * 1024 * 1024)

struct nsd_vector {
    uint64_t *offsets; /* into text */
    uint32_t count;
};

struct nsd_builder {
    struct nsd_step *steps;
    uint32_t step_count;
    uint32_t step_room;
    char *text;
    uint32_t text_size;
    uint32_t text_room;
    struct nsd_vector argv, envp, paths;
    int slot[NSD_SLOTS];
    int error;
};

void nsd_builder_init(struct nsd_builder *builder);
void nsd_builder_free(struct nsd_builder *builder);

/* Makes to a deep copy of from; to.error says whether it worked. */
void nsd_builder_copy(struct nsd_builder *to, const struct nsd_builder *from);

/* Can this be performed as far as it goes? 0, or -EINVAL and the step that cannot. */
int nsd_builder_check(const struct nsd_builder *builder, uint32_t *reterr_step);

/* Does it end with the command, or as a visit, so that nothing is missing? */
bool nsd_builder_is_whole(const struct nsd_builder *builder);

/* Appends a step and returns it, valid until the next append; never NULL, also after an
 * error (a scratch step then). Set numbers on it, and texts by nsd_step_text. */
struct nsd_step *nsd_add(struct nsd_builder *builder, enum nsd_operation operation);

/* A step in one line: up to three numbers, up to four texts (NULL: absent). */
struct nsd_step *nsd_add_step(struct nsd_builder *builder, enum nsd_operation operation,
                              const int64_t number[3], const char *const text[4]);
#define NSD_NUMBERS(...) ((const int64_t[3]){__VA_ARGS__})
#define NSD_TEXTS(...) ((const char *const[4]){__VA_ARGS__})

/* Keeps bytes and returns their offset, aligned to 4; a NUL is appended. */
uint32_t nsd_keep(struct nsd_builder *builder, const void *bytes, size_t size);

/* Keeps a string at the end of a vector. */
void nsd_vector_add(struct nsd_builder *builder, struct nsd_vector *vector,
                    const char *string, size_t size);

const char *nsd_builder_text(const struct nsd_builder *builder, uint64_t offset);

#endif
