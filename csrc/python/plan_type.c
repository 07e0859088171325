/* plan_type.c - _core.Plan: a struct nsd_builder as an immutable Python object. */
#include "binding.h"

#include <errno.h>
#include <string.h>

/* The names, each with a space behind. */
static const struct {
    const char *word, *numbers, *texts;
} operations[] = {
#define ROW(name, word, function, way, numbers, texts) {word, "" numbers, "" texts},
#define NUMBER(name) #name " "
#define INNER(name) "." #name " "
#define NO_NUMBER ". "
#define SLOT(name) "." #name " "
#define OPTIONAL_SLOT(name) "." #name " "
#define TEXT(name) #name " "
#define OPTIONAL_TEXT(name) #name "? "
#define BYTES(name) ". "
#define NO_TEXT ". "
#include "../operations.def"
};

PyObject *nsd_operations(void)
{
    PyObject *table = PyTuple_New(NSD_OPERATION_COUNT);

    for (int i = 0; table != NULL && i < NSD_OPERATION_COUNT; i++) {
        PyObject *row = Py_BuildValue("(sss)", operations[i].word,
                                      operations[i].numbers, operations[i].texts);

        if (row == NULL || PyTuple_SetItem(table, i, row) < 0)
            Py_CLEAR(table);
    }
    return table;
}

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
        (unsigned int)step + 1, operations[builder->steps[step].operation].word);
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
        if (strcmp(operations[i].word, name) == 0)
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
    result = Py_BuildValue("(sI(LLL)N)", operations[step->operation].word, step->flags,
                           (long long)step->number[0], (long long)step->number[1],
                           (long long)step->number[2], texts);
    return result;
}

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

static PyObject *plan_command(PyObject *object, PyObject *unused)
{
    const struct nsd_builder *builder = &((struct plan_object *)object)->builder;

    (void)unused;
    return Py_BuildValue("(NNN)", vector_as_list(builder, &builder->argv),
                         vector_as_list(builder, &builder->envp),
                         vector_as_list(builder, &builder->paths));
}

struct nsd_builder *nsd_copied(PyObject *object, struct nsd_builder *ret_copy)
{
    nsd_builder_copy(ret_copy, &((struct plan_object *)object)->builder);
    return ret_copy;
}

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
    step = nsd_add_step(nsd_copied(object, &builder), (enum nsd_operation)operation,
                        (const int64_t[3]){number[0], number[1], number[2]}, text);
    step->flags = flags;
    return nsd_plan_from_builder(Py_TYPE(object), &builder,
                                 ((struct plan_object *)object)->keep);
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

static PyObject *plan_exec(PyObject *object, PyObject *args)
{
    PyObject *argv, *envp, *paths;
    struct nsd_builder builder;

    if (!PyArg_ParseTuple(args, "OOO", &argv, &envp, &paths))
        return NULL;
    if (nsd_add_command(nsd_copied(object, &builder), argv, envp, paths) < 0) {
        nsd_builder_free(&builder);
        return NULL;
    }
    nsd_add_exec(&builder);
    return nsd_plan_from_builder(Py_TYPE(object), &builder,
                                 ((struct plan_object *)object)->keep);
}

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
    nsd_copied(object, &builder);
    for (uint32_t i = 0; builder.error == 0 && i < builder.step_count; i++)
        if (builder.steps[i].operation != (uint32_t)operation)
            builder.steps[kept++] = builder.steps[i];
    builder.step_count = kept;
    return nsd_plan_from_builder(Py_TYPE(object), &builder,
                                 ((struct plan_object *)object)->keep);
}

static PyObject *plan_steps_only(PyObject *object, PyObject *unused)
{
    struct nsd_builder builder;

    (void)unused;
    if (((struct plan_object *)object)->keep == NULL)
        return Py_NewRef(object);
    nsd_copied(object, &builder);
    for (int i = 0; i < NSD_SLOTS; i++)
        builder.slot[i] = -1;
    return nsd_plan_from_builder(Py_TYPE(object), &builder, NULL);
}

