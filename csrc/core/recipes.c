#include "request.h"

#include "files.h"
#include "process.h"
#include "where.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

/* The slots of a plan: the root first, then the targets in the order of their joins. */
enum {
    ROOT_SLOT,
    ROOT_OWNER_SLOT,
    FIRST_JOIN_SLOT,
    FIRST_SOURCE_SLOT = FIRST_JOIN_SLOT + NSD_MAX_JOINS,
};

_Static_assert((int)FIRST_SOURCE_SLOT == NSD_FIRST_SOURCE,
               "plans by hand begin there too");

void nsd_request_init(struct nsd_request *request)
{
    *request = (struct nsd_request){
        .fork = true,
        .propagation = MS_REC | MS_PRIVATE,
        .process_group = -1,
        .uid = -1,
        .gid = -1,
        .group_count = -1,
        .umask = -1,
    };
    nsd_users_init(&request->users);
}

void nsd_add_unshare(struct nsd_builder *builder, int flags)
{
    nsd_add(builder, NSD_UNSHARE)->number[0] = flags;
}

/* By the Python process, while the command's process waits in its namespaces (in the new time
 * namespace it is from execve on); or here, in a mount namespace that was joined, before the
 * fork. */
void nsd_add_pin(struct nsd_builder *builder, int flag, const char *path, bool here)
{
    for (int i = 0; i < NSD_NAMESPACE_COUNT; i++)
        if (nsd_namespaces[i].flag == flag)
            nsd_add_step(builder, NSD_PIN, NSD_NUMBERS(flag, here ? NSD_PROC_SLOT : -1),
                         NSD_TEXTS(flag == CLONE_NEWTIME ? "time_for_children"
                                                         : nsd_namespaces[i].file,
                                   path));
}

bool nsd_joins(const struct nsd_request *request, int flag)
{
    for (int i = 0; i < request->join_count; i++)
        if ((request->joins[i].flags & flag) != 0)
            return true;
    return false;
}

static bool gives_power_up(const struct nsd_request *request)
{
    const struct nsd_power *power = &request->power;

    return request->uid >= 0 || request->gid >= 0 || request->group_count >= 0 ||
           power->sets_securebits || (power->sets_capabilities && power->kept != -1);
}

static bool mounts_proc(const struct nsd_request *request)
{
    for (int i = 0; i < request->file_count; i++)
        if (request->files[i].kind == NSD_FILE_FILESYSTEM &&
            strcmp(request->files[i].source, "proc") == 0)
            return true;
    return request->mount_proc;
}

/* Whoever holds CAP_SYS_PTRACE in a pid namespace seizes who is born there, unless that one's
 * memory belongs to a user namespace around its own: ours, when we join a user namespace. So power
 * goes before; and pins are asked for before, on the page that Python reads. A proc shows the pid
 * namespace of whoever mounts it: then neither can be. */
static bool is_set_up_outside(const struct nsd_request *request)
{
    return request->fork && nsd_joins(request, CLONE_NEWPID) && !mounts_proc(request) &&
           (request->pin_count > 0 ||
            (gives_power_up(request) && !nsd_joins(request, CLONE_NEWUSER)));
}

static bool is_born_without_power(const struct nsd_request *request)
{
    return is_set_up_outside(request) && gives_power_up(request) &&
           !nsd_joins(request, CLONE_NEWUSER);
}

/* A watchdog needs power to end a command that has changed its ids. The kernel starts no thread
 * where the next child is in other namespaces, and makes no user namespace where there is one. */
static bool has_thread(const struct nsd_request *request)
{
    return is_born_without_power(request) &&
           (request->unshare & (CLONE_NEWUSER | CLONE_NEWTIME)) == 0;
}

static void add_pins(struct nsd_builder *builder, const struct nsd_request *request,
                     bool here)
{
    for (int i = 0; i < request->pin_count; i++)
        nsd_add_pin(builder, request->pins[i].flag, request->pins[i].path, here);
}

void nsd_add_exec(struct nsd_builder *builder)
{
    nsd_add(builder, NSD_EXEC);
    nsd_say_who_looks(builder);
}

