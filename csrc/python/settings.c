/* settings.c - what few launches ask for, from Python's objects to struct nsd_request; and
 * what belongs to it afterwards. */
#include "binding.h"

#include "../core/pins.h"

static int take_pins(PyObject *pins, struct nsd_request *request)
{
    Py_ssize_t count = PyTuple_Size(pins);

    if (count > NSD_NAMESPACE_COUNT) {
        PyErr_SetString(PyExc_ValueError, "at most eight pins");
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++)
        if (!PyArg_ParseTuple(PyTuple_GetItem(pins, i), "iy", &request->pins[i].flag,
                              &request->pins[i].path))
            return -1;
    request->pin_count = (int)count;
    return count < 0 ? -1 : 0;
}

static int take_cgroups(PyObject *cgroups, struct nsd_request *request)
{
    Py_ssize_t count = PyTuple_Size(cgroups);

    if (count > NSD_MAX_CGROUPS) {
        PyErr_SetString(PyExc_ValueError, "at most 32 hierarchies of cgroups");
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++)
        if (nsd_optional_bytes(PyTuple_GetItem(cgroups, i), &request->cgroups[i]) < 0)
            return -1;
    request->cgroup_count = (int)count;
    return count < 0 ? -1 : 0;
}

/* settings: None, or (((flag, path), ...), time offsets, domain name, (cgroup.procs, ...));
 * None is allowed for the second and the third */
int nsd_take_settings(PyObject *object, struct nsd_request *request)
{
    PyObject *pins, *offsets, *domainname, *cgroups;

    if (object == Py_None)
        return 0;
    if (!PyArg_ParseTuple(object, "OOOO", &pins, &offsets, &domainname, &cgroups))
        return -1;
    if (nsd_optional_bytes(offsets, &request->time_offsets) < 0 ||
        nsd_optional_bytes(domainname, &request->domainname) < 0 ||
        take_cgroups(cgroups, request) < 0)
        return -1;
    return take_pins(pins, request);
}

/* unpin(path) */
PyObject *nsd_unpin_at(PyObject *module, PyObject *path)
{
    const char *bytes = PyBytes_AsString(path);
    int ret;

    (void)module;
    if (bytes == NULL)
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    ret = nsd_unpin(bytes);
    Py_END_ALLOW_THREADS
    return ret < 0 ? nsd_raise(ret) : Py_NewRef(Py_None);
}
