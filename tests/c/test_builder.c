/* Building a plan: what is appended can be read back, and the first error sticks. */
#include "core/builder.h"

#include "check.h"

#include <errno.h>

static void an_empty_builder_has_nothing(void)
{
    struct nsd_builder builder;

    nsd_builder_init(&builder);
    CHECK_NUMBER(builder.error, 0);
    CHECK_NUMBER(builder.step_count, 0);
    for (int i = 0; i < NSD_SLOTS; i++)
        CHECK_NUMBER(builder.slot[i], -1);
    CHECK(nsd_builder_text(&builder, 0) == NULL);
    nsd_builder_free(&builder);
}

static void a_step_is_kept_as_it_was_given(void)
{
    struct nsd_builder builder;
    const int64_t number[3] = {1, -2, INT64_MAX};
    const char *const text[4] = {"one", NULL, "", "four"};
    struct nsd_step *step;

    nsd_builder_init(&builder);
    step = nsd_add_step(&builder, NSD_MOUNT, number, text);
    CHECK(step == &builder.steps[0]);
    CHECK_NUMBER(step->operation, NSD_MOUNT);
    CHECK_NUMBER(step->flags, 0);
    for (int i = 0; i < 3; i++)
        CHECK_NUMBER(step->number[i], number[i]);
    CHECK_TEXT(nsd_builder_text(&builder, step->text[0]), "one");
    CHECK_NUMBER(step->text[1], 0);
    CHECK(step->text[2] != 0); /* empty and absent do not look alike */
    CHECK_TEXT(nsd_builder_text(&builder, step->text[2]), "");
    CHECK_TEXT(nsd_builder_text(&builder, step->text[3]), "four");
    nsd_builder_free(&builder);
}

static void kept_bytes_are_aligned_and_end_with_nul(void)
{
    struct nsd_builder builder;
    const uint32_t groups[3] = {0, 4294967294u, 7};
    uint32_t offset;

    nsd_builder_init(&builder);
    nsd_keep(&builder, "x", 1);
    offset = nsd_keep(&builder, groups, sizeof(groups));
    CHECK_NUMBER(offset % 4, 0);
    CHECK(memcmp(builder.text + offset, groups, sizeof(groups)) == 0);
    CHECK_NUMBER(builder.text[offset + sizeof(groups)], 0);
    nsd_builder_free(&builder);
}

static void steps_are_bounded_and_the_error_sticks(void)
{
    struct nsd_builder builder;
    struct nsd_step *step;

    nsd_builder_init(&builder);
    for (unsigned int i = 0; i < NSD_MAX_STEPS; i++)
        nsd_add(&builder, NSD_SETSID)->number[0] = i;
    CHECK_NUMBER(builder.error, 0);
    step = nsd_add(&builder, NSD_FORK);
    CHECK(step != NULL);
    step->number[0] = 1; /* a scratch step: writing to it hurts nobody */
    CHECK_NUMBER(builder.error, -E2BIG);
    CHECK_NUMBER(builder.step_count, NSD_MAX_STEPS);
    CHECK_NUMBER(builder.steps[NSD_MAX_STEPS - 1].number[0], NSD_MAX_STEPS - 1);
    nsd_keep(&builder, "more", 4);
    CHECK_NUMBER(builder.error, -E2BIG);
    nsd_builder_free(&builder);
}

static void a_string_is_bounded_as_the_kernel_bounds_it(void)
{
    static char large[NSD_MAX_STRING];
    struct nsd_builder builder;

    memset(large, 'x', sizeof(large));
    nsd_builder_init(&builder);
    nsd_vector_add(&builder, &builder.argv, large, NSD_MAX_STRING - 1);
    CHECK_NUMBER(builder.error, 0);
    nsd_vector_add(&builder, &builder.argv, large, NSD_MAX_STRING);
    CHECK_NUMBER(builder.error, -E2BIG);
    nsd_builder_free(&builder);
}

static void all_strings_together_are_bounded(void)
{
    static char large[NSD_MAX_STRING - 1];
    struct nsd_builder builder;

    nsd_builder_init(&builder);
    for (size_t size = 0; size < NSD_MAX_TEXT + sizeof(large); size += sizeof(large))
        nsd_vector_add(&builder, &builder.envp, large, sizeof(large));
    CHECK_NUMBER(builder.error, -E2BIG);
    CHECK(builder.text_size <= NSD_MAX_TEXT);
    nsd_builder_free(&builder);
}

