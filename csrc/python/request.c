/* request.c - the request of a call, by the names of its fields; and the plan that the core
 * makes, or that is made by hand. What a field means is in core/request.h, and what it
 * is if nobody asks in nsd_request_init. */
#include "fields.h"

#include "../core/files.h"
#include "../core/process.h"
#include "../core/where.h"

#include <linux/sched.h>
#include <sys/prctl.h>

#define REQUEST struct nsd_request
#define JOIN struct nsd_join
#define MOUNT struct nsd_file
#define LIMIT struct nsd_limit
#define RULE struct nsd_rule
#define PIN struct nsd_pin_wish

enum needed_by {
    BY_SPAWN = 1,
    BY_CHROOT_RUN = 2,
    BY_RELEASE = 4,
    BY_ROOT = 8,
};

static const struct nsd_field joins[] = {
    NSD_INT("pid", JOIN, process.pid),     NSD_LONG("birth", JOIN, process.birth),
    NSD_INT("pidfd", JOIN, process.pidfd), NSD_INT("file", JOIN, file),
    NSD_INT("flags", JOIN, flags),
};
static const struct nsd_field root_of[] = {
    NSD_INT("pid", REQUEST, root_of.pid),
    NSD_LONG("birth", REQUEST, root_of.birth),
    NSD_INT("pidfd", REQUEST, root_of.pidfd),
};
static const struct nsd_field groups[] = {
    {.name = "", .kind = NSD_KIND_NUMBER, .size = sizeof(uint32_t), .most = UINT32_MAX},
};
static const struct nsd_field files[] = {
    NSD_SIZED("kind", MOUNT, kind, enum nsd_file_kind, 0, NSD_FILE_KIND_COUNT - 1),
    NSD_LONG("flags", MOUNT, flags),
    NSD_TEXT_OR_NONE("source", MOUNT, source),
    NSD_TEXT("target", MOUNT, target),
    NSD_TEXT_OR_NONE("options", MOUNT, options),
};
static const struct nsd_field capabilities[] = {
    NSD_LONG("kept", REQUEST, power.kept),
    NSD_LONG("ambient", REQUEST, power.ambient),
};
static const struct nsd_field limits[] = {
    NSD_INT("resource", LIMIT, resource),
    NSD_LONG("soft", LIMIT, soft),
    NSD_LONG("hard", LIMIT, hard),
};
static const struct nsd_field rules[] = {
    NSD_FLAG("writable", RULE, writable),
    NSD_TEXT("path", RULE, path),
};
static const struct nsd_field owner[] = {
    NSD_LONG("uid", REQUEST, users.owner_uid),
    NSD_LONG("gid", REQUEST, users.owner_gid),
};
static const struct nsd_field first[] = {
    NSD_LONG("uid", REQUEST, users.uid),
    NSD_LONG("gid", REQUEST, users.gid),
};
static const struct nsd_field pins[] = {
    NSD_INT("flag", PIN, flag),
    NSD_TEXT("path", PIN, path),
};
static const struct nsd_field cgroups[] = {
    {.name = "", .kind = NSD_KIND_TEXT},
};

