/* setgroups - tries to drop a group that keeps its members out of something. */
#include <errno.h>
#include <grp.h>
#include <stdio.h>

int main(void)
{
    printf("%d\n", setgroups(0, NULL) == 0 ? 0 : errno);
    return 0;
}
