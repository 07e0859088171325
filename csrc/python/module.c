/* module.c - nsdemo._core: arguments in, objects out.
 *
 * Multi-phase initialisation, one state per interpreter. The slots that newer CPythons
 * know are an error on older ones, and one abi3 build serves all: they are chosen at run
 * time.
 */
#include "fields.h"

#include "../core/launch/borrowed.h"
#include "../core/launch/pins.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

struct module_state *nsd_state(PyObject *module)
{
    return PyModule_GetState(module);
}

static PyObject *identity(PyObject *module, PyObject *args)
{
    struct nsd_identity found;
    int pid, kind, ret;

    (void)module;
    if (!PyArg_ParseTuple(args, "ii", &pid, &kind))
        return NULL;
    if (kind < 0 || kind >= NSD_NAMESPACE_COUNT)
        return nsd_raise(-EINVAL);
    ret = nsd_identity_of(pid, (enum nsd_namespace_kind)kind, &found);
    if (ret < 0)
        return nsd_raise(ret);
    return Py_BuildValue("(KK)", (unsigned long long)found.device,
                         (unsigned long long)found.inode);
}

static PyObject *adopt(PyObject *module, PyObject *args)
{
    struct process_object *self;
    int pid, pidfd, is_init;

    if (!PyArg_ParseTuple(args, "iip", &pid, &pidfd, &is_init))
        return NULL;
    self = nsd_new_process(nsd_state(module)->process_type);
    if (self != NULL)
        nsd_child_adopt(&self->child, pid, pidfd, is_init != 0);
    return (PyObject *)self;
}

static PyObject *unpin(PyObject *module, PyObject *args)
{
    const char *path;
    int ret;

    (void)module;
    if (!PyArg_ParseTuple(args, "y", &path))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    ret = nsd_unpin(path);
    Py_END_ALLOW_THREADS
    return ret < 0 ? nsd_raise(ret) : Py_NewRef(Py_None);
}

static PyObject *kind_of_file(PyObject *module, PyObject *argument)
{
    long fd = PyLong_AsLong(argument);
    int kind;

    (void)module;
    if (fd == -1 && PyErr_Occurred())
        return NULL;
    if (fd < 0 || fd > INT_MAX)
        return nsd_raise(-EBADF);
    kind = nsd_kind_of_file((int)fd);
    return kind < 0 ? nsd_raise(kind) : PyLong_FromLong(kind);
}

static PyObject *process_birth(PyObject *module, PyObject *argument)
{
    long pid = PyLong_AsLong(argument);
    int64_t birth;
    int ret;

    (void)module;
    if (pid == -1 && PyErr_Occurred())
        return NULL;
    if (pid <= 0 || pid > INT_MAX)
        return nsd_raise(-ESRCH);
    ret = nsd_process_birth((pid_t)pid, &birth);
    return ret < 0 ? nsd_raise(ret) : PyLong_FromLongLong(birth);
}

static PyObject *foreign_namespaces(PyObject *module, PyObject *args)
{
    int pid, wanted, flags, ret;

    (void)module;
    if (!PyArg_ParseTuple(args, "ii", &pid, &wanted))
        return NULL;
    ret = nsd_foreign_namespaces(pid, wanted, &flags);
    return ret < 0 ? nsd_raise(ret) : PyLong_FromLong(flags);
}

static PyObject *has_capability(PyObject *module, PyObject *argument)
{
    long number = PyLong_AsLong(argument);
    int ret = 0;

    (void)module;
    if (number == -1 && PyErr_Occurred())
        return NULL;
    if (number >= 0 && number < 64)
        ret = nsd_may((int)number);
    return ret < 0 ? NULL : PyBool_FromLong(ret);
}

static PyObject *environment_term(PyObject *module, PyObject *unused)
{
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): who changes it from Python holds the GIL, too */
    const char *term = getenv("TERM");

    (void)module;
    (void)unused;
    return term == NULL ? Py_NewRef(Py_None) : PyBytes_FromString(term);
}

