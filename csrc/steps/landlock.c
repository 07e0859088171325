/* landlock.c - a command that takes away from itself what it may open; see landlock(7).
 *
 * A ruleset names what is judged at all, here everything that this kernel can judge, and each
 * rule allows some of it below a path.
 */
#include "constants.h"
#include "steps.h"

#include <asm/stat.h>
#include <linux/errno.h>
#include <linux/fcntl.h>

/* Headers may be older than the kernel. */
#ifndef __NR_landlock_create_ruleset
#define __NR_landlock_create_ruleset 444
#define __NR_landlock_add_rule 445
#define __NR_landlock_restrict_self 446
#endif
#define CREATE_RULESET_VERSION 1
#define RULE_PATH_BENEATH 1
#define WITH_TRUNCATE 3 /* the version that can forbid truncate(2), of Linux 6.2 */
#define WITH_IOCTL_DEV 5

#define EXECUTE (1u << 0)
#define WRITE_FILE (1u << 1)
#define READ_FILE (1u << 2)
#define READ_DIR (1u << 3)
#define TRUNCATE (1u << 14)
#define IOCTL_DEV (1u << 15)
#define OF_A_FILE (EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV)
#define TO_READ (EXECUTE | READ_FILE | READ_DIR)

struct rule {
    uint64_t allowed;
    int32_t parent;
} __attribute__((packed));

/* Before truncate(2) could be forbidden, a file that may only be read could be emptied: that is
 * not what was asked for. */
static long ask_version(void)
{
    long version = sys3(__NR_landlock_create_ruleset, 0, 0, CREATE_RULESET_VERSION);

    return version >= 0 && version < WITH_TRUNCATE ? -EOPNOTSUPP : version;
}

static uint64_t judged(long version)
{
    return version < WITH_IOCTL_DEV ? IOCTL_DEV - 1 : 2 * IOCTL_DEV - 1;
}

/* Returns the version. */
long nsd_landlock(struct nsd_launch *launch, const struct nsd_step *step)
{
    long version = ask_version();
    uint64_t handled = judged(version);
    long fd = version < 0
                  ? version
                  : sys3(__NR_landlock_create_ruleset, &handled, sizeof(handled), 0);

    (void)step;
    if (fd < 0)
        return fd;
    launch->slot[NSD_RULESET_SLOT] = (int)fd;
    return version;
}

/* writable: it may be changed, too; path: as seen inside */
long nsd_landlock_allow(struct nsd_launch *launch, const struct nsd_step *step)
{
    long version = ask_version();
    long fd = version < 0 ? version
                          : sys4(__NR_openat, AT_FDCWD, nsd_text(launch, step, 0),
                                 O_PATH | O_CLOEXEC, 0);
    struct rule rule = {.parent = (int32_t)fd};
    struct stat file;
    long ret = fd < 0 ? fd : sys2(__NR_fstat, fd, &file);

    rule.allowed = step->number[0] != 0 ? judged(version) : TO_READ;
    if (ret == 0 && (file.st_mode & S_IFMT) != S_IFDIR)
        rule.allowed &= OF_A_FILE;
    rule.allowed &= judged(version);
    if (ret == 0)
        ret = sys4(__NR_landlock_add_rule, launch->slot[NSD_RULESET_SLOT],
                   RULE_PATH_BENEATH, &rule, 0);
    if (fd >= 0)
        sys1(__NR_close, fd);
    return ret;
}

long nsd_landlock_restrict(struct nsd_launch *launch, const struct nsd_step *step)
{
    (void)step;
    return sys2(__NR_landlock_restrict_self, launch->slot[NSD_RULESET_SLOT], 0);
}
