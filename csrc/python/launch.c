/* launch.c - launch(): a plan becomes a Process.
 *
 * The GIL is released once per call and taken again only when a signal handler must run.
 */
#include "fields.h"

#include <errno.h>
#include <unistd.h>

static const char *const stage_names[] = {
    [NSD_START_CLONE] = "clone",     [NSD_START_DESCRIPTORS] = "descriptors",
    [NSD_START_IMAGE] = "image",     [NSD_START_PLAN] = "plan",
    [NSD_START_EXECUTE] = "execute", [NSD_START_PIDFD] = "pidfd_open",
    [NSD_START_KILLED] = "killed",   [NSD_START_GUARD] = "guard",
    [NSD_START_TAKE] = "take",
};

/* What one call of launch() goes through without the GIL. */
struct call {
    struct process_object *process;
    const struct nsd_builder *plan;
    struct nsd_launch_options options;
    int *pass_fds, *close_fds; /* PyMem_Free them */
    int close_count;
    PyObject *streams, *input; /* NULL: there are none */
    int64_t deadline;
    PyThreadState **thread;
    enum nsd_start_stage stage; /* of an error before or beside the steps */
    bool is_running;  /* the command, so that an error is none of the launch */
    bool interrupted; /* a signal handler raised */
};

#define CALL struct call

static const struct nsd_field stdio[] = {
    NSD_INT("stdin", CALL, options.stdio[0]),
    NSD_INT("stdout", CALL, options.stdio[1]),
    NSD_INT("stderr", CALL, options.stdio[2]),
};
static const struct nsd_field descriptors[] = {
    {.name = "", .kind = NSD_KIND_NUMBER, .size = sizeof(int), .most = INT_MAX},
};
static const struct nsd_field fields[] = {
    NSD_ROW("stdio", stdio),
    NSD_ALLOCATED("pass_fds", CALL, pass_fds, int, descriptors, INT_MAX,
                  options.pass_count),
    NSD_ALLOCATED("close_fds", CALL, close_fds, int, descriptors, INT_MAX, close_count),
    NSD_OBJECT("streams", CALL, streams),
    NSD_OBJECT("input", CALL, input),
    NSD_LONG("deadline", CALL, deadline, .needed = true),
    NSD_INT("terminal", CALL, options.terminal),
};

const struct nsd_field_table nsd_launch_table = {"launch", NSD_LAUNCH_TABLE, fields,
                                                 NSD_LENGTH(fields)};

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

/* The descriptors that were to be taken over. */
static void close_taken(const struct call *call)
{
    for (int i = 0; i < call->close_count; i++)
        close(call->close_fds[i]);
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
    close_taken(call);
    if (self->child.abandoned)
        nsd_close_streams(&self->streams);
    if (ret < 0)
        return ret == -ETIMEDOUT && self->child.abandoned ? 0 : ret;
    ret = wait_and_settle(call);
    if (ret < 0 || !call->options.waits || self->failed >= 0 || self->child.abandoned)
        return ret;
    call->is_running = true;
    return nsd_talk(self, call->deadline, thread, &call->interrupted);
}

PyObject *nsd_launch(PyObject *module, PyObject *const *args, Py_ssize_t count,
                     PyObject *names)
{
    struct module_state *state = nsd_state(module);
    struct call call = {.options.stdio = {-1, -1, -1}, .stage = NSD_START_CLONE};
    struct process_object *self = NULL;
    PyObject *not_started = NULL;
    int ret;

    if (count != 1 || Py_TYPE(args[0]) != state->plan_type) {
        PyErr_SetString(PyExc_TypeError, "launch takes a Plan, and all else by name");
        return NULL;
    }
    if (nsd_take_fields(&nsd_launch_table, state, args + count, names, true, &call) ==
        0)
        self = nsd_new_process(state->process_type);
    call.options.waits = call.streams != NULL && call.streams != Py_None;
    if (self != NULL && call.options.waits &&
        nsd_take_streams(call.streams, call.input, self) < 0)
        Py_CLEAR(self);
    if (self == NULL) {
        close_taken(&call);
    } else {
        PyThreadState *thread = PyEval_SaveThread();

        call.process = self;
        call.plan = &((struct plan_object *)args[0])->builder;
        call.options.pass_fds = call.pass_fds;
        ret = start_and_talk(&call, &thread);
        PyEval_RestoreThread(thread);
        if (ret < 0) {
            if (call.interrupted)
                nsd_give_grace(self, call.deadline);
            else if (call.is_running)
                nsd_raise(ret);
            else
                not_started = Py_BuildValue("(is)", -ret, stage_names[call.stage]);
            Py_CLEAR(self); /* which ends and reaps the command, if there is one */
        }
    }
    PyMem_Free(call.pass_fds);
    PyMem_Free(call.close_fds);
    return self != NULL ? (PyObject *)self : not_started;
}
