/* process_type.c - _core.Process: a struct nsd_child as a Python object.
 *
 * The GIL is released once per call and taken again only when a signal handler must run.
 */
#include "binding.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <structmember.h>
#include <sys/wait.h>
#include <unistd.h>

void nsd_close_streams(struct nsd_streams *streams)
{
    int *fds[] = {&streams->input_fd, &streams->output[0].fd, &streams->output[1].fd};

    for (int i = 0; i < 3; i++) {
        if (*fds[i] >= 0)
            close(*fds[i]);
        *fds[i] = -1;
    }
}

static void process_dealloc(PyObject *object)
{
    struct process_object *self = (struct process_object *)object;
    PyTypeObject *type = Py_TYPE(object);

    nsd_close_streams(&self->streams);
    Py_BEGIN_ALLOW_THREADS
    nsd_child_release(&self->child);
    Py_END_ALLOW_THREADS
    free(self->streams.output[0].data);
    free(self->streams.output[1].data);
    Py_CLEAR(self->input);
    PyObject_Free(object);
    Py_DECREF(type);
}

/* Runs pending signal handlers with the GIL; -1 if one raised. */
int nsd_run_signal_handlers(PyThreadState **thread)
{
    int ret;

    PyEval_RestoreThread(*thread);
    ret = PyErr_CheckSignals();
    *thread = PyEval_SaveThread();
    return ret;
}

/* The streams and what has been read are one thread's at a time, and it has no GIL meanwhile. */
static bool take_turn(struct process_object *self)
{
    if (!__atomic_exchange_n(&self->is_talking, true, __ATOMIC_ACQUIRE))
        return true;
    if (!self->child.adopted && !nsd_child_is_ours(&self->child))
        PyErr_Format(PyExc_RuntimeError,
                     "a thread of process %d was talking to this command when it was "
                     "forked: only that process can go on",
                     (int)self->child.owner.pid);
    else
        PyErr_SetString(PyExc_RuntimeError,
                        "another thread is talking to this command: one at a time");
    return false;
}

static void end_turn(struct process_object *self)
{
    __atomic_store_n(&self->is_talking, false, __ATOMIC_RELEASE);
}

/* Has the command ended, and has all been read that will be? */
static bool is_over(const struct process_object *self)
{
    const struct nsd_buffer *output = self->streams.output;

    return self->child.reaped && output[0].fd < 0 && output[1].fd < 0;
}

int nsd_take_streams(PyObject *object, PyObject *input, struct process_object *self)
{
    char *bytes = NULL;
    Py_ssize_t size = 0;
    struct nsd_streams *streams = &self->streams;

    if (!PyArg_ParseTuple(object, "iii", &streams->input_fd, &streams->output[0].fd,
                          &streams->output[1].fd))
        return -1;
    if (input != NULL && input != Py_None) {
        if (PyBytes_AsStringAndSize(input, &bytes, &size) < 0)
            return -1;
        self->input = Py_NewRef(input);
    }
    streams->input = bytes;
    streams->input_left = (size_t)size;
    return 0;
}

int nsd_talk(struct process_object *self, int64_t deadline, PyThreadState **thread,
             bool *ret_interrupted)
{
    int ret;

    while ((ret = nsd_child_communicate(&self->child, &self->streams, deadline)) ==
           -EINTR) {
        if (nsd_run_signal_handlers(thread) < 0) {
            *ret_interrupted = true;
            return -EINTR;
        }
    }
    return ret == -ETIMEDOUT ? 0 : ret;
}

/* 0, -ETIMEDOUT, or -EINTR with an exception set: a signal handler's. */
static int wait_for_end(struct process_object *self, int64_t deadline)
{
    int ret;

    do {
        Py_BEGIN_ALLOW_THREADS
        ret = nsd_child_wait(&self->child, deadline);
        Py_END_ALLOW_THREADS
    } while (ret == -EINTR && PyErr_CheckSignals() == 0);
    return ret;
}

#define GRACE 250000000 /* ns, as subprocess has it */

/* -EINTR with an exception set: a second Ctrl-C, or another handler, ends it. */
static int give_grace(struct process_object *self, int64_t deadline)
{
    int64_t end = nsd_now() + GRACE;

    if (self->graced)
        return 0;
    self->graced = true;
    return wait_for_end(self, end < deadline ? end : deadline);
}

