/* recipe.c - the request of a call, from Python's objects; and the plan that the core makes. */
#include "binding.h"

#include "../core/files.h"

#include <linux/sched.h>
#include <string.h>
#include <sys/prctl.h>

static int take_joins(PyObject *joins, struct nsd_request *request)
{
    Py_ssize_t count = PyTuple_Size(joins);

    if (count > NSD_MAX_JOINS) {
        PyErr_SetString(PyExc_ValueError, "at most eight targets");
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        struct nsd_join *join = &request->joins[i];
        long long birth;

        if (!PyArg_ParseTuple(PyTuple_GetItem(joins, i), "iLiii", &join->process.pid,
                              &birth, &join->process.pidfd, &join->file, &join->flags))
            return -1;
        join->process.birth = birth;
    }
    request->join_count = (int)count;
    return count < 0 ? -1 : 0;
}

uint32_t *nsd_take_groups(PyObject *groups, int *ret_count)
{
    Py_ssize_t count = PyTuple_Size(groups);
    uint32_t *ids =
        count < 0 ? NULL : PyMem_Malloc((size_t)(count + 1) * sizeof(uint32_t));

    if (ids == NULL) {
        if (!PyErr_Occurred())
            PyErr_NoMemory();
        return NULL;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        unsigned long id = PyLong_AsUnsignedLong(PyTuple_GetItem(groups, i));

        if (id <= UINT32_MAX) {
            ids[i] = (uint32_t)id;
            continue;
        }
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "that number is no group");
        PyMem_Free(ids);
        return NULL;
    }
    *ret_count = (int)count;
    return ids;
}

/* watch: 0 no, 1 a watchdog, 2 the kernel, with the calling thread.
 *
 * recipe(kind, argv, envp, paths, unshare, joins, root_of, keep, fork, mount_proc, init,
 *        watch, root, by_chroot, propagation, hostname, cwd, new_session, process_group,
 *        uid, gid, groups, groups_implied, umask, files, power, users, terminal,
 *        settings) -> Plan
 *
 * Everything has been checked by _api.py; here it only changes its clothes. */
PyObject *nsd_recipe(PyObject *module, PyObject *args)
{
    const char *kind;
    PyObject *argv, *envp, *paths, *joins, *root_of, *keep, *root, *hostname, *cwd,
        *groups, *mounts, *power, *users, *settings;
    struct nsd_request request;
    struct nsd_builder builder;
    struct nsd_file *files = NULL;
    uint32_t *ids = NULL;
    int fork, mount_proc, init, watch, by_chroot, new_session, groups_implied;
    long long propagation, uid, gid, root_birth = 0;
    PyObject *plan = NULL;

    nsd_request_init(&request);
    if (!PyArg_ParseTuple(args, "sOOOiOOOpppiOpLOOpiLLOpiOOOiO", &kind, &argv, &envp,
                          &paths, &request.unshare, &joins, &root_of, &keep, &fork,
                          &mount_proc, &init, &watch, &root, &by_chroot, &propagation,
                          &hostname, &cwd, &new_session, &request.process_group, &uid,
                          &gid, &groups, &groups_implied, &request.umask, &mounts,
                          &power, &users, &request.terminal, &settings))
        return NULL;
    request.fork = fork != 0;
    request.mount_proc = mount_proc != 0;
    request.init = init != 0;
    request.watch = watch == 1;
    request.die_with_parent = watch == 2;
    request.root_method = by_chroot ? NSD_BY_CHROOT : NSD_BY_PIVOT_ROOT;
    request.propagation = propagation;
    request.new_session = new_session != 0;
    request.uid = uid;
    request.gid = gid;
    request.groups_implied = groups_implied != 0;
    request.privileged = nsd_has_capability(21 /* CAP_SYS_ADMIN */);
    /* Who is not dumpable may not write the id maps of a child with its memory. */
    request.no_user_clone =
        (request.unshare & CLONE_NEWUSER) != 0 && prctl(PR_GET_DUMPABLE) != 1;
    if (take_joins(joins, &request) < 0 || nsd_take_power(power, &request.power) < 0 ||
        nsd_take_users(users, &request.users) < 0 ||
        nsd_take_settings(settings, &request) < 0 ||
        nsd_optional_bytes(root, &request.root) < 0 ||
        nsd_optional_bytes(hostname, &request.hostname) < 0 ||
        nsd_optional_bytes(cwd, &request.cwd) < 0)
        return NULL;
    if (root_of != Py_None) {
        if (!PyArg_ParseTuple(root_of, "iLi", &request.root_of.pid, &root_birth,
                              &request.root_of.pidfd))
            return NULL;
        request.root_of.birth = root_birth;
    }
    if (groups != Py_None) {
        ids = nsd_take_groups(groups, &request.group_count);
        if (ids == NULL)
            return NULL;
        request.groups = ids;
    }
    if (nsd_take_files(mounts, &files, &request.file_count) < 0) {
        PyMem_Free(ids);
        return NULL;
    }
    request.files = files;
    nsd_builder_init(&builder);
    if (nsd_add_command(&builder, argv, envp, paths) < 0) {
        nsd_builder_free(&builder);
    } else {
        if (strcmp(kind, "chroot_run") == 0)
            nsd_recipe_chroot_run(&builder, &request);
        else if (strcmp(kind, "release") == 0)
            nsd_recipe_release(&builder, &request);
        else if (strcmp(kind, "root") == 0)
            nsd_recipe_root(&builder, &request);
        else
            nsd_recipe_spawn(&builder, &request);
        plan = nsd_plan_from_builder(nsd_state(module)->plan_type, &builder,
                                     keep == Py_None ? NULL : keep);
    }
    PyMem_Free(files);
    PyMem_Free(ids);
    return plan;
}