static const struct nsd_field fields[] = {
    NSD_INT("unshare", REQUEST, unshare, .needed = BY_SPAWN),
    NSD_ROWS("joins", REQUEST, joins, JOIN, joins, NSD_MAX_JOINS, join_count,
             .needed = BY_RELEASE | BY_ROOT),
    NSD_ROW("root_of", root_of),
    NSD_TEXT_OR_NONE("root", REQUEST, root, .needed = BY_CHROOT_RUN),
    NSD_FLAG("by_chroot", REQUEST, by_chroot),
    NSD_FLAG("fork", REQUEST, fork),
    NSD_FLAG("mount_proc", REQUEST, mount_proc),
    NSD_FLAG("init", REQUEST, init),
    NSD_FLAG("watch", REQUEST, watch),
    NSD_FLAG("die_with_parent", REQUEST, die_with_parent),
    NSD_LONG("propagation", REQUEST, propagation),
    NSD_TEXT_OR_NONE("hostname", REQUEST, hostname),
    NSD_TEXT_OR_NONE("domainname", REQUEST, domainname),
    NSD_TEXT_OR_NONE("cwd", REQUEST, cwd),
    NSD_ALLOCATED("files", REQUEST, files, const MOUNT, files, 4096, file_count),
    NSD_FLAG("new_session", REQUEST, new_session),
    NSD_INT("process_group", REQUEST, process_group),
    NSD_INT("terminal", REQUEST, terminal),
    NSD_LONG("uid", REQUEST, uid),
    NSD_LONG("gid", REQUEST, gid),
    NSD_ALLOCATED("groups", REQUEST, groups, const uint32_t, groups, 65536,
                  group_count),
    NSD_FLAG("groups_implied", REQUEST, groups_implied),
    NSD_INT("umask", REQUEST, umask),
    NSD_FLAG("no_new_privs", REQUEST, power.no_new_privs),
    NSD_ROW("capabilities", capabilities,
            .came_at = NSD_AT(REQUEST, power.sets_capabilities, bool)),
    NSD_ROWS("limits", REQUEST, power.limits, LIMIT, limits, NSD_MAX_LIMITS,
             power.limit_count),
    NSD_PROGRAM("filter", REQUEST, power.filter, power.filter_count),
    NSD_LONG("securebits", REQUEST, power.securebits,
             .came_at = NSD_AT(REQUEST, power.sets_securebits, bool)),
    NSD_ROWS("rules", REQUEST, power.rules, RULE, rules, NSD_MAX_RULES,
             power.rule_count, .came_at = NSD_AT(REQUEST, power.has_landlock, bool)),
    NSD_TEXT("uid_map", REQUEST, users.uid_map),
    NSD_TEXT_OR_NONE("setgroups", REQUEST, users.setgroups),
    NSD_TEXT("gid_map", REQUEST, users.gid_map),
    NSD_FLAG("outside", REQUEST, users.outside),
    NSD_TEXT_OR_NONE("newuidmap", REQUEST, users.newuidmap),
    NSD_TEXT_OR_NONE("newgidmap", REQUEST, users.newgidmap),
    NSD_ROW("owner", owner),
    NSD_ROW("first", first),
    NSD_ROWS("pins", REQUEST, pins, PIN, pins, NSD_NAMESPACE_COUNT, pin_count,
             .needed = BY_RELEASE),
    NSD_ROWS("cgroups", REQUEST, cgroups, const char *, cgroups, NSD_MAX_CGROUPS,
             cgroup_count),
    NSD_TEXT_OR_NONE("time_offsets", REQUEST, time_offsets),
};

_Static_assert(NSD_LENGTH(fields) <= NSD_MAX_FIELDS,
               "a bit for each, a name in each state");

const struct nsd_field_table nsd_request_table = {"request", NSD_REQUEST_TABLE, fields,
                                                  NSD_LENGTH(fields)};

static void free_request(struct nsd_request *request)
{
    PyMem_Free((void *)(uintptr_t)request->files);
    PyMem_Free((void *)(uintptr_t)request->groups);
}

static const struct recipe {
    const char *kind;
    void (*order)(struct nsd_builder *builder, const struct nsd_request *request);
    uint8_t needed; /* of enum needed_by */
} recipes[] = {
    {"spawn", nsd_recipe_spawn, BY_SPAWN},
    {"chroot_run", nsd_recipe_chroot_run, BY_CHROOT_RUN},
    {"release", nsd_recipe_release, BY_RELEASE},
    {"root", nsd_recipe_root, BY_ROOT},
};

static const struct recipe *recipe_of(PyObject *kind)
{
    for (int i = 0; PyUnicode_Check(kind) && i < NSD_LENGTH(recipes); i++)
        if (PyUnicode_CompareWithASCIIString(kind, recipes[i].kind) == 0)
            return &recipes[i];
    PyErr_Format(PyExc_ValueError, "there is no recipe %R", kind);
    return NULL;
}

