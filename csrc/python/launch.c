/* launch.c - launch(): a plan becomes a Process.
 *
 * The GIL is released once per call and taken again only when a signal handler must run.
 */
#include "binding.h"

#include <errno.h>
#include <limits.h>
#include <unistd.h>

static const char *const stage_names[] = {
    [NSD_START_CLONE] = "clone",     [NSD_START_DESCRIPTORS] = "descriptors",
    [NSD_START_IMAGE] = "image",     [NSD_START_PLAN] = "plan",
    [NSD_START_EXECUTE] = "execute", [NSD_START_PIDFD] = "pidfd_open",
    [NSD_START_KILLED] = "killed",   [NSD_START_GUARD] = "guard",
    [NSD_START_TAKE] = "take",
};

/* Ascending descriptors from a tuple; PyMem_Free them. */
static int *take_descriptors(PyObject *tuple, int *ret_count)
{
    Py_ssize_t count = PyTuple_Size(tuple);
    int *fds = count < 0 ? NULL : PyMem_Malloc((size_t)(count + 1) * sizeof(int));

    for (Py_ssize_t i = 0; fds != NULL && i < count; i++) {
        long fd = PyLong_AsLong(PyTuple_GetItem(tuple, i));

        if (fd < 0 || fd > INT_MAX) {
            if (!PyErr_Occurred())
                PyErr_SetString(PyExc_ValueError, "that number is no descriptor");
            break;
        }
        fds[i] = (int)fd;
    }
    if (fds != NULL && PyErr_Occurred()) {
        PyMem_Free(fds);
        return NULL;
    }
    if (fds == NULL && !PyErr_Occurred())
        PyErr_NoMemory();
    *ret_count = (int)count;
    return fds;
}

/* What one call of launch() goes through without the GIL. */
struct call {
    struct process_object *process;
    const struct nsd_builder *plan;
    struct nsd_launch_options options;
    const int *close_fds;
    int close_count;
    bool talks;
    int64_t deadline;
    PyThreadState **thread;
    enum nsd_start_stage stage; /* of an error before or beside the steps */
    bool is_running;  /* the command, so that an error is none of the launch */
    bool interrupted; /* a signal handler raised */
};

static int settle(struct call *call)
{
    uint32_t failed;
    int ret = nsd_launch_settle(&call->process->child, &failed, &call->stage);

    if (ret != -ECANCELED)
        return ret;
    call->process->failed = failed;
    nsd_close_streams(&call->process->streams);
    return 0;
}

/* A signal has come. */
static bool gives_up(void *argument)
{
    struct call *call = argument;

    call->interrupted = nsd_run_signal_handlers(call->thread) < 0;
    return call->interrupted;
}

static int wait_and_settle(struct call *call)
{
    int ret;

    while ((ret = nsd_launch_wait(&call->process->child, call->deadline)) == -EINTR)
        if (gives_up(call))
            break;
    if (ret == 0)
        return settle(call);
    nsd_launch_abandon(&call->process->child);
    nsd_close_streams(&call->process->streams);
    return ret == -ETIMEDOUT ? 0 : ret;
}

/* The whole call, without the GIL. */
static int start_and_talk(struct call *call, PyThreadState **thread)
{
    struct process_object *self = call->process;
    int ret;

    call->thread = thread;
    call->options.deadline = call->deadline;
    call->options.gives_up = gives_up;
    call->options.asked = call;
    ret = nsd_launch_start(call->plan, &call->options, &self->child, &call->stage);
    for (int i = 0; i < call->close_count; i++)
        close(call->close_fds[i]);
    if (self->child.abandoned)
        nsd_close_streams(&self->streams);
    if (ret < 0)
        return ret == -ETIMEDOUT && self->child.abandoned ? 0 : ret;
    if (call->talks && nsd_launch_needs_no_wait(&self->child)) {
        call->is_running = true;
        ret = nsd_talk(self, call->deadline, thread, &call->interrupted);
        if (ret < 0)
            return ret;
        call->is_running =
            false; /* of a command that has not run, the stage tells why */
        return self->child.reaped ? settle(call) : wait_and_settle(call);
    }
    ret = wait_and_settle(call);
    if (ret < 0 || !call->talks || self->failed >= 0 || self->child.abandoned)
        return ret;
    call->is_running = true;
    return nsd_talk(self, call->deadline, thread, &call->interrupted);
}

/* launch(plan, stdio, pass_fds, close_fds, streams, input, deadline, terminal)
 * -> Process, or (errno, stage)
 *
 * stdio: three descriptors or -1. close_fds: closed as soon as the launcher has them. A command
 * that does not run by the deadline (CLOCK_MONOTONIC ns) never will; read .abandoned. With
 * streams (three descriptors of ours or -1, else None) the call goes on: it talks to the
 * command until that has ended or the deadline is over; read .ended.
 * terminal: a socket, see core/launch.h; or 0. (errno, stage): the launcher did not start.
 * MemoryError, OSError: the command ran, but there was no room for its output, or no waiting for
 * it; or a signal handler's. A failed step: read .failed. */
PyObject *nsd_launch(PyObject *module, PyObject *args)
{
    PyObject *plan, *pass_fds, *close_fds, *streams, *input;
    struct module_state *state = nsd_state(module);
    struct call call = {.stage = NSD_START_CLONE};
    struct process_object *self = NULL;
    int *passed = NULL, *closed = NULL;
    PyObject *not_started = NULL;
    long long deadline;
    int ret = -ENOMEM;

    if (!PyArg_ParseTuple(args, "O!(iii)OOOOL|i", state->plan_type, &plan,
                          &call.options.stdio[0], &call.options.stdio[1],
                          &call.options.stdio[2], &pass_fds, &close_fds, &streams,
                          &input, &deadline, &call.options.terminal))
        return NULL;
    closed = take_descriptors(close_fds, &call.close_count);
    if (closed != NULL)
        self = nsd_new_process(state->process_type);
    if (self != NULL && streams != Py_None &&
        nsd_take_streams(streams, input, self) < 0)
        Py_CLEAR(self);
    if (self != NULL)
        passed = take_descriptors(pass_fds, &call.options.pass_count);
    if (passed == NULL) {
        /* What was to be taken over is closed all the same. */
        for (int i = 0; closed != NULL && i < call.close_count; i++)
            close(closed[i]);
        Py_CLEAR(self);
    }
    if (self != NULL) {
        PyThreadState *thread = PyEval_SaveThread();

        call.process = self;
        call.plan = &((struct plan_object *)plan)->builder;
        call.options.pass_fds = passed;
        call.close_fds = closed;
        call.talks = call.options.waits = streams != Py_None;
        call.deadline = deadline;
        ret = start_and_talk(&call, &thread);
        PyEval_RestoreThread(thread);
        if (ret < 0) {
            if (call.interrupted)
                nsd_give_grace(self, deadline);
            else if (call.is_running)
                nsd_raise(ret);
            else
                not_started = Py_BuildValue("(is)", -ret, stage_names[call.stage]);
            Py_CLEAR(self); /* which ends and reaps the command, if there is one */
        }
    }
    PyMem_Free(passed);
    PyMem_Free(closed);
    return self != NULL ? (PyObject *)self : not_started;
}
