/* Every operation with any numbers and texts, on a kernel that answers anything. */
#include "kernel.h"

#include "steps/steps.h"

#include <stdlib.h>
#include <string.h>

#define MOST_STEPS 6
#define MOST_TEXT 9000

static struct nsd_launch launch;
static struct nsd_plan_head head;
static struct nsd_step steps[MOST_STEPS];
static struct nsd_trace trace;
static struct nsd_result *results;

/* What the launcher's first process asks of the helper that writes id maps. */
static const char *order(size_t *ret_size)
{
    static struct {
        int64_t pid;
        uint64_t step;
    } asked = {.pid = 4711};

    *ret_size = 0;
    for (asked.step = 0; asked.step < MOST_STEPS; asked.step++) {
        const struct nsd_step *step = &steps[asked.step];

        if (step->operation == NSD_MAP_IDS &&
            nsd_check_step(step, launch.text, launch.text_size) == 0)
            *ret_size = sizeof(asked);
        if (*ret_size > 0)
            break;
    }
    return (const char *)&asked;
}

const char *content_of(const char *path, size_t *ret_size)
{
    if (path != NULL && strcmp(path, "socket") == 0)
        return order(ret_size);
    *ret_size = 0;
    INSIST(path != NULL && strlen(path) < MOST_TEXT);
    return NULL;
}

/* newuidmap: every argument is a number of the map. */
void see_execve(const char *path, char *const argv[], char *const envp[])
{
    INSIST(path != NULL && envp != NULL && argv[0] == path);
    for (int i = 2; argv[i] != NULL; i++)
        INSIST(argv[i][0] != '\0' && strspn(argv[i], "0123456789") == strlen(argv[i]));
}

static bool keeps(long fd)
{
    for (int i = 0; i < NSD_SLOTS; i++)
        if (launch.slot[i] == fd)
            return true;
    for (int i = 0; i < launch.held_count; i++)
        if (launch.held[i].fd == fd)
            return true;
    return launch.parent == fd || launch.helper == fd;
}

static int64_t take_number(void)
{
    int64_t number = 0;
    uint8_t kind = take_byte();

    if (kind % 4 == 0)
        return -1;
    if (kind % 4 == 3)
        take(&number, 8);
    else
        take(&number, 1);
    return number;
}

/* Texts as the core lays them out: offsets in one piece, the first byte of which is none. */
static char *lay_out_texts(uint32_t *ret_size)
{
    char *all = calloc(1, 1 + MOST_STEPS * 4 * (size_t)MOST_TEXT);
    uint32_t at = 1;

    for (int i = 0; i < MOST_STEPS; i++) {
        for (int n = 0; n < 4; n++) {
            char *text = take_byte() % 4 == 0 ? NULL : take_text(MOST_TEXT);

            if (text == NULL)
                continue;
            strcpy(all + at, text);
            steps[i].text[n] = at;
            at += (uint32_t)strlen(text) + 1;
            free(text);
        }
    }
    *ret_size = at;
    return realloc(all, at);
}

/* A plan that fills a slot twice loses what was in it. */
static bool perform_one(uint32_t index)
{
    struct nsd_launch before = launch;
    bool goes_on = nsd_perform_noted(&launch, index);

    for (int i = 0; i < NSD_SLOTS; i++)
        if (is_open(before.slot[i]) && !keeps(before.slot[i]))
            sys1(__NR_close, before.slot[i]);
    if (is_open(before.parent) && !keeps(before.parent))
        sys1(__NR_close, before.parent);
    if (is_open(before.helper) && !keeps(before.helper))
        sys1(__NR_close, before.helper);
    return goes_on;
}

static char *text;

static void perform(void)
{
    uint32_t count = 1 + take_byte() % MOST_STEPS;

    memset(steps, 0, sizeof(steps));
    for (uint32_t i = 0; i < count; i++) {
        steps[i].operation = take_byte() % NSD_OPERATION_COUNT;
        steps[i].flags = take_byte() & 3;
        for (int n = 0; n < 3; n++)
            steps[i].number[n] = take_number();
    }
    launch.text = text = lay_out_texts(&launch.text_size);
    for (int i = 0; i < NSD_SLOTS; i++)
        launch.slot[i] = -1;
    for (uint32_t i = 0; i < count; i++)
        if (!perform_one(i))
            break;
    nsd_dismiss_helper(&launch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    results = calloc(1, MOST_STEPS * sizeof(*results) + NSD_SAID);
    head = (struct nsd_plan_head){.step_count = MOST_STEPS, .parent = 1};
    trace = (struct nsd_trace){0};
    launch = (struct nsd_launch){
        .trace = &trace,
        .results = results,
        .head = &head,
        .steps = steps,
        .self = NSD_FIRST,
        .parent = -1,
        .helper = -1,
    };
    text = NULL;
    run_on_kernel(data, size, perform, keeps);
    free(text);
    free(results);
    return 0;
}