static PyObject *answers(PyObject *module, PyObject *args)
{
    struct nsd_errand *errand;
    PyThreadState *thread;
    long long deadline;
    const char *path;
    int ret;

    (void)module;
    if (!PyArg_ParseTuple(args, "yL", &path, &deadline))
        return NULL;
    thread = PyEval_SaveThread();
    ret = nsd_look_start(&errand, path);
    if (ret == 0) {
        while ((ret = nsd_errand_wait(errand, deadline)) == -EINTR)
            if (nsd_run_signal_handlers(&thread) < 0)
                break;
        if (ret < 0)
            nsd_errand_leave(errand, NULL);
    }
    PyEval_RestoreThread(thread);
    if (PyErr_Occurred())
        return NULL;
    return ret < 0 && ret != -ETIMEDOUT ? nsd_raise(ret) : PyBool_FromLong(ret == 0);
}

static PyMethodDef methods[] = {
    {"recipe", (PyCFunction)(void (*)(void))nsd_recipe, METH_FASTCALL | METH_KEYWORDS,
     "recipe($module, kind, argv, envp, paths, keep, /, **wishes)\n--\n\n"
     "The Plan of a call: its steps in the one order that works.\n\n"
     "kind is \"spawn\", \"chroot_run\", \"release\" or \"root\"; argv, envp\n"
     "and paths are sequences of bytes, the command; keep is an object as long\n"
     "as which the descriptors in the wishes are open, or None. The wishes are\n"
     "fields of FIELDS; what is left out is as nsd_request_init\n"
     "(csrc/core/recipes.c) has it.\n\n"
     "TypeError: a name that is no field, a field that is missing or of\n"
     "another type. OverflowError: a number that does not fit. ValueError: a\n"
     "NUL byte, too many rows, no such recipe, steps that cannot be performed.\n"
     "OSError: a string that is too long for execve."},
    {"launch", (PyCFunction)(void (*)(void))nsd_launch, METH_FASTCALL | METH_KEYWORDS,
     "launch($module, plan, /, *, stdio=(-1, -1, -1), pass_fds=(), close_fds=(), "
     "streams=None, input=None, deadline, terminal=0)\n--\n\n"
     "Starts a plan: a Process, or (errno, stage) if the launcher did not\n"
     "start.\n\n"
     "stdio are three descriptors, -1 for our own; the command gets pass_fds,\n"
     "too; close_fds are closed as soon as the launcher has them. A command\n"
     "that does not run by the deadline (ns of CLOCK_MONOTONIC) never will:\n"
     "read .abandoned. With streams (three descriptors of ours, or -1) the\n"
     "call goes on, and gives the command its input and reads what it says\n"
     "until it has ended or the deadline is over: read .ended. terminal is a\n"
     "socket for our end of the command's own terminal, or 0.\n\n"
     "A step that failed is no exception: read .failed. MemoryError, OSError:\n"
     "the command ran, but there was no room for its output, or no waiting for\n"
     "it. What a signal handler raises ends the launch."},
    {"identity", identity, METH_VARARGS,
     "identity($module, pid, kind, /)\n--\n\n"
     "(device, inode) of a namespace; pid 0 is the calling thread, kind an\n"
     "index of NAMESPACES. OSError: ESRCH, ENOENT (not in this kernel), EACCES\n"
     "(somebody else's)."},
    {"adopt", adopt, METH_VARARGS,
     "adopt($module, pid, pidfd, is_init, /)\n--\n\n"
     "A Process that is not our child; the pidfd is taken over."},
    {"unpin", unpin, METH_VARARGS,
     "unpin($module, path, /)\n--\n\n"
     "Unmounts the namespace that is pinned at a path (bytes), and removes its\n"
     "file. OSError."},
    {"kind_of_file", kind_of_file, METH_O,
     "kind_of_file($module, fd, /)\n--\n\n"
     "The index in NAMESPACES of what a descriptor is. OSError: EINVAL if it\n"
     "is no namespace."},
    {"process_birth", process_birth, METH_O,
     "process_birth($module, pid, /)\n--\n\n"
     "A number that no later process with this pid has. OSError: ESRCH."},
    {"foreign_namespaces", foreign_namespaces, METH_VARARGS,
     "foreign_namespaces($module, pid, flags, /)\n--\n\n"
     "Those of the CLONE_NEW* flags whose namespaces of the process are not\n"
     "the calling thread's. OSError as identity."},
    {"has_capability", has_capability, METH_O,
     "has_capability($module, number, /)\n--\n\n"
     "Will a launcher hold the capability (CAP_*) that the calling thread has?"},
    {"environment_term", environment_term, METH_NOARGS,
     "environment_term($module, /)\n--\n\n"
     "TERM as bytes, or None: without os.environ's decoding, on the way of\n"
     "every launch."},
    {"answers", answers, METH_VARARGS,
     "answers($module, path, deadline, /)\n--\n\n"
     "Is a file (bytes) opened, or that refused, by the deadline (ns of\n"
     "CLOCK_MONOTONIC)?"},
    {"unended", nsd_unended, METH_NOARGS,
     "unended($module, /)\n--\n\n"
     "Pids of our children that were killed and have not ended, sixteen at\n"
     "most."},
    {NULL, NULL, 0, NULL},
};

