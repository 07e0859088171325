/* swapper UID (FOLDER NAME NAME)... - exchanges names without a pause, as a user who owns the
 * folders. It opens them first, and says so, so that it finds them again whatever they are
 * called by then. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/types.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    int folder[8], pairs = (argc - 2) / 3;
    pid_t parent = getpid();
    unsigned int id;

    if (argc < 5 || pairs > 8)
        return 2;
    for (int i = 0; i < pairs; i++)
        if ((folder[i] = open(argv[2 + 3 * i], O_PATH | O_DIRECTORY | O_CLOEXEC)) < 0)
            return 3;
    id = (unsigned int)atoi(argv[1]);
    if (setgid(id) < 0 || setuid(id) < 0)
        return 4;
    for (int i = 1; i < pairs; i++) {
        if (fork() > 0)
            continue;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        while (getppid() == parent)
            renameat2(folder[i], argv[3 + 3 * i], folder[i], argv[4 + 3 * i],
                      RENAME_EXCHANGE);
        _exit(0);
    }
    puts("swapping");
    fflush(stdout);
    for (;;)
        renameat2(folder[0], argv[3], folder[0], argv[4], RENAME_EXCHANGE);
}
