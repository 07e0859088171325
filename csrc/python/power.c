/* power.c - what is taken from a command, from Python's objects to struct nsd_power. */
#include "binding.h"

static int take_capabilities(PyObject *capabilities, struct nsd_power *power)
{
    long long kept, ambient;

    if (capabilities == Py_None)
        return 0;
    if (!PyArg_ParseTuple(capabilities, "LL", &kept, &ambient))
        return -1;
    power->sets_capabilities = true;
    power->kept = kept;
    power->ambient = ambient;
    return 0;
}

static int take_limits(PyObject *limits, struct nsd_power *power)
{
    Py_ssize_t count = PyTuple_Size(limits);

    if (count > NSD_MAX_LIMITS) {
        PyErr_SetString(PyExc_ValueError, "at most sixteen limits");
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        struct nsd_limit *limit = &power->limits[i];
        long long soft, hard;

        if (!PyArg_ParseTuple(PyTuple_GetItem(limits, i), "iLL", &limit->resource,
                              &soft, &hard))
            return -1;
        limit->soft = soft;
        limit->hard = hard;
    }
    power->limit_count = (int)count;
    return count < 0 ? -1 : 0;
}

static int take_rules(PyObject *rules, struct nsd_power *power)
{
    Py_ssize_t count = PyTuple_Size(rules);

    if (count > NSD_MAX_RULES) {
        PyErr_SetString(PyExc_ValueError, "too many paths");
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        int writable;

        if (!PyArg_ParseTuple(PyTuple_GetItem(rules, i), "py", &writable,
                              &power->rules[i].path))
            return -1;
        power->rules[i].writable = writable != 0;
    }
    power->has_landlock = true;
    power->rule_count = (int)count;
    return count < 0 ? -1 : 0;
}

/* power: None, or (no_new_privs, None or (kept, ambient), ((resource, soft, hard), ...),
 * None or bytes, securebits or -1, None or ((writable, path), ...)). Bytes are borrowed. */
int nsd_take_power(PyObject *object, struct nsd_power *power)
{
    PyObject *capabilities, *limits, *filter, *rules;
    long long securebits;
    int no_new_privs;

    if (object == Py_None)
        return 0;
    if (!PyArg_ParseTuple(object, "pOOOLO", &no_new_privs, &capabilities, &limits,
                          &filter, &securebits, &rules))
        return -1;
    power->sets_securebits = securebits >= 0;
    power->securebits = securebits;
    if (rules != Py_None && take_rules(rules, power) < 0)
        return -1;
    power->no_new_privs = no_new_privs != 0;
    if (filter != Py_None) {
        power->filter = PyBytes_AsString(filter);
        if (power->filter == NULL)
            return -1;
        power->filter_count = (uint32_t)(PyBytes_Size(filter) / 8);
    }
    return take_capabilities(capabilities, power) < 0 ? -1 : take_limits(limits, power);
}

/* A filter is no text; in hexadecimal it can be compared and shown. */
PyObject *nsd_filter_as_text(const char *filter, size_t count)
{
    PyObject *bytes = PyBytes_FromStringAndSize(filter, (Py_ssize_t)(count * 8));
    PyObject *text = bytes == NULL ? NULL : PyObject_CallMethod(bytes, "hex", NULL);

    Py_XDECREF(bytes);
    return text;
}
