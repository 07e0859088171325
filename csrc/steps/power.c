/* power.c - capabilities, limits and filters: what the command may not do. */
#include "power.h"

#include <linux/capability.h>
#include <linux/errno.h>
#include <linux/filter.h>
#include <linux/prctl.h>
#include <linux/resource.h>
#include <linux/seccomp.h>

static struct __user_cap_header_struct header(void)
{
    return (struct __user_cap_header_struct){.version = _LINUX_CAPABILITY_VERSION_3};
}

long nsd_drop_inheritable(struct nsd_launch *launch, const struct nsd_step *step)
{
    struct __user_cap_header_struct head = header();
    struct __user_cap_data_struct data[2] = {{0}, {0}};
    long ret = sys2(__NR_capget, &head, data);

    (void)launch;
    (void)step;
    if (ret == 0 && (data[0].inheritable | data[1].inheritable) != 0) {
        data[0].inheritable = data[1].inheritable = 0;
        ret = sys2(__NR_capset, &head, data);
    }
    if (ret == 0)
        ret = sys5(__NR_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    return ret;
}

long nsd_raise_permitted(void)
{
    struct __user_cap_header_struct head = header();
    struct __user_cap_data_struct data[2] = {{0}, {0}};
    long ret = sys2(__NR_capget, &head, data);

    for (int i = 0; i < 2; i++)
        data[i].effective = data[i].permitted;
    return ret < 0 ? ret : sys2(__NR_capset, &head, data);
}

void nsd_keep_permitted(void)
{
    struct __user_cap_header_struct head = header();
    struct __user_cap_data_struct data[2] = {{0}, {0}};
    uint64_t permitted;

    if (sys2(__NR_capget, &head, data) < 0)
        return;
    permitted = (uint64_t)data[1].permitted << 32 | data[0].permitted;
    for (int i = 0; i < 2; i++)
        data[i].inheritable = data[i].permitted;
    if (permitted == 0 || sys2(__NR_capset, &head, data) < 0)
        return;
    for (long number = 0; number < 64; number++)
        if ((permitted >> number & 1) != 0)
            sys5(__NR_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number, 0, 0);
}

/* The kernel says which capabilities it knows: EINVAL comes behind the last, which is not an
 * older one than that of Linux 3.16. Somebody else may say so of one in the middle. */
static bool is_behind_last(long number)
{
    return number > CAP_AUDIT_READ &&
           sys5(__NR_prctl, PR_CAPBSET_READ, number + 1, 0, 0, 0) == -EINVAL;
}

/* kept: the capabilities, a bit each */
long nsd_drop_bounding(struct nsd_launch *launch, const struct nsd_step *step)
{
    uint64_t kept = (uint64_t)step->number[0];
    long ret = 0;

    (void)launch;
    for (long number = 0; ret == 0 && number < 64; number++) {
        long had = sys5(__NR_prctl, PR_CAPBSET_READ, number, 0, 0, 0);

        if (had == -EINVAL && is_behind_last(number))
            break;
        if (had < 0)
            return had;
        if (had == 1 && (kept >> number & 1) == 0)
            ret = sys5(__NR_prctl, PR_CAPBSET_DROP, number, 0, 0, 0);
    }
    return ret;
}

/* What is ambient already may stay so where securebits let nothing more become it. */
static long raise_ambient(long number)
{
    long ret = sys5(__NR_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number, 0, 0);

    if (ret == -EPERM &&
        sys5(__NR_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, number, 0, 0) == 1)
        ret = 0;
    return ret;
}

/* kept: the capabilities, a bit each, or -1 for all that there are; ambient: those of them that
 * become so
 *
 * An ambient capability has to be permitted and inheritable; no other is inheritable. */
long nsd_capset(struct nsd_launch *launch, const struct nsd_step *step)
{
    struct __user_cap_header_struct head = header();
    struct __user_cap_data_struct data[2] = {{0}, {0}};
    uint64_t ambient = (uint64_t)step->number[1];
    long ret = sys2(__NR_capget, &head, data);

    (void)launch;
    for (int i = 0; i < 2; i++) {
        if (step->number[0] != -1)
            data[i].permitted = (uint32_t)((uint64_t)step->number[0] >> 32 * i);
        data[i].effective = data[i].permitted;
        data[i].inheritable = (uint32_t)(ambient >> 32 * i);
    }
    if (ret == 0)
        ret = sys2(__NR_capset, &head, data);
    for (long number = 0; ret == 0 && number < 64; number++)
        if ((ambient >> number & 1) != 0)
            ret = raise_ambient(number);
    return ret;
}

void nsd_keep_only(uint32_t capabilities)
{
    struct __user_cap_header_struct head = header();
    struct __user_cap_data_struct data[2] = {{0}, {0}};

    if (sys2(__NR_capget, &head, data) < 0)
        return;
    data[0] = (struct __user_cap_data_struct){
        .permitted = data[0].permitted & capabilities,
        .effective = data[0].permitted & capabilities,
    };
    data[1] = (struct __user_cap_data_struct){0};
    sys2(__NR_capset, &head, data);
}

/* Over a change of the user, until the command. */
long nsd_keep_capabilities(struct nsd_launch *launch, const struct nsd_step *step)
{
    (void)launch;
    (void)step;
    return sys5(__NR_prctl, PR_SET_KEEPCAPS, 1, 0, 0, 0);
}

/* bits: SECBIT_*, all that will hold */
long nsd_securebits(struct nsd_launch *launch, const struct nsd_step *step)
{
    (void)launch;
    return sys5(__NR_prctl, PR_SET_SECUREBITS, step->number[0], 0, 0, 0);
}

/* No program gives more power than we have, setuid or not. */
long nsd_no_new_privs(struct nsd_launch *launch, const struct nsd_step *step)
{
    (void)launch;
    (void)step;
    return sys5(__NR_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

/* resource: RLIMIT_*; -1 is no limit */
long nsd_rlimit(struct nsd_launch *launch, const struct nsd_step *step)
{
    struct rlimit64 limit = {(uint64_t)step->number[1], (uint64_t)step->number[2]};

    (void)launch;
    return sys4(__NR_prlimit64, 0, step->number[0], &limit, 0);
}

/* program: struct sock_filter, that many */
long nsd_seccomp(struct nsd_launch *launch, const struct nsd_step *step)
{
    struct sock_fprog program = {
        .len = (unsigned short)step->number[0],
        .filter = (struct sock_filter *)(uintptr_t)nsd_text(launch, step, 0),
    };

    return sys3(__NR_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
}
