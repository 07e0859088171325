/* /proc/self/mountinfo as somebody else's mounts make it, read where the kernel has no
 * mount_setattr(2): steps/attributes.c. */
#include "kernel.h"

#include "steps/steps.h"

#include <stdlib.h>
#include <string.h>

static char *text;
static char descriptor[32];

const char *content_of(const char *path, size_t *ret_size)
{
    const char *found = NULL;

    if (strcmp(path, "/proc/self/mountinfo") == 0)
        found = text;
    else if (strncmp(path, "/proc/self/fdinfo/", 18) == 0)
        found = descriptor;
    *ret_size = found == NULL ? 0 : strlen(found);
    return found;
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

static void remount(void)
{
    enum nsd_readonly which = (enum nsd_readonly)(take_byte() % 3);
    uint8_t id = take_byte();

    memcpy(descriptor, "pos:\t0\nmnt_id:\t", 15);
    descriptor[15] = (char)('0' + id % 10);
    descriptor[16] = '\n';
    text = malloc(input.size + 1);
    memcpy(text, input.data, input.size);
    text[input.size] = '\0';
    /* The kernel's other answers come from the end, which is what the fuzzer adds to. */
    input.data += input.size / 4 * 3;
    input.size -= input.size / 4 * 3;
    nsd_remount(10, 1, which);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    run_on_kernel(data, size, remount, keeps);
    free(text);
    text = NULL;
    return 0;
}
