/* keyring NAME - looks for a key in the session keyring, and reads it. */
#include <errno.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#define KEYCTL_SEARCH 10
#define KEYCTL_READ 11
#define SESSION_KEYRING -3

int main(int argc, char **argv)
{
    char content[256] = "";
    long key = syscall(SYS_keyctl, KEYCTL_SEARCH, SESSION_KEYRING, "user",
                       argc > 1 ? argv[1] : "", 0);

    if (key < 0 || syscall(SYS_keyctl, KEYCTL_READ, key, content, sizeof(content)) < 0)
        printf("refused %d\n", errno);
    else
        printf("read %s\n", content);
    return 0;
}
