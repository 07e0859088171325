/* plan_type.c - _core.Plan: a struct nsd_builder as an immutable Python object. */
#include "fields.h"

#include "../core/files.h"
#include "../core/process.h"
#include "../core/where.h"

#include <errno.h>
#include <linux/sched.h>
#include <string.h>

static const char *const operation_names[NSD_OPERATION_COUNT] = {
#define X(name, word) [NSD_##name] = (word),
    NSD_OPERATIONS(X)
#undef X
};

PyObject *nsd_raise(int error)
{
    errno = -error;
    return error == -ENOMEM ? PyErr_NoMemory() : PyErr_SetFromErrno(PyExc_OSError);
}

int nsd_may(int capability)
{
    int ret = nsd_has_capability(capability);
    PyObject *error;

    if (ret >= 0)
        return ret;
    error = Py_BuildValue("is", -ret,
                          "the kernel does not say what this process may do: "
                          "capget(2) is refused, as a seccomp filter does");
    if (error != NULL)
        PyErr_SetObject(PyExc_OSError, error);
    Py_XDECREF(error);
    return -1;
}

/* Whoever appends by hand may have got a number wrong; nothing is read before this. */
static int check_steps(const struct nsd_builder *builder)
{
    uint32_t step = 0;

    if (builder->error < 0) {
        nsd_raise(builder->error);
        return -1;
    }
    if (nsd_builder_check(builder, &step) == 0)
        return 0;
    PyErr_Format(
        PyExc_ValueError,
        "step %u (%s) is out of place, or has a number or a text that leads nowhere",
        (unsigned int)step + 1, operation_names[builder->steps[step].operation]);
    return -1;
}

PyObject *nsd_plan_from_builder(PyTypeObject *type, struct nsd_builder *builder,
                                PyObject *keep)
{
    struct plan_object *self = NULL;

    if (check_steps(builder) == 0)
        self = PyObject_New(struct plan_object, type);
    if (self == NULL) {
        nsd_builder_free(builder);
        return NULL;
    }
    self->builder = *builder;
    Py_XINCREF(keep);
    self->keep = keep;
    return (PyObject *)self;
}

static void plan_dealloc(PyObject *object)
{
    struct plan_object *self = (struct plan_object *)object;
    PyTypeObject *type = Py_TYPE(object);

    nsd_builder_free(&self->builder);
    Py_CLEAR(self->keep);
    PyObject_Free(object);
    Py_DECREF(type);
}

static PyObject *plan_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    struct nsd_builder builder;
    static char *no_keywords[] = {NULL};

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, ":Plan", no_keywords))
        return NULL;
    nsd_builder_init(&builder);
    return nsd_plan_from_builder(type, &builder, NULL);
}

static int operation_by_name(const char *name)
{
    for (int i = 0; i < NSD_OPERATION_COUNT; i++)
        if (strcmp(operation_names[i], name) == 0)
            return i;
    PyErr_Format(PyExc_ValueError, "there is no operation %s", name);
    return -1;
}

/* A filter is no text; in hexadecimal it can be compared and shown. */
static PyObject *filter_as_text(const char *filter, size_t count)
{
    PyObject *bytes = PyBytes_FromStringAndSize(filter, (Py_ssize_t)(count * 8));
    PyObject *text = bytes == NULL ? NULL : PyObject_CallMethod(bytes, "hex", NULL);

    Py_XDECREF(bytes);
    return text;
}

static PyObject *step_as_tuple(const struct nsd_builder *builder,
                               const struct nsd_step *step)
{
    PyObject *texts = PyTuple_New(4);
    PyObject *result;

    for (int i = 0; texts != NULL && i < 4; i++) {
        const char *text = nsd_builder_text(builder, step->text[i]);
        PyObject *item;

        /* The ids of setgroups are not a text. */
        if (text == NULL || step->operation == NSD_SETGROUPS)
            item = Py_NewRef(Py_None);
        else if (step->operation == NSD_SECCOMP)
            item = filter_as_text(text, (size_t)step->number[0]);
        else
            item = PyUnicode_DecodeFSDefault(text);
        if (item == NULL || PyTuple_SetItem(texts, i, item) < 0)
            Py_CLEAR(texts);
    }
    if (texts == NULL)
        return NULL;
    result = Py_BuildValue("(sI(LLL)N)", operation_names[step->operation], step->flags,
                           (long long)step->number[0], (long long)step->number[1],
                           (long long)step->number[2], texts);
    return result;
}

