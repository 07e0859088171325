/* /proc/PID/stat of a process that names itself as it likes: nsd_started_at. */
#include "kernel.h"

#include "steps/steps.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *text;

const char *content_of(const char *path, size_t *ret_size)
{
    INSIST(strcmp(path, "/proc/4711/stat") == 0);
    *ret_size = strlen(text);
    return text;
}

void see_execve(const char *path, char *const argv[], char *const envp[])
{
    (void)path;
    (void)argv;
    (void)envp;
}

static bool keeps(long fd)
{
    (void)fd;
    return false;
}

/* What the kernel writes for a name: found again, whatever the name is. */
static void named(void)
{
    uint64_t born = 0;
    int64_t found = -1;
    char name[16] = "";

    take(&born, 7);
    take(name, 15);
    for (size_t i = 0; i < 15; i++)
        if (name[i] == '\n')
            name[i] = ' '; /* the kernel escapes that one */
    text = malloc(512);
    snprintf(text, 512,
             "4711 (%s) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 0 %" PRIu64
             " 1 2 3\n",
             name, born);
    input.size = 0;
    INSIST(nsd_started_at(4711, &found) == 0);
    INSIST(found == (int64_t)born);
}

static void anything(void)
{
    int64_t found = -1;

    text = take_text(2000);
    nsd_started_at(4711, &found);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    run_on_kernel(data, size, size % 2 == 0 ? named : anything, keeps);
    free(text);
    text = NULL;
    return 0;
}