void nsd_add_seccomp(struct nsd_builder *builder, const void *filter, uint32_t count)
{
    struct nsd_step *step = nsd_add(builder, NSD_SECCOMP);

    step->number[0] = count;
    step->text[0] = nsd_keep(builder, filter, (size_t)count * 8);
}

static void add_process(struct nsd_builder *builder, struct nsd_process_id process,
                        int slot)
{
    if (process.pidfd >= 0) {
        builder->slot[slot] = process.pidfd;
        return;
    }
    nsd_add_step(builder, NSD_OPEN_PROCESS,
                 NSD_NUMBERS(process.pid, process.birth, slot), NSD_TEXTS(NULL));
}

/* Everything that is named by a path or a pid is opened first: after a join, /proc and the
 * names in it are the target's. */
static void open_targets(struct nsd_builder *builder, const struct nsd_request *request)
{
    if (request->root != NULL)
        nsd_add_step(builder, NSD_OPEN_ROOT, NSD_NUMBERS(ROOT_SLOT, -1),
                     NSD_TEXTS(request->root));
    if (request->root_of.pid != 0) {
        char path[32];

        snprintf(path, sizeof(path), "/proc/%d/root", (int)request->root_of.pid);
        add_process(builder, request->root_of, ROOT_OWNER_SLOT);
        nsd_add_step(builder, NSD_OPEN_ROOT, NSD_NUMBERS(ROOT_SLOT, ROOT_OWNER_SLOT),
                     NSD_TEXTS(path));
    }
    for (int i = 0; i < request->join_count; i++) {
        const struct nsd_join *join = &request->joins[i];
        int slot = FIRST_JOIN_SLOT + i;

        if (join->process.pid == 0)
            builder->slot[slot] = join->file;
        else if (join->process.pid != request->root_of.pid)
            add_process(builder, join->process, slot);
    }
}

static void add_join(struct nsd_builder *builder, const struct nsd_request *request,
                     int i, int flags)
{
    const struct nsd_join *join = &request->joins[i];
    bool opened = join->process.pid != 0 && join->process.pid == request->root_of.pid;

    if (flags != 0)
        nsd_add_step(builder, NSD_JOIN,
                     NSD_NUMBERS(opened ? ROOT_OWNER_SLOT : FIRST_JOIN_SLOT + i, flags),
                     NSD_TEXTS(NULL));
}

/* One setns per target. An ordinary user gets the power to join the rest from the user
 * namespaces, so the order is the request's, from the outside in (nsdemo/_facts/nests.py); root may
 * lose power by joining one, so that comes last. */
static void join_targets(struct nsd_builder *builder, const struct nsd_request *request)
{
    bool joins_user = false;
    int later = has_thread(request) ? CLONE_NEWPID : 0;

    for (int i = 0; i < request->join_count; i++) {
        bool has_user = (request->joins[i].flags & CLONE_NEWUSER) != 0;

        joins_user |= has_user;
        if (!request->privileged || !has_user)
            add_join(builder, request, i, request->joins[i].flags & ~later);
    }
    for (int i = 0; request->privileged && i < request->join_count; i++)
        if ((request->joins[i].flags & CLONE_NEWUSER) != 0)
            add_join(builder, request, i, request->joins[i].flags);
    /* Root, if the namespace maps one; else (EINVAL) we stay nobody: the trace says so. */
    if (joins_user && request->uid < 0 && request->gid < 0)
        nsd_add(builder, NSD_BECOME_ROOT)->flags = NSD_TOLERATES_EINVAL;
}

static void unshare_new(struct nsd_builder *builder, const struct nsd_request *request)
{
    int rest = request->unshare & ~CLONE_NEWUSER;

    if ((request->unshare & CLONE_NEWUSER) != 0) {
        nsd_add_owner(builder, &request->users);
        nsd_add_unshare(builder, CLONE_NEWUSER);
        nsd_add_maps(builder, &request->users);
    }
    if (rest != 0)
        nsd_add_unshare(builder, rest);
    if (request->time_offsets !=
        NULL) /* before anybody is in it: then they are fixed */
        nsd_add_step(builder, NSD_WRITE_PROC, NSD_NUMBERS(0),
                     NSD_TEXTS("/proc/self/timens_offsets", request->time_offsets));
}