/* steps() -> [(operation, flags, (n, n, n), (text, text, text, text))] */
static PyObject *plan_steps(PyObject *object, PyObject *unused)
{
    struct plan_object *self = (struct plan_object *)object;
    PyObject *list = PyList_New(0);

    (void)unused;
    for (uint32_t i = 0; list != NULL && i < self->builder.step_count; i++) {
        PyObject *item = step_as_tuple(&self->builder, &self->builder.steps[i]);

        if (item == NULL || PyList_Append(list, item) < 0)
            Py_CLEAR(list);
        Py_XDECREF(item);
    }
    return list;
}

static PyObject *vector_as_list(const struct nsd_builder *builder,
                                const struct nsd_vector *vector)
{
    PyObject *list = PyList_New(0);

    for (uint32_t i = 0; list != NULL && i < vector->count; i++) {
        PyObject *item =
            PyUnicode_DecodeFSDefault(nsd_builder_text(builder, vector->offsets[i]));

        if (item == NULL || PyList_Append(list, item) < 0)
            Py_CLEAR(list);
        Py_XDECREF(item);
    }
    return list;
}

/* command() -> (argv, envp, paths) */
static PyObject *plan_command(PyObject *object, PyObject *unused)
{
    const struct nsd_builder *builder = &((struct plan_object *)object)->builder;

    (void)unused;
    return Py_BuildValue("(NNN)", vector_as_list(builder, &builder->argv),
                         vector_as_list(builder, &builder->envp),
                         vector_as_list(builder, &builder->paths));
}

/* A copy of self to append to. */
static struct nsd_builder *copied(PyObject *object, struct nsd_builder *ret_copy)
{
    nsd_builder_copy(ret_copy, &((struct plan_object *)object)->builder);
    return ret_copy;
}

/* append(operation, flags, numbers, texts) -> Plan */
static PyObject *plan_append(PyObject *object, PyObject *args)
{
    const char *name, *text[4] = {NULL};
    long long number[3] = {0};
    unsigned int flags;
    struct nsd_builder builder;
    struct nsd_step *step;
    int operation;

    if (!PyArg_ParseTuple(args, "sI(LLL)(zzzz)", &name, &flags, &number[0], &number[1],
                          &number[2], &text[0], &text[1], &text[2], &text[3]))
        return NULL;
    operation = operation_by_name(name);
    if (operation < 0)
        return NULL;
    if (operation == NSD_GUARD) {
        PyErr_SetString(PyExc_ValueError, "a guard is not made by a plan");
        return NULL;
    }
    step = nsd_add_step(copied(object, &builder), (enum nsd_operation)operation,
                        (const int64_t[3]){number[0], number[1], number[2]}, text);
    step->flags = flags;
    return nsd_plan_from_builder(Py_TYPE(object), &builder,
                                 ((struct plan_object *)object)->keep);
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
        add(copied(object, &builder), &request);
        plan = nsd_plan_from_builder(Py_TYPE(object), &builder,
                                     ((struct plan_object *)object)->keep);
    }
    nsd_free_request(&request);
    return plan;
}

/* setgroups(ids) -> Plan */
static PyObject *plan_setgroups(PyObject *object, PyObject *ids)
{
    return append_field(object, "groups", ids, nsd_add_groups);
}

static void add_filter(struct nsd_builder *builder, const struct nsd_request *request)
{
    nsd_add_seccomp(builder, request->power.filter, request->power.filter_count);
}

/* seccomp(filter) -> Plan */
static PyObject *plan_seccomp(PyObject *object, PyObject *filter)
{
    return append_field(object, "filter", filter, add_filter);
}