/* What typed Ctrl-C at a terminal was for the command, too: it cleans up, and we do not kill it
 * meanwhile. */
void nsd_give_grace(struct process_object *self, int64_t deadline)
{
    PyObject *type, *value, *traceback;

    if (!PyErr_ExceptionMatches(PyExc_KeyboardInterrupt))
        return;
    PyErr_Fetch(&type, &value, &traceback);
    if (give_grace(self, deadline) != -EINTR) {
        PyErr_Restore(type, value, traceback);
        return;
    }
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
}

struct process_object *nsd_new_process(PyTypeObject *type)
{
    struct process_object *self = PyObject_New(struct process_object, type);

    if (self == NULL)
        return NULL;
    memset(&self->child, 0, sizeof(self->child));
    self->child.pidfd = -1;
    self->child.reaped = true; /* nothing to wait for until it has been launched */
    self->streams = (struct nsd_streams){.input_fd = -1};
    self->streams.output[0].fd = self->streams.output[1].fd = -1;
    self->input = NULL;
    self->is_talking = false;
    self->failed = -1;
    self->graced = false;
    return self;
}

static PyObject *process_wait(PyObject *object, PyObject *argument)
{
    struct process_object *self = (struct process_object *)object;
    long long deadline = PyLong_AsLongLong(argument);
    int ret;

    if (deadline == -1 && PyErr_Occurred())
        return NULL;
    if (deadline < 0)
        deadline = NSD_FOREVER;
    ret = wait_for_end(self, deadline);
    if (ret == -EINTR) {
        nsd_give_grace(self, deadline);
        return NULL;
    }
    if (ret < 0 && ret != -ETIMEDOUT)
        return nsd_raise(ret);
    return PyBool_FromLong(ret == 0);
}

static PyObject *process_communicate(PyObject *object, PyObject *args)
{
    struct process_object *self = (struct process_object *)object;
    PyObject *streams, *input;
    PyThreadState *thread;
    long long deadline;
    bool interrupted = false;
    int ret;

    if (!PyArg_ParseTuple(args, "OOL", &streams, &input, &deadline) || !take_turn(self))
        return NULL;
    if (streams != Py_None) {
        nsd_close_streams(&self->streams);
        Py_CLEAR(self->input);
        if (nsd_take_streams(streams, input, self) < 0) {
            end_turn(self);
            return NULL;
        }
    }
    thread = PyEval_SaveThread();
    ret = nsd_talk(self, deadline, &thread, &interrupted);
    PyEval_RestoreThread(thread);
    if (self->streams.input_fd < 0)
        Py_CLEAR(self->input); /* it was heard, or nobody listens */
    end_turn(self);
    if (interrupted) {
        nsd_give_grace(self, deadline);
        return NULL;
    }
    return ret < 0 ? nsd_raise(ret) : PyBool_FromLong(is_over(self));
}

