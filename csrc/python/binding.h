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
#include "../core/child.h"
#include "../core/direct.h"
#include "../core/launch.h"
#include "../core/namespaces.h"
#include "../core/orphans.h"
#include "../core/primitives.h"

struct module_state {
    PyTypeObject *plan_type;
    PyTypeObject *process_type;
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

/* Appends the command: sequences of bytes. 0, or -1 with an exception set. */
int nsd_add_command(struct nsd_builder *builder, PyObject *argv, PyObject *envp,
                    PyObject *paths);

/* None: NULL; bytes: their content. False with an exception set otherwise. */
int nsd_optional_bytes(PyObject *object, const char **ret_bytes);

/* Raises OSError for a negative errno; always NULL. */
PyObject *nsd_raise(int error);

/* files.c. A tuple of (kind, flags, source, target, options), borrowed by *ret_files, which
 * is to be freed with PyMem_Free, for as long as the tuple lives. */
struct nsd_file;
int nsd_take_files(PyObject *tuple, struct nsd_file **ret_files, int *ret_count);

int nsd_take_users(PyObject *object, struct nsd_users *users);
PyObject *nsd_plan_users(PyObject *object, PyObject *tuple);
/* settings.c. None, or what few launches ask for; the bytes are borrowed. */
int nsd_take_settings(PyObject *object, struct nsd_request *request);
PyObject *nsd_unpin_at(PyObject *module, PyObject *path);

int nsd_take_power(PyObject *object, struct nsd_power *power);
PyObject *nsd_filter_as_text(const char *filter, size_t count);

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

/* recipe.c. The ids of a tuple, to be freed with PyMem_Free; NULL with an exception set. */
uint32_t *nsd_take_groups(PyObject *groups, int *ret_count);
PyObject *nsd_recipe(PyObject *module, PyObject *args);
PyObject *nsd_adopt(PyObject *module, PyObject *args);

/* launch.c */
PyObject *nsd_launch(PyObject *module, PyObject *args);

#endif
