/* binding.h - the only door to Python.h: objects on this side, struct nsd_* on the other.
 *
 * No static Python object: everything lives in the module's state, so that each
 * interpreter has its own.
 */
#ifndef NSD_BINDING_H
#define NSD_BINDING_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "../core/builder.h"
#include "../core/launch/child.h"
#include "../core/launch/direct.h"
#include "../core/launch/orphans.h"
#include "../core/launch/settle.h"
#include "../core/namespaces.h"
#include "../core/request.h"

enum nsd_table_number {
    NSD_REQUEST_TABLE,
    NSD_LAUNCH_TABLE,
    NSD_TABLE_COUNT
};
#define NSD_MAX_FIELDS 64

struct module_state {
    PyTypeObject *plan_type;
    PyTypeObject *process_type;
    PyObject *names[NSD_TABLE_COUNT][NSD_MAX_FIELDS]; /* of fields, interned */
};

struct module_state *nsd_state(PyObject *module);

/* A Plan: built once, never changed; launching it many times is fine. */
struct plan_object {
    PyObject_HEAD
    struct nsd_builder builder;
    PyObject *keep; /* objects whose descriptors the plan's slots name, or NULL */
};

/* A launched command. */
struct process_object {
    PyObject_HEAD
    struct nsd_child child;
    struct nsd_streams streams;
    PyObject *input; /* keeps streams.input alive */
    bool is_talking; /* a thread has the streams for itself */
    long failed;     /* index of the step that failed, -1: none */
    bool graced;     /* after a Ctrl-C it has had its moment */
};

extern PyType_Spec nsd_plan_spec;
extern PyType_Spec nsd_process_spec;

/* Takes over builder, also on failure. keep may be NULL. */
PyObject *nsd_plan_from_builder(PyTypeObject *type, struct nsd_builder *builder,
                                PyObject *keep);

/* A copy of a Plan's steps to append to; *ret_copy. */
struct nsd_builder *nsd_copied(PyObject *object, struct nsd_builder *ret_copy);

/* Appends the command: sequences of bytes. 0, or -1 with an exception set. */
int nsd_add_command(struct nsd_builder *builder, PyObject *argv, PyObject *envp,
                    PyObject *paths);

/* Raises OSError for a negative errno; always NULL. */
PyObject *nsd_raise(int error);

/* Does the calling thread have a capability? -1 with an exception set: nobody says. */
int nsd_may(int capability);

/* The table of csrc/operations.def: ((word, names of numbers, names of texts), ...), parted by spaces, in their
 * places. "name?" may be absent, ".name" is not shown by a Step, "." is nobody's. */
PyObject *nsd_operations(void);

/* process_type.c. Of those that return an int, -1 is an exception set. */
struct process_object *nsd_new_process(PyTypeObject *type);
void nsd_close_streams(struct nsd_streams *streams);
int nsd_take_streams(PyObject *object, PyObject *input, struct process_object *self);
int nsd_run_signal_handlers(PyThreadState **thread);

/* With an exception set: if that is KeyboardInterrupt, the command has a moment, once, to end. */
void nsd_give_grace(struct process_object *self, int64_t deadline);

PyObject *nsd_unended(PyObject *module, PyObject *unused);

/* Without the GIL: 0, -EINTR with *ret_interrupted when a handler raised, or an errno. */
int nsd_talk(struct process_object *self, int64_t deadline, PyThreadState **thread,
             bool *ret_interrupted);

/* request.c; the second to the fifth are methods of Plan */
PyObject *nsd_recipe(PyObject *module, PyObject *const *args, Py_ssize_t count,
                     PyObject *names);
PyObject *nsd_plan_setgroups(PyObject *object, PyObject *ids);
PyObject *nsd_plan_seccomp(PyObject *object, PyObject *filter);
PyObject *nsd_plan_users(PyObject *object, PyObject *const *args, Py_ssize_t count,
                         PyObject *names);
PyObject *nsd_plan_files(PyObject *object, PyObject *args);

/* launch.c */
PyObject *nsd_launch(PyObject *module, PyObject *const *args, Py_ssize_t count,
                     PyObject *names);

#endif