/* Do mounts of ours show on a machine that shares its mounts with us? */
static bool sends_events(const struct nsd_request *request)
{
    return (request->unshare & CLONE_NEWNS) != 0 &&
           (request->propagation < 0 || (request->propagation & MS_SHARED) != 0);
}

/* As unshare(1) does: what we mount stays inside, whatever holds for the mounts around it. */
static void keep_inside(struct nsd_builder *builder, uint32_t first)
{
    for (uint32_t i = first; i < builder->step_count; i++) {
        struct nsd_step *step = &builder->steps[i];

        if (step->operation == NSD_BIND || step->operation == NSD_MOUNT ||
            step->operation == NSD_BIND_AT || step->operation == NSD_MOUNT_AT ||
            step->operation == NSD_OVERLAY_AT || step->operation == NSD_LAYER_AT)
            step->flags |= NSD_STAYS_INSIDE;
    }
}

static void set_up_mounts(struct nsd_builder *builder,
                          const struct nsd_request *request)
{
    const char *root = request->root;
    uint32_t first = builder->step_count;
    bool pivots = root != NULL && !request->by_chroot;
    bool has_overlay =
        request->file_count > 0 && request->files[0].kind == NSD_FILE_ROOT_OVERLAY;
    const struct nsd_place place = {
        .root = root,
        .root_slot = root == NULL ? -1 : ROOT_SLOT,
        .first_source = FIRST_SOURCE_SLOT,
        .has_user = (request->unshare & CLONE_NEWUSER) != 0,
        .has_ipc = (request->unshare & CLONE_NEWIPC) != 0,
    };

    if ((request->unshare & CLONE_NEWNS) != 0 && request->propagation >= 0)
        nsd_add_step(builder, NSD_PROPAGATION, NSD_NUMBERS(request->propagation),
                     NSD_TEXTS("/"));
    /* Before anything is mounted; after unshare, or they would lie in the old namespace. */
    nsd_add_sources(builder, request->files, request->file_count, &place);
    /* pivot_root wants a mount point. */
    if (has_overlay || (root != NULL && !pivots && request->file_count > 0))
        nsd_add_step(builder, NSD_OPEN_ROOT, NSD_NUMBERS(ROOT_SLOT, -1, true),
                     NSD_TEXTS(root));
    else if (pivots)
        nsd_add_step(builder, NSD_BIND, NSD_NUMBERS(MS_BIND | MS_REC, ROOT_SLOT, true),
                     NSD_TEXTS(root, root));
    if (has_overlay)
        nsd_add_root_overlay(builder, request->files, request->file_count, &place);
    nsd_add_readonly_root(builder, request->files, request->file_count, &place,
                          NSD_READONLY_BELOW);
    /* Before the root changes: the kernel gives a user namespace a new /proc only while the
     * old one is in sight. */
    if (request->mount_proc &&
        !nsd_cover_proc(builder, request->files, request->file_count, &place))
        nsd_add_step(builder, NSD_MOUNT,
                     NSD_NUMBERS(MS_NOSUID | MS_NODEV | MS_NOEXEC,
                                 root == NULL ? -1 : ROOT_SLOT),
                     NSD_TEXTS("proc", root == NULL ? "/proc" : "proc", "proc", root));
    nsd_add_files(builder, request->files, request->file_count, &place);
    nsd_add_readonly_root(builder, request->files, request->file_count, &place,
                          NSD_READONLY_TOP);
    if (sends_events(request))
        keep_inside(builder, first);
    if (pivots)
        nsd_add_step(
            builder, NSD_PIVOT_ROOT,
            NSD_NUMBERS(ROOT_SLOT, request->propagation == (MS_REC | MS_PRIVATE)),
            NSD_TEXTS(root));
    else if (root != NULL || request->root_of.pid != 0)
        nsd_add_step(builder, NSD_CHROOT, NSD_NUMBERS(ROOT_SLOT), NSD_TEXTS(root));
    if (pivots && sends_events(request) && request->propagation >= 0)
        nsd_add_step(builder, NSD_PROPAGATION, NSD_NUMBERS(request->propagation),
                     NSD_TEXTS("/"));
}

