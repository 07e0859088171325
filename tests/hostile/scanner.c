/* scanner HALF HALF - looks for a marker in the environment, the command line and the
 * memory of every process that it can see but itself, and says what it could read. */
#include "look.h"

#include <ctype.h>
#include <dirent.h>

int main(int argc, char **argv)
{
    static const char *const files[] = {"environ", "cmdline"};
    int processes = 0, refused = 0;
    size_t bytes = 0;
    DIR *proc = opendir("/proc");

    if (argc != 3 || proc == NULL)
        return 2;
    snprintf(marker, sizeof(marker), "%s%s", argv[1], argv[2]);
    for (struct dirent *entry; (entry = readdir(proc)) != NULL;) {
        int pid = atoi(entry->d_name), found;

        if (!isdigit((unsigned char)entry->d_name[0]) || pid == getpid())
            continue;
        processes++;
        for (int i = 0; i < 2; i++)
            if (file_has_marker(pid, files[i]) > 0)
                printf("found in %s of %d\n", files[i], pid);
        found = memory_has_marker(pid, 0, &bytes);
        if (found > 0)
            printf("found in memory of %d\n", pid);
        refused += found == -EACCES || found == -EPERM;
    }
    printf("processes %d refused %d bytes %zu\n", processes, refused, bytes);
    return 0;
}