static PyObject *plan_launcher_at(PyObject *object, PyObject *unused)
{
    const struct nsd_builder *plan = &((struct plan_object *)object)->builder;

    (void)unused;
    return PyLong_FromLong(nsd_is_direct(plan) ? -1 : (long)nsd_early_steps(plan));
}

static PyObject *plan_map_root(PyObject *object, PyObject *unused)
{
    struct nsd_builder builder;

    (void)unused;
    nsd_add_map_root(nsd_copied(object, &builder));
    return nsd_plan_from_builder(Py_TYPE(object), &builder,
                                 ((struct plan_object *)object)->keep);
}

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
    nsd_copied(object, &builder)->slot[slot] = fd;
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

static PyObject *plan_slot(PyObject *object, PyObject *slot)
{
    long n = PyLong_AsLong(slot);

    if (n == -1 && PyErr_Occurred())
        return NULL;
    return PyLong_FromLong(
        n < 0 || n >= NSD_SLOTS ? -1 : ((struct plan_object *)object)->builder.slot[n]);
}

static PyMethodDef plan_methods[] = {
    {"steps", plan_steps, METH_NOARGS,
     "steps($self, /)\n--\n\n"
     "[(operation, flags, (n, n, n), (text, text, text, text))] of each step;\n"
     "a text that is absent is None, a filter in hexadecimal."},
    {"command", plan_command, METH_NOARGS,
     "command($self, /)\n--\n\n"
     "(argv, envp, paths), lists of str."},
    {"append", plan_append, METH_VARARGS,
     "append($self, operation, flags, numbers, texts, /)\n--\n\n"
     "A Plan with one step more: three numbers, four texts or None.\n"
     "ValueError: there is no such operation, or what a number or a text of a\n"
     "step leads to does not exist."},
    {"setgroups", nsd_plan_setgroups, METH_O,
     "setgroups($self, ids, /)\n--\n\n"
     "A Plan with one step more; a tuple of int."},
    {"seccomp", nsd_plan_seccomp, METH_O,
     "seccomp($self, filter, /)\n--\n\n"
     "A Plan with one step more; a BPF program as bytes, 8 an instruction."},
    {"exec", plan_exec, METH_VARARGS,
     "exec($self, argv, envp, paths, /)\n--\n\n"
     "A Plan with the command: sequences of bytes; the first of the paths that\n"
     "can be executed is."},
    {"files", nsd_plan_files, METH_VARARGS,
     "files($self, files, root, has_user, has_ipc, first_slot, /)\n--\n\n"
     "A Plan with the mounts of the field \"files\" below root (bytes; None:\n"
     "ours). has_user, has_ipc: is there such a new namespace? Their sources\n"
     "are opened from first_slot on."},
    {"map_root", plan_map_root, METH_NOARGS,
     "map_root($self, /)\n--\n\n"
     "A Plan with the maps of a new user namespace in which the caller is\n"
     "root, and nobody else is."},
    {"users", (PyCFunction)(void (*)(void))nsd_plan_users,
     METH_FASTCALL | METH_KEYWORDS,
     "users($self, /, **wishes)\n--\n\n"
     "A Plan with a new user namespace, and who is who in it: those fields of\n"
     "FIELDS. Raises as recipe."},
    {"launcher_at", plan_launcher_at, METH_NOARGS,
     "launcher_at($self, /)\n--\n\n"
     "How many steps come before the launcher; -1: all, it is not needed."},
    {"steps_only", plan_steps_only, METH_NOARGS,
     "steps_only($self, /)\n--\n\n"
     "The same for reading, without descriptors and their owners."},
    {"without", plan_without, METH_O,
     "without($self, operation, /)\n--\n\n"
     "A Plan without its steps of that kind. ValueError: there is none."},
    {"with_slot", plan_with_slot, METH_VARARGS,
     "with_slot($self, slot, fd, owner, /)\n--\n\n"
     "A Plan whose launcher gets fd in that slot; owner keeps it open.\n"
     "ValueError: there is no such slot."},
    {"slot", plan_slot, METH_O,
     "slot($self, slot, /)\n--\n\n"
     "The descriptor in a slot, or -1."},
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