/* For who goes where he can be seized: credentials come before the fork. */
static void set_up_process_inside(struct nsd_builder *builder,
                                  const struct nsd_request *request)
{
    if (has_thread(request)) {
        nsd_add(builder, NSD_THREAD);
        for (int i = 0; i < request->join_count; i++)
            add_join(builder, request, i, request->joins[i].flags & CLONE_NEWPID);
    }
    if (!is_born_without_power(request)) {
        nsd_add(builder, NSD_FORK);
        nsd_add_process(builder, request);
        return;
    }
    nsd_add_credentials(builder, request, 0);
    nsd_add(builder, NSD_FORK);
    nsd_add_rest(builder, request, 0);
}

/* May the command seize its init, whose memory is not of a user namespace around? Then that has
 * no more than the command, and CAP_KILL, to pass signals on. */
static bool is_init_in_reach(const struct nsd_request *request)
{
    const struct nsd_power *power = &request->power;

    return request->init && (request->unshare & CLONE_NEWUSER) == 0 &&
           power->sets_capabilities && power->kept != -1 &&
           (power->kept >> CAP_SYS_PTRACE & 1) != 0;
}

/* One clone makes the process and its namespaces. Not where somebody stays outside of them (to
 * join, to write ids, to pin), or inside as init; and clone() has no flag for the time namespace.
 */
static bool can_clone(const struct nsd_request *request)
{
    bool maps_ids = (request->unshare & CLONE_NEWUSER) != 0;

    return request->join_count == 0 && request->root_of.pid == 0 && !request->init &&
           (request->unshare & CLONE_NEWTIME) == 0 && request->pin_count == 0 &&
           request->cgroup_count == 0 &&
           !(maps_ids && (request->no_user_clone || request->users.outside ||
                          request->users.owner_uid >= 0));
}

static void clone_new(struct nsd_builder *builder, const struct nsd_request *request)
{
    bool has_pid = (request->unshare & CLONE_NEWPID) != 0;
    enum nsd_end end = !request->watch                    ? NSD_ENDS_NOTHING
                       : request->new_session && !has_pid ? NSD_ENDS_GROUP
                                                          : NSD_ENDS_COMMAND;

    nsd_add_step(builder, NSD_CLONE, NSD_NUMBERS(request->unshare, end),
                 NSD_TEXTS(NULL));
    if ((request->unshare & CLONE_NEWUSER) != 0)
        nsd_add_maps(builder, &request->users);
}

static bool writes_maps(const struct nsd_request *request)
{
    return (request->unshare & CLONE_NEWUSER) != 0 || request->time_offsets != NULL;
}

/* The namespaces step by step, in a launcher. */
static void unshare_and_fork(struct nsd_builder *builder,
                             const struct nsd_request *request)
{
    bool joins_pid = nsd_joins(request, CLONE_NEWPID);
    bool pins_here = request->pin_count > 0 && nsd_joins(request, CLONE_NEWNS);
    bool enters_time = !request->fork && (request->unshare & CLONE_NEWTIME) != 0;
    bool forks;

    /* A pid namespace holds only processes born after the move. A watchdog, too, needs the
     * command to be somebody else; and whom a pin in another mount namespace is undone by. */
    forks = request->watch || request->init || pins_here ||
            (request->fork && (joins_pid || (request->unshare & CLONE_NEWPID) != 0));

    open_targets(builder, request);
    if (pins_here || enters_time) /* what will be mounted there may be another's */
        nsd_add_step(builder, NSD_OPEN_ROOT, NSD_NUMBERS(NSD_PROC_SLOT, -1),
                     NSD_TEXTS("/proc"));
    if (request->watch)
        nsd_add_step(builder, NSD_WATCH, NSD_NUMBERS(request->new_session),
                     NSD_TEXTS(NULL));
    /* While the hierarchies are in sight, and before there is a cgroup namespace, whose root
     * is where we are then. */
    for (int i = 0; i < request->cgroup_count; i++)
        nsd_add_step(builder, NSD_JOIN_CGROUP, NSD_NUMBERS(0),
                     NSD_TEXTS(request->cgroups[i]));
    if (!request->fork && forks)
        nsd_add(builder, NSD_FORK); /* as any command is started */
    nsd_add_map_helper(builder, &request->users);
    if (request->join_count > 0) {
        nsd_add(builder, NSD_HIDE); /* before the target can look at us */
        join_targets(builder, request);
    }
    unshare_new(builder, request);
    if (enters_time)
        nsd_add(builder, NSD_ENTER_TIME)->number[0] = NSD_PROC_SLOT;
    if (pins_here)
        add_pins(builder, request, true);
    if (request->join_count == 0 && (forks || writes_maps(request)))
        nsd_add(builder, NSD_HIDE); /* a hidden process may not write id maps: after */
    if (request->fork && forks && !is_set_up_outside(request))
        nsd_add(builder, NSD_FORK);
}