/* users(**wishes) -> Plan: a new user namespace, and who is who in it */
static PyObject *plan_users(PyObject *object, PyObject *const *args, Py_ssize_t count,
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
    nsd_free_request(&request);
    return plan;
}

static int add_vector(struct nsd_builder *builder, struct nsd_vector *vector,
                      PyObject *list)
{
    Py_ssize_t count = PySequence_Size(list);

    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *item = PySequence_GetItem(list, i);
        char *bytes;
        Py_ssize_t size;
        int ret = item == NULL ? -1 : PyBytes_AsStringAndSize(item, &bytes, &size);

        if (ret == 0)
            nsd_vector_add(builder, vector, bytes, (size_t)size);
        Py_XDECREF(item);
        if (ret < 0)
            return -1;
    }
    return count < 0 ? -1 : 0;
}

int nsd_add_command(struct nsd_builder *builder, PyObject *argv, PyObject *envp,
                    PyObject *paths)
{
    if (add_vector(builder, &builder->argv, argv) < 0 ||
        add_vector(builder, &builder->envp, envp) < 0 ||
        add_vector(builder, &builder->paths, paths) < 0)
        return -1;
    return 0;
}

/* exec(argv, envp, paths) -> Plan; lists of bytes */
static PyObject *plan_exec(PyObject *object, PyObject *args)
{
    PyObject *argv, *envp, *paths;
    struct nsd_builder builder;

    if (!PyArg_ParseTuple(args, "OOO", &argv, &envp, &paths))
        return NULL;
    if (nsd_add_command(copied(object, &builder), argv, envp, paths) < 0) {
        nsd_builder_free(&builder);
        return NULL;
    }
    nsd_add_exec(&builder);
    return nsd_plan_from_builder(Py_TYPE(object), &builder,
                                 ((struct plan_object *)object)->keep);
}

/* without(operation) -> Plan: the same without its steps of that kind */
static PyObject *plan_without(PyObject *object, PyObject *argument)
{
    PyObject *name = PyUnicode_AsUTF8String(argument);
    struct nsd_builder builder;
    uint32_t kept = 0;
    int operation;

    if (name == NULL)
        return NULL;
    operation = operation_by_name(PyBytes_AsString(name));
    Py_DECREF(name);
    if (operation < 0)
        return NULL;
    copied(object, &builder);
    for (uint32_t i = 0; builder.error == 0 && i < builder.step_count; i++)
        if (builder.steps[i].operation != (uint32_t)operation)
            builder.steps[kept++] = builder.steps[i];
    builder.step_count = kept;
    return nsd_plan_from_builder(Py_TYPE(object), &builder,
                                 ((struct plan_object *)object)->keep);
}

/* steps_only() -> Plan: the same for reading, without the descriptors and their owners */
static PyObject *plan_steps_only(PyObject *object, PyObject *unused)
{
    struct nsd_builder builder;

    (void)unused;
    if (((struct plan_object *)object)->keep == NULL)
        return Py_NewRef(object);
    copied(object, &builder);
    for (int i = 0; i < NSD_SLOTS; i++)
        builder.slot[i] = -1;
    return nsd_plan_from_builder(Py_TYPE(object), &builder, NULL);
}

/* launcher_at() -> how many steps come before the launcher; -1: all, it is not needed */
static PyObject *plan_launcher_at(PyObject *object, PyObject *unused)
{
    const struct nsd_builder *plan = &((struct plan_object *)object)->builder;

    (void)unused;
    return PyLong_FromLong(nsd_is_direct(plan) ? -1 : (long)nsd_early_steps(plan));
}

/* map_root() -> Plan */
static PyObject *plan_map_root(PyObject *object, PyObject *unused)
{
    struct nsd_builder builder;

    (void)unused;
    nsd_add_map_root(copied(object, &builder));
    return nsd_plan_from_builder(Py_TYPE(object), &builder,
                                 ((struct plan_object *)object)->keep);
}

