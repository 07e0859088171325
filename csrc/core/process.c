/* process.c - what a process is, apart from its namespaces and root, as steps. */
#include "process.h"

#include <sys/resource.h>

enum which_limits {
    ALL,
    RAISED,
    LOWERED,
};

/* To raise a limit needs power. One that is lowered holds for whoever forks the command, too, if
 * that comes later: it may be out of processes, or descriptors. */
static void set_limits(struct nsd_builder *builder, const struct nsd_power *power,
                       enum which_limits which)
{
    for (int i = 0; i < power->limit_count; i++) {
        const struct nsd_limit *limit = &power->limits[i];
        struct rlimit now = {0};
        bool raised;

        getrlimit((__rlimit_resource_t)limit->resource, &now);
        raised = (rlim_t)limit->hard > now.rlim_max; /* -1 is the largest */
        if (which == ALL || raised == (which == RAISED))
            nsd_add_step(builder, NSD_RLIMIT,
                         NSD_NUMBERS(limit->resource, limit->soft, limit->hard),
                         NSD_TEXTS(NULL));
    }
}

/* Another user than root keeps what is ambient: the rest would not outlive execve. */
static void set_capabilities(struct nsd_builder *builder,
                             const struct nsd_request *request, int64_t longer)
{
    const struct nsd_power *power = &request->power;
    bool all = !power->sets_capabilities || power->kept == -1;
    int64_t kept = all && request->uid > 0 ? power->ambient : power->kept;

    nsd_add_step(builder, NSD_CAPSET, NSD_NUMBERS(kept | longer, power->ambient),
                 NSD_TEXTS(NULL));
}

/* Neither before the user changes, which they would change, nor after power is gone. What is
 * to be ambient is so before they may forbid it. */
static void set_securebits(struct nsd_builder *builder,
                           const struct nsd_request *request)
{
    const struct nsd_power *power = &request->power;

    if (!power->sets_securebits)
        return;
    if (request->uid > 0 || power->ambient != 0)
        nsd_add_step(builder, NSD_CAPSET, NSD_NUMBERS(-1, power->ambient),
                     NSD_TEXTS(NULL));
    nsd_add_step(builder, NSD_SECUREBITS, NSD_NUMBERS(power->securebits),
                 NSD_TEXTS(NULL));
}

/* Paths as the command will see them, and nothing to be opened after that but its program. */
static void set_landlock(struct nsd_builder *builder, const struct nsd_power *power)
{
    if (!power->has_landlock)
        return;
    nsd_add(builder, NSD_LANDLOCK);
    for (int i = 0; i < power->rule_count; i++)
        nsd_add_step(builder, NSD_LANDLOCK_ALLOW, NSD_NUMBERS(power->rules[i].writable),
                     NSD_TEXTS(power->rules[i].path));
    nsd_add(builder, NSD_LANDLOCK_RESTRICT);
}

static void set_up_session(struct nsd_builder *builder,
                           const struct nsd_request *request)
{
    if (request->new_session)
        nsd_add(builder, NSD_SETSID);
    else if (request->process_group >= 0)
        nsd_add(builder, NSD_SETPGID)->number[0] = request->process_group;
    if (request->terminal != 0)
        nsd_add_step(builder, NSD_TERMINAL,
                     NSD_NUMBERS(request->terminal, request->uid), NSD_TEXTS(NULL));
    if (request->umask >= 0)
        nsd_add(builder, NSD_UMASK)->number[0] = request->umask;
}

void nsd_add_groups(struct nsd_builder *builder, const struct nsd_request *request)
{
    struct nsd_step *step = nsd_add(builder, NSD_SETGROUPS);

    step->number[0] = request->group_count;
    step->flags = request->groups_implied ? NSD_TOLERATES_EPERM : 0;
    step->text[0] = nsd_keep(
        builder, request->group_count == 0 ? "" : (const void *)request->groups,
        (size_t)request->group_count * sizeof(uint32_t));
}

static void change_ids(struct nsd_builder *builder, const struct nsd_request *request)
{
    const struct nsd_power *power = &request->power;

    if (power->sets_capabilities && power->kept != -1)
        nsd_add_step(builder, NSD_DROP_BOUNDING, NSD_NUMBERS(power->kept),
                     NSD_TEXTS(NULL));
    if (request->group_count >= 0)
        nsd_add_groups(builder, request);
    if (request->gid >= 0)
        nsd_add(builder, NSD_SETGID)->number[0] = request->gid;
    if ((power->sets_capabilities || power->sets_securebits) && request->uid > 0)
        nsd_add(builder, NSD_KEEP_CAPABILITIES);
    if (request->uid >= 0)
        nsd_add(builder, NSD_SETUID)->number[0] = request->uid;
}

static void change_directory(struct nsd_builder *builder,
                             const struct nsd_request *request)
{
    if (request->cwd != NULL)
        nsd_add_step(builder, NSD_CHDIR, NSD_NUMBERS(0), NSD_TEXTS(request->cwd));
}

static void drop_power(struct nsd_builder *builder, const struct nsd_request *request,
                       int64_t longer)
{
    const struct nsd_power *power = &request->power;

    set_securebits(builder, request);
    if (power->sets_capabilities || (power->sets_securebits && request->uid > 0))
        set_capabilities(builder, request, longer);
}

/* A change of credentials clears the signal of die_with_parent. */
static void close_down(struct nsd_builder *builder, const struct nsd_request *request)
{
    const struct nsd_power *power = &request->power;

    if (power->no_new_privs)
        nsd_add(builder, NSD_NO_NEW_PRIVS);
    if (request->die_with_parent)
        nsd_add(builder, NSD_DIE_WITH_PARENT);
    set_landlock(builder, power);
    if (power->filter != NULL)
        nsd_add_seccomp(builder, power->filter, power->filter_count);
}

void nsd_add_process(struct nsd_builder *builder, const struct nsd_request *request)
{
    set_up_session(builder, request);
    nsd_add(builder, NSD_DROP_INHERITABLE);
    set_limits(builder, &request->power, ALL);
    change_ids(builder, request);
    change_directory(builder, request);
    drop_power(builder, request, 0);
    close_down(builder, request);
}

void nsd_add_credentials(struct nsd_builder *builder, const struct nsd_request *request,
                         int64_t longer)
{
    nsd_add(builder, NSD_DROP_INHERITABLE);
    set_limits(builder, &request->power, RAISED);
    change_ids(builder, request);
    drop_power(builder, request, longer);
}

void nsd_add_rest(struct nsd_builder *builder, const struct nsd_request *request,
                  int64_t longer)
{
    set_up_session(builder, request);
    set_limits(builder, &request->power, LOWERED);
    change_directory(builder, request);
    if (longer != 0)
        set_capabilities(builder, request, 0);
    close_down(builder, request);
}