static void a_vector_keeps_its_order(void)
{
    struct nsd_builder builder;
    char text[16];

    nsd_builder_init(&builder);
    for (int i = 0; i < 1000; i++) {
        int length = snprintf(text, sizeof(text), "%d", i);

        nsd_vector_add(&builder, &builder.argv, text, (size_t)length);
    }
    CHECK_NUMBER(builder.argv.count, 1000);
    CHECK_TEXT(nsd_builder_text(&builder, builder.argv.offsets[0]), "0");
    CHECK_TEXT(nsd_builder_text(&builder, builder.argv.offsets[999]), "999");
    nsd_builder_free(&builder);
}

static void a_copy_is_deep(void)
{
    struct nsd_builder builder, copy;

    nsd_builder_init(&builder);
    builder.slot[3] = 42;
    nsd_add_step(&builder, NSD_CHDIR, (const int64_t[3]){0},
                 (const char *const[4]){"/somewhere"});
    nsd_vector_add(&builder, &builder.argv, "true", 4);
    nsd_builder_copy(&copy, &builder);
    CHECK_NUMBER(copy.error, 0);
    nsd_builder_free(&builder);
    CHECK_NUMBER(copy.step_count, 1);
    CHECK_NUMBER(copy.slot[3], 42);
    CHECK_TEXT(nsd_builder_text(&copy, copy.steps[0].text[0]), "/somewhere");
    CHECK_TEXT(nsd_builder_text(&copy, copy.argv.offsets[0]), "true");
    nsd_builder_free(&copy);
}

static void a_copy_of_nothing_can_be_appended_to(void)
{
    struct nsd_builder builder, copy;

    nsd_builder_init(&builder);
    nsd_builder_copy(&copy, &builder);
    nsd_add(&copy, NSD_SETSID);
    CHECK_NUMBER(copy.error, 0);
    CHECK_NUMBER(copy.step_count, 1);
    CHECK_NUMBER(builder.step_count, 0);
    nsd_builder_free(&copy);
    nsd_builder_free(&builder);
}

static void a_copy_can_be_appended_to(void)
{
    struct nsd_builder builder, copy;

    nsd_builder_init(&builder);
    for (int count = 0; count < 40; count++) {
        nsd_builder_copy(&copy, &builder);
        for (int i = 0; i < 40; i++) {
            nsd_add(&copy, NSD_UMASK)->number[0] = i;
            nsd_vector_add(&copy, &copy.argv, "argument", 8);
        }
        CHECK_NUMBER(copy.error, 0);
        CHECK_NUMBER(copy.argv.count, count + 40);
        CHECK_TEXT(nsd_builder_text(&copy, copy.argv.offsets[count + 39]), "argument");
        nsd_builder_free(&copy);
        nsd_vector_add(&builder, &builder.argv, "argument", 8);
        nsd_add(&builder, NSD_SETSID);
    }
    nsd_builder_free(&builder);
}

static void a_copy_inherits_the_error(void)
{
    struct nsd_builder builder, copy;

    nsd_builder_init(&builder);
    builder.error = -ENOMEM;
    nsd_builder_copy(&copy, &builder);
    CHECK_NUMBER(copy.error, -ENOMEM);
    nsd_builder_free(&copy);
    nsd_builder_free(&builder);
}

int main(void)
{
    RUN(an_empty_builder_has_nothing);
    RUN(a_step_is_kept_as_it_was_given);
    RUN(kept_bytes_are_aligned_and_end_with_nul);
    RUN(steps_are_bounded_and_the_error_sticks);
    RUN(a_string_is_bounded_as_the_kernel_bounds_it);
    RUN(all_strings_together_are_bounded);
    RUN(a_vector_keeps_its_order);
    RUN(a_copy_is_deep);
    RUN(a_copy_of_nothing_can_be_appended_to);
    RUN(a_copy_can_be_appended_to);
    RUN(a_copy_inherits_the_error);
    return 0;
}