/* with_slot(slot, fd, owner) -> Plan: the launcher gets fd; owner keeps it open */
static PyObject *plan_with_slot(PyObject *object, PyObject *args)
{
    int slot, fd;
    PyObject *owner, *keep, *plan;
    struct nsd_builder builder;

    if (!PyArg_ParseTuple(args, "iiO", &slot, &fd, &owner))
        return NULL;
    if (slot < 0 || slot >= NSD_TERMINAL_SLOT) {
        PyErr_Format(PyExc_ValueError, "a plan has room for %d targets",
                     NSD_TERMINAL_SLOT);
        return NULL;
    }
    copied(object, &builder)->slot[slot] = fd;
    keep = ((struct plan_object *)object)->keep;
    keep = PyTuple_Pack(2, owner, keep == NULL ? Py_None : keep);
    if (keep == NULL) {
        nsd_builder_free(&builder);
        return NULL;
    }
    plan = nsd_plan_from_builder(Py_TYPE(object), &builder, keep);
    Py_DECREF(keep);
    return plan;
}

/* slot(slot) -> fd: what the plan holds there, or -1 */
static PyObject *plan_slot(PyObject *object, PyObject *slot)
{
    long n = PyLong_AsLong(slot);

    if (n == -1 && PyErr_Occurred())
        return NULL;
    return PyLong_FromLong(
        n < 0 || n >= NSD_SLOTS ? -1 : ((struct plan_object *)object)->builder.slot[n]);
}

/* files(files, root, has_user, has_ipc, first_slot) -> Plan */
static PyObject *plan_files(PyObject *object, PyObject *args)
{
    PyObject *files, *root, *plan = NULL;
    struct nsd_place place = {.root_slot = -1};
    struct nsd_request request;
    struct nsd_builder builder;
    int has_user, has_ipc;

    if (!PyArg_ParseTuple(args, "OOppi", &files, &root, &has_user, &has_ipc,
                          &place.first_source))
        return NULL;
    place.has_user = has_user != 0;
    place.has_ipc = has_ipc != 0;
    nsd_request_init(&request);
    if (nsd_take_field(&nsd_request_table, "root", root, &request) == 0 &&
        nsd_take_field(&nsd_request_table, "files", files, &request) == 0) {
        place.root = request.root;
        nsd_add_sources(copied(object, &builder), request.files, request.file_count,
                        &place);
        nsd_add_files(&builder, request.files, request.file_count, &place);
        if (place.root == NULL && request.file_count > 0)
            nsd_add_where_we_are(&builder);
        plan = nsd_plan_from_builder(Py_TYPE(object), &builder,
                                     ((struct plan_object *)object)->keep);
    }
    nsd_free_request(&request);
    return plan;
}

static PyMethodDef plan_methods[] = {
    {"steps", plan_steps, METH_NOARGS, NULL},
    {"command", plan_command, METH_NOARGS, NULL},
    {"append", plan_append, METH_VARARGS, NULL},
    {"setgroups", plan_setgroups, METH_O, NULL},
    {"seccomp", plan_seccomp, METH_O, NULL},
    {"exec", plan_exec, METH_VARARGS, NULL},
    {"files", plan_files, METH_VARARGS, NULL},
    {"map_root", plan_map_root, METH_NOARGS, NULL},
    {"users", (PyCFunction)(void (*)(void))plan_users, METH_FASTCALL | METH_KEYWORDS,
     NULL},
    {"launcher_at", plan_launcher_at, METH_NOARGS, NULL},
    {"steps_only", plan_steps_only, METH_NOARGS, NULL},
    {"without", plan_without, METH_O, NULL},
    {"with_slot", plan_with_slot, METH_VARARGS, NULL},
    {"slot", plan_slot, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot plan_slots[] = {
    {Py_tp_doc, (void *)(uintptr_t) "Steps for the launcher, and the command."},
    {Py_tp_new, (void *)plan_new},
    {Py_tp_dealloc, (void *)plan_dealloc},
    {Py_tp_methods, plan_methods},
    {0, NULL},
};

PyType_Spec nsd_plan_spec = {
    .name = "nsdemo._core.Plan",
    .basicsize = sizeof(struct plan_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = plan_slots,
};