PyObject *nsd_recipe(PyObject *module, PyObject *const *args, Py_ssize_t count,
                     PyObject *names)
{
    struct module_state *state = nsd_state(module);
    const struct recipe *recipe;
    struct nsd_request request;
    struct nsd_builder builder;
    PyObject *plan = NULL;
    int privileged;

    if (count != 5) {
        PyErr_SetString(PyExc_TypeError,
                        "recipe takes kind, argv, envp, paths and keep, and the fields "
                        "of a request by name");
        return NULL;
    }
    recipe = recipe_of(args[0]);
    if (recipe == NULL)
        return NULL;
    nsd_request_init(&request);
    nsd_builder_init(&builder);
    if (nsd_take_fields(&nsd_request_table, state, args + count, names, recipe->needed,
                        &request) == 0 &&
        nsd_add_command(&builder, args[1], args[2], args[3]) == 0 &&
        (privileged = nsd_may(21 /* CAP_SYS_ADMIN */)) >= 0) {
        request.privileged = privileged != 0;
        /* Who is not dumpable may not write the id maps of a child with its memory. */
        request.no_user_clone =
            (request.unshare & CLONE_NEWUSER) != 0 && prctl(PR_GET_DUMPABLE) != 1;
        recipe->order(&builder, &request);
        plan = nsd_plan_from_builder(state->plan_type, &builder,
                                     args[4] == Py_None ? NULL : args[4]);
    } else {
        nsd_builder_free(&builder);
    }
    free_request(&request);
    return plan;
}

/* What one field of a request asks for. */
static PyObject *append_field(PyObject *object, const char *name, PyObject *value,
                              void (*add)(struct nsd_builder *builder,
                                          const struct nsd_request *request))
{
    struct nsd_request request;
    struct nsd_builder builder;
    PyObject *plan = NULL;

    nsd_request_init(&request);
    if (nsd_take_field(&nsd_request_table, name, value, &request) == 0) {
        add(nsd_copied(object, &builder), &request);
        plan = nsd_plan_from_builder(Py_TYPE(object), &builder,
                                     ((struct plan_object *)object)->keep);
    }
    free_request(&request);
    return plan;
}

PyObject *nsd_plan_setgroups(PyObject *object, PyObject *ids)
{
    return append_field(object, "groups", ids, nsd_add_groups);
}

static void add_filter(struct nsd_builder *builder, const struct nsd_request *request)
{
    nsd_add_seccomp(builder, request->power.filter, request->power.filter_count);
}

PyObject *nsd_plan_seccomp(PyObject *object, PyObject *filter)
{
    return append_field(object, "filter", filter, add_filter);
}

PyObject *nsd_plan_users(PyObject *object, PyObject *const *args, Py_ssize_t count,
                         PyObject *names)
{
    const struct plan_object *self = (struct plan_object *)object;
    struct nsd_request request;
    struct nsd_builder builder;
    PyObject *plan = NULL;

    nsd_request_init(&request);
    if (count != 0) {
        PyErr_SetString(PyExc_TypeError, "users takes the fields of a request by name");
    } else if (nsd_take_fields(&nsd_request_table,
                               PyType_GetModuleState(Py_TYPE(object)), args, names, 0,
                               &request) == 0) {
        nsd_builder_copy(&builder, &self->builder);
        nsd_add_map_helper(&builder, &request.users);
        nsd_add_owner(&builder, &request.users);
        nsd_add_unshare(&builder, CLONE_NEWUSER);
        nsd_add_maps(&builder, &request.users);
        plan = nsd_plan_from_builder(Py_TYPE(object), &builder, self->keep);
    }
    free_request(&request);
    return plan;
}

PyObject *nsd_plan_files(PyObject *object, PyObject *args)
{
    PyObject *mounts, *root, *plan = NULL;
    struct nsd_place place = {.root_slot = -1};
    struct nsd_request request;
    struct nsd_builder builder;
    int has_user, has_ipc;

    if (!PyArg_ParseTuple(args, "OOppi", &mounts, &root, &has_user, &has_ipc,
                          &place.first_source))
        return NULL;
    place.has_user = has_user != 0;
    place.has_ipc = has_ipc != 0;
    nsd_request_init(&request);
    if (nsd_take_field(&nsd_request_table, "root", root, &request) == 0 &&
        nsd_take_field(&nsd_request_table, "files", mounts, &request) == 0) {
        place.root = request.root;
        nsd_add_sources(nsd_copied(object, &builder), request.files, request.file_count,
                        &place);
        nsd_add_files(&builder, request.files, request.file_count, &place);
        if (place.root == NULL && request.file_count > 0)
            nsd_add_where_we_are(&builder);
        plan = nsd_plan_from_builder(Py_TYPE(object), &builder,
                                     ((struct plan_object *)object)->keep);
    }
    free_request(&request);
    return plan;
}