void nsd_recipe_spawn(struct nsd_builder *builder, const struct nsd_request *request)
{
    if (request->fork && can_clone(request)) {
        clone_new(builder, request);
        open_targets(builder, request);
    } else {
        unshare_and_fork(builder, request);
    }
    if ((request->unshare & CLONE_NEWNET) != 0)
        nsd_add(builder, NSD_LOOPBACK_UP);
    if (request->hostname != NULL)
        nsd_add_step(builder, NSD_SETHOSTNAME, NSD_NUMBERS(0),
                     NSD_TEXTS(request->hostname));
    if (request->domainname != NULL)
        nsd_add_step(builder, NSD_SETDOMAINNAME, NSD_NUMBERS(0),
                     NSD_TEXTS(request->domainname));
    set_up_mounts(builder, request);
    nsd_follow_the_path(builder, request);
    if (!nsd_joins(request, CLONE_NEWNS))
        add_pins(builder, request, false);
    if (is_init_in_reach(request))
        nsd_add_credentials(builder, request, 1 << CAP_KILL);
    if (request->init)
        nsd_add(builder, NSD_INIT);
    if (is_init_in_reach(request))
        nsd_add_rest(builder, request, 1 << CAP_KILL);
    else if (is_set_up_outside(request))
        set_up_process_inside(builder, request);
    else
        nsd_add_process(builder, request);
    nsd_add_exec(builder);
}

void nsd_recipe_chroot_run(struct nsd_builder *builder,
                           const struct nsd_request *request)
{
    if (request->unshare != 0 && can_clone(request)) {
        clone_new(builder, request);
    } else {
        nsd_add_map_helper(builder, &request->users);
        unshare_new(builder, request);
        if (writes_maps(request))
            nsd_add(builder, NSD_HIDE);
    }
    nsd_add_step(builder, NSD_CHROOT, NSD_NUMBERS(-1), NSD_TEXTS(request->root));
    nsd_add_process(builder, request);
    nsd_add_exec(builder);
}

/* The power to mount there, and to take away the file of the pin, whoever owns it. */
void nsd_recipe_release(struct nsd_builder *builder, const struct nsd_request *request)
{
    const int64_t power = 1 << CAP_SYS_ADMIN | 1 << CAP_DAC_OVERRIDE;

    open_targets(builder, request);
    nsd_add_step(builder, NSD_OPEN_ROOT, NSD_NUMBERS(NSD_PROC_SLOT, -1),
                 NSD_TEXTS("/proc"));
    nsd_add(builder, NSD_HIDE);
    join_targets(builder, request);
    nsd_add_step(builder, NSD_CAPSET, NSD_NUMBERS(power), NSD_TEXTS(NULL))->flags =
        NSD_TOLERATES_EPERM; /* who has less has that */
    nsd_add_step(builder, NSD_UNPIN, NSD_NUMBERS(NSD_PROC_SLOT),
                 NSD_TEXTS(request->pins[0].path));
    nsd_add(builder, NSD_END);
}

void nsd_recipe_root(struct nsd_builder *builder, const struct nsd_request *request)
{
    open_targets(builder, request);
    nsd_add(builder, NSD_HIDE);
    join_targets(builder, request);
    nsd_add_step(builder, NSD_OPEN_ROOT, NSD_NUMBERS(ROOT_SLOT, -1), NSD_TEXTS("/"));
    nsd_add_step(builder, NSD_HAND_OVER, NSD_NUMBERS(ROOT_SLOT, -1), NSD_TEXTS(NULL));
    nsd_add(builder, NSD_END);
}