/* Steals the reference to value, which may be NULL. */
static int add(PyObject *module, const char *name, PyObject *value)
{
    int ret = value == NULL ? -1 : PyModule_AddObjectRef(module, name, value);

    Py_XDECREF(value);
    return ret;
}

/* NAMESPACES: ((keyword, file, flag), ...) in the order of the keywords */
static int add_namespaces(PyObject *module)
{
    PyObject *table = PyTuple_New(NSD_NAMESPACE_COUNT);

    for (int i = 0; table != NULL && i < NSD_NAMESPACE_COUNT; i++) {
        const struct nsd_namespace *row = &nsd_namespaces[i];
        PyObject *item = Py_BuildValue("(ssi)", row->keyword, row->file, row->flag);

        if (item == NULL || PyTuple_SetItem(table, i, item) < 0)
            Py_CLEAR(table);
    }
    return add(module, "NAMESPACES", table);
}

static PyTypeObject *add_type(PyObject *module, PyType_Spec *spec)
{
    PyTypeObject *type = (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, NULL);

    if (type != NULL && PyModule_AddType(module, type) < 0)
        Py_CLEAR(type);
    return type;
}

static int execute(PyObject *module)
{
    struct module_state *state = nsd_state(module);

    state->plan_type = add_type(module, &nsd_plan_spec);
    state->process_type = add_type(module, &nsd_process_spec);
    if (state->plan_type == NULL || state->process_type == NULL)
        return -1;
    if (nsd_intern_names(&nsd_request_table, state) < 0 ||
        nsd_intern_names(&nsd_launch_table, state) < 0 || add_namespaces(module) < 0)
        return -1;
    if (add(module, "FIELDS",
            nsd_fields_as_tuple(nsd_request_table.fields, nsd_request_table.count)) < 0)
        return -1;
    return add(module, "OPERATIONS", nsd_operations());
}

static int traverse(PyObject *module, visitproc visit, void *arg)
{
    struct module_state *state = nsd_state(module);

    Py_VISIT(state->plan_type);
    Py_VISIT(state->process_type);
    return 0;
}

static int clear(PyObject *module)
{
    struct module_state *state = nsd_state(module);

    Py_CLEAR(state->plan_type);
    Py_CLEAR(state->process_type);
    for (int i = 0; i < NSD_TABLE_COUNT; i++)
        for (int j = 0; j < NSD_MAX_FIELDS; j++)
            Py_CLEAR(state->names[i][j]);
    return 0;
}

static void release(void *module)
{
    clear(module);
}

PyMODINIT_FUNC PyInit__core(void); /* no header declares it */

/* Slot 3 is Py_mod_multiple_interpreters, and 2 Py_MOD_PER_INTERPRETER_GIL_SUPPORTED. */
static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, (void *)execute},
    {0, NULL},
};
static PyModuleDef_Slot slots_with_interpreters[] = {
    {Py_mod_exec, (void *)execute},
    {3, (void *)2},
    {0, NULL},
};

PyMODINIT_FUNC PyInit__core(void)
{
    static struct PyModuleDef definition = {
        PyModuleDef_HEAD_INIT,
        .m_name = "nsdemo._core",
        .m_doc = "What nsdemo asks of its C core; use the functions of nsdemo instead.",
        .m_size = sizeof(struct module_state),
        .m_methods = methods,
        .m_traverse = traverse,
        .m_clear = clear,
        .m_free = release,
    };

    definition.m_slots = Py_Version >= 0x030c0000 ? slots_with_interpreters : slots;
    return PyModuleDef_Init(&definition);
}
