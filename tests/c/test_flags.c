/* steps/attributes.c from the inside: mountinfo as no kernel should write it. */
#include "steps/attributes.c"

#include "check.h"

#include <signal.h>

#define MOST 8

static size_t read_lines(const char *text, struct line lines[MOST], char copy[256])
{
    strcpy(copy, text);
    return parse(copy, lines);
}

static void a_line_is_read(void)
{
    struct line lines[MOST];
    char copy[256];

    CHECK_NUMBER(read_lines("22 1 0:5 / /a\\040b rw - proc proc rw\n", lines, copy), 1);
    CHECK_NUMBER(lines[0].id, 22);
    CHECK_NUMBER(lines[0].parent, 1);
    CHECK_TEXT(lines[0].point, "/a b");
}

/* As many lines as newlines, whatever is between them. */
static void lines_that_end_too_early(void)
{
    static const char *const texts[] = {
        "1 2 0:1 / /m\n3 4 0:1 / /n\n", "1\n\n",     "\n\n",           "1 2 0:1\n3",
        "1 2 0:1 / \\\n3 4 0:1 / \\1",  "x\n\\040 ", " - \n1 2 3 4 5",
    };

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct line lines[MOST];
        char copy[256];

        CHECK_NUMBER(read_lines(texts[i], lines, copy), 2);
        for (int n = 0; n < 2; n++)
            CHECK(lines[n].point >= copy && lines[n].point < copy + sizeof(copy));
    }
}

static void a_number_that_is_too_long_is_no_overflow(void)
{
    struct line lines[MOST];
    char copy[256];

    CHECK_NUMBER(read_lines("99999999999999999999999999 1 0:1 / /m r\n", lines, copy),
                 1);
    CHECK(lines[0].id > 0);
}

/* Mounts that are their own parents, or each other's: a search that goes up has an end. */
static void mounts_in_a_circle(void)
{
    static const char *const texts[] = {
        "1 1 0:1 / / rw\n2 1 0:1 / /m rw\n",
        "1 2 0:1 / / rw\n2 1 0:1 / /m rw\n",
        "2 2 0:1 / /m rw\n2 2 0:1 / /m rw\n",
    };

    alarm(5);
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct line lines[MOST];
        char copy[256];
        size_t count = read_lines(texts[i], lines, copy);

        for (int64_t top = 1; top < 3; top++) {
            find_below(lines, count, top);
            for (size_t n = 0; n < count; n++)
                (void)is_covered(lines, count, &lines[n]);
        }
    }
    alarm(0);
}

int main(void)
{
    RUN(a_line_is_read);
    RUN(lines_that_end_too_early);
    RUN(a_number_that_is_too_long_is_no_overflow);
    RUN(mounts_in_a_circle);
    return 0;
}