static PyObject *process_grace(PyObject *object, PyObject *unused)
{
    (void)unused;
    if (give_grace((struct process_object *)object, NSD_FOREVER) == -EINTR)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *process_output(PyObject *object, PyObject *unused)
{
    struct process_object *self = (struct process_object *)object;
    struct nsd_buffer *output = self->streams.output;
    PyObject *both;

    (void)unused;
    if (!take_turn(self))
        return NULL;
    both = Py_BuildValue(
        "(NN)", PyBytes_FromStringAndSize(output[0].data, (Py_ssize_t)output[0].size),
        PyBytes_FromStringAndSize(output[1].data, (Py_ssize_t)output[1].size));
    for (int i = 0; both != NULL && is_over(self) && i < 2; i++) {
        free(output[i].data);
        output[i].data = NULL;
        output[i].size = output[i].room = 0;
    }
    end_turn(self);
    return both;
}

static PyObject *process_send_signal(PyObject *object, PyObject *argument)
{
    long signal = PyLong_AsLong(argument);
    int ret;

    if (signal == -1 && PyErr_Occurred())
        return NULL;
    if (signal < 0 || signal > 64)
        return nsd_raise(-EINVAL);
    ret = nsd_child_signal(&((struct process_object *)object)->child, (int)signal);
    return ret < 0 ? nsd_raise(ret) : Py_NewRef(Py_None);
}

static PyObject *process_kill(PyObject *object, PyObject *unused)
{
    int ret = nsd_child_kill(&((struct process_object *)object)->child);

    (void)unused;
    return ret < 0 ? nsd_raise(ret) : Py_NewRef(Py_None);
}

PyObject *nsd_unended(PyObject *module, PyObject *unused)
{
    pid_t pids[16];
    size_t count = nsd_orphans(pids, 16), shown = count < 16 ? count : 16;
    PyObject *tuple = PyTuple_New((Py_ssize_t)shown);

    (void)module;
    (void)unused;
    for (size_t i = 0; tuple != NULL && i < shown; i++) {
        PyObject *pid = PyLong_FromLong(pids[i]);

        if (pid == NULL || PyTuple_SetItem(tuple, (Py_ssize_t)i, pid) < 0)
            Py_CLEAR(tuple);
    }
    return tuple;
}

static PyObject *process_end(PyObject *object, PyObject *unused)
{
    Py_BEGIN_ALLOW_THREADS
    nsd_child_end(&((struct process_object *)object)->child);
    Py_END_ALLOW_THREADS
    return nsd_unended(NULL, unused);
}

static PyObject *process_stopping(PyObject *object, PyObject *unused)
{
    (void)unused;
    nsd_child_stopping(&((struct process_object *)object)->child);
    Py_RETURN_NONE;
}

static PyObject *process_detach(PyObject *object, PyObject *unused)
{
    int ret;

    (void)unused;
    Py_BEGIN_ALLOW_THREADS
    ret = nsd_child_detach(&((struct process_object *)object)->child);
    Py_END_ALLOW_THREADS
    return ret < 0 ? nsd_raise(ret) : Py_NewRef(Py_None);
}

static PyObject *process_close(PyObject *object, PyObject *unused)
{
    struct process_object *self = (struct process_object *)object;

    (void)unused;
    if (!take_turn(self))
        return NULL;
    nsd_close_streams(&self->streams);
    self->streams.input = NULL;
    self->streams.input_left = 0;
    Py_CLEAR(self->input);
    end_turn(self);
    if (self->child.reaped)
        nsd_child_close(&self->child);
    Py_RETURN_NONE;
}

static PyObject *process_results(PyObject *object, PyObject *unused)
{
    const struct nsd_child *child = &((struct process_object *)object)->child;
    PyObject *list = PyList_New(0);

    (void)unused;
    for (uint32_t i = 0;
         list != NULL && child->results != NULL && i < child->step_count; i++) {
        const struct nsd_result *result = &child->results[i];
        int64_t start = nsd_child_time(child, result->start);
        int64_t end = nsd_child_time(child, result->end);
        PyObject *item;

        if (result->process == NSD_NOBODY)
            continue;
        item = Py_BuildValue("(IiLLLI)", (unsigned int)i, (int)result->error,
                             (long long)result->value, (long long)start,
                             (long long)(end > start ? end - start : 0),
                             (unsigned int)result->process);
        if (item == NULL || PyList_Append(list, item) < 0)
            Py_CLEAR(list);
        Py_XDECREF(item);
    }
    return list;
}

static PyObject *get_returncode(PyObject *object, void *unused)
{
    int status;

    (void)unused;
    if (!nsd_child_status(&((struct process_object *)object)->child, &status))
        Py_RETURN_NONE;
    return PyLong_FromLong(WIFSIGNALED(status) ? -WTERMSIG(status)
                                               : WEXITSTATUS(status));
}

static PyObject *get_inherited(PyObject *object, void *unused)
{
    const struct nsd_child *child = &((struct process_object *)object)->child;

    (void)unused;
    return PyBool_FromLong(!child->adopted && !nsd_child_is_ours(child));
}

static PyObject *get_said(PyObject *object, void *unused)
{
    const char *said = ((struct process_object *)object)->child.said;

    (void)unused;
    return said == NULL ? Py_NewRef(Py_None) : PyBytes_FromString(said);
}

static PyMethodDef process_methods[] = {
    {"wait", process_wait, METH_O,
     "wait($self, deadline, /)\n--\n\n"
     "Has it ended? deadline in ns of CLOCK_MONOTONIC; 0 polls, -1 is no end.\n"
     "OSError."},
    {"communicate", process_communicate, METH_VARARGS,
     "communicate($self, streams, input, deadline, /)\n--\n\n"
     "Has it ended, and all been read? streams as for launch, taken over;\n"
     "None: go on where the last call timed out. MemoryError. RuntimeError:\n"
     "another thread is in such a call, and nothing was taken over."},
    {"grace", process_grace, METH_NOARGS,
     "grace($self, /)\n--\n\n"
     "After a Ctrl-C, a moment to end by itself; the second time there is\n"
     "none."},
    {"output", process_output, METH_NOARGS,
     "output($self, /)\n--\n\n"
     "(stdout, stderr) as read until now, bytes. Of a command that has ended\n"
     "they are handed out once."},
    {"send_signal", process_send_signal, METH_O,
     "send_signal($self, signal, /)\n--\n\n"
     "Nothing happens once it has been reaped. OSError."},
    {"kill", process_kill, METH_NOARGS,
     "kill($self, /)\n--\n\n"
     "SIGKILL for the command, and for its process group if it has one of its\n"
     "own. OSError."},
    {"end", process_end, METH_NOARGS,
     "end($self, /)\n--\n\n"
     "Kills the command and reaps it, or leaves that to a later call. As\n"
     "unended()."},
    {"stopping", process_stopping, METH_NOARGS,
     "stopping($self, /)\n--\n\n"
     "From now on its process group ends with the command."},
    {"detach", process_detach, METH_NOARGS,
     "detach($self, /)\n--\n\n"
     "From now on it ends with nobody. OSError: ECHILD in a fork."},
    {"close", process_close, METH_NOARGS,
     "close($self, /)\n--\n\n"
     "Gives back the descriptors of a command that has ended; its results\n"
     "stay."},
    {"results", process_results, METH_NOARGS,
     "results($self, /)\n--\n\n"
     "[(index, errno, value, start, duration, pid)] of the steps performed,\n"
     "times in ns."},
    {NULL, NULL, 0, NULL},
};

#define MEMBER(name, type, member, doc)                                                \
    {                                                                                  \
        (name), (type), offsetof(struct process_object, member), READONLY, (doc)       \
    }

_Static_assert(sizeof(bool) == 1, "as T_BOOL has it");

static PyMemberDef process_members[] = {
    MEMBER("pid", T_INT, child.command,
           "of the command; that of PID 1 inside, if there is a pid namespace"),
    MEMBER("owner", T_INT, child.owner.pid, "pid of the process whose child it is"),
    MEMBER("first_pid", T_INT, child.first_pid, "the launcher's first process"),
    MEMBER("pidfd", T_INT, child.pidfd, "of the command, or -1"),
    MEMBER("failed", T_LONG, failed, "index of the step that failed, or -1"),
    MEMBER("has_init", T_BOOL, child.has_init, "is the command started by our PID 1?"),
    MEMBER("abandoned", T_BOOL, child.abandoned,
           "the launch was, so there is no command"),
    MEMBER("adopted", T_BOOL, child.adopted, "it is not our child"),
    MEMBER("detached", T_BOOL, child.detached, "it may outlive us"),
    MEMBER("ended", T_BOOL, child.reaped, "it has ended, and been reaped"),
    MEMBER("status_lost", T_BOOL, child.status_lost,
           "somebody else's waitpid() took its status"),
    MEMBER("cut", T_BOOL, streams.cut,
           "somebody who outlived the command may have had more to say"),
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef process_getset[] = {
    {"inherited", get_inherited, NULL, "a fork has the struct, and not the child",
     NULL},
    {"said", get_said, NULL, "what newuidmap wrote, bytes, or None", NULL},
    {"returncode", get_returncode, NULL, "as subprocess has it; None: not yet, or lost",
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot process_slots[] = {
    {Py_tp_doc, (void *)(uintptr_t) "A launched command."},
    {Py_tp_dealloc, (void *)process_dealloc},
    {Py_tp_methods, process_methods},
    {Py_tp_members, process_members},
    {Py_tp_getset, process_getset},
    {0, NULL},
};

PyType_Spec nsd_process_spec = {
    .name = "nsdemo._core.Process",
    .basicsize = sizeof(struct process_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = process_slots,
};
