#include "fields.h"

#include <string.h>

/* Which row of a field a column is of, for the words of an error; NULL: it is the field itself. */
struct row {
    const struct nsd_field *field;
    Py_ssize_t index; /* -1: there is one alone */
};

#define NAME_SIZE 80

/* "fork", "owner.uid", "groups[3]", "joins[0].flags"; of a NULL field, the row itself. */
static const char *full_name(const struct nsd_field *field, const struct row *row,
                             char name[NAME_SIZE])
{
    const char *column = field == NULL ? "" : field->name;
    const char *dot = column[0] == '\0' ? "" : ".";

    if (row == NULL)
        PyOS_snprintf(name, NAME_SIZE, "%s", column);
    else if (row->index < 0)
        PyOS_snprintf(name, NAME_SIZE, "%s%s%s", row->field->name, dot, column);
    else
        PyOS_snprintf(name, NAME_SIZE, "%s[%zd]%s%s", row->field->name, row->index, dot,
                      column);
    return name;
}

/* Each of these sets an exception and is -1. */
static int wrong_type(const struct nsd_field *field, const struct row *row,
                      const char *right, PyObject *value)
{
    PyObject *found = PyType_GetName(Py_TYPE(value));
    char name[NAME_SIZE];

    if (found != NULL)
        PyErr_Format(PyExc_TypeError, "%s must be %s, not %U",
                     full_name(field, row, name), right, found);
    Py_XDECREF(found);
    return -1;
}

static int take_number(const struct nsd_field *field, const struct row *row,
                       PyObject *value, char *at)
{
    char name[NAME_SIZE];
    int64_t number;
    int beyond;

    if (!PyLong_Check(value) || PyBool_Check(value))
        return wrong_type(field, row, "an int", value);
    number = PyLong_AsLongLongAndOverflow(value, &beyond);
    if (beyond > 0 || number > field->most) {
        PyErr_Format(PyExc_OverflowError, "%s is too large: at most %lld",
                     full_name(field, row, name), (long long)field->most);
        return -1;
    }
    if (beyond < 0 || number < field->least) {
        PyErr_Format(PyExc_OverflowError, "%s is too small: at least %lld",
                     full_name(field, row, name), (long long)field->least);
        return -1;
    }
    if (field->size == sizeof(number))
        memcpy(at, &number, sizeof(number));
    else
        memcpy(at, &(int32_t){(int32_t)number}, sizeof(int32_t));
    return 0;
}

static int take_text(const struct nsd_field *field, const struct row *row,
                     PyObject *value, char *at)
{
    const char *text = NULL;
    char name[NAME_SIZE];

    if (value != Py_None || !field->or_none) {
        if (!PyBytes_Check(value))
            return wrong_type(field, row, field->or_none ? "bytes or None" : "bytes",
                              value);
        text = PyBytes_AsString(value);
        if (strlen(text) != (size_t)PyBytes_Size(value)) {
            PyErr_Format(PyExc_ValueError, "a NUL byte in %s",
                         full_name(field, row, name));
            return -1;
        }
    }
    memcpy(at, &text, sizeof(text));
    return 0;
}

static int take_program(const struct nsd_field *field, PyObject *value, char *base)
{
    const char *bytes;
    uint32_t count;
    Py_ssize_t size;

    if (!PyBytes_Check(value))
        return wrong_type(field, NULL, "bytes", value);
    bytes = PyBytes_AsString(value);
    size = PyBytes_Size(value);
    if (size % 8 != 0 || size / 8 > USHRT_MAX) {
        PyErr_Format(PyExc_ValueError, "%s must be at most %d instructions of 8 bytes",
                     field->name, USHRT_MAX);
        return -1;
    }
    count = (uint32_t)(size / 8);
    memcpy(base + field->at, &bytes, sizeof(bytes));
    memcpy(base + field->count_at, &count, sizeof(count));
    return 0;
}

/* All but rows. */
static int take_value(const struct nsd_field *field, const struct row *row,
                      PyObject *value, char *base)
{
    if (field->kind == NSD_KIND_NUMBER)
        return take_number(field, row, value, base + field->at);
    if (field->kind == NSD_KIND_TEXT)
        return take_text(field, row, value, base + field->at);
    if (field->kind == NSD_KIND_PROGRAM)
        return take_program(field, value, base);
    if (field->kind == NSD_KIND_OBJECT) {
        *(PyObject **)(void *)(base + field->at) = value;
        return 0;
    }
    if (!PyBool_Check(value))
        return wrong_type(field, row, "a bool", value);
    *(bool *)(base + field->at) = value == Py_True;
    return 0;
}

static int take_row(const struct row *row, PyObject *value, char *base)
{
    const struct nsd_field *columns = row->field->columns;
    int count = row->field->column_count;
    char name[NAME_SIZE];

    if (!PyTuple_Check(value) || PyTuple_Size(value) != count) {
        PyErr_Format(PyExc_TypeError, "%s must be a tuple of %d",
                     full_name(NULL, row, name), count);
        return -1;
    }
    for (int i = 0; i < count; i++)
        if (take_value(&columns[i], row, PyTuple_GetItem(value, i), base) < 0)
            return -1;
    return 0;
}

static int take_rows(const struct nsd_field *field, PyObject *value, char *base)
{
    char *rows = base + field->at;
    Py_ssize_t count;
    int number;

    if (!PyTuple_Check(value))
        return wrong_type(field, NULL, "a tuple", value);
    count = PyTuple_Size(value);
    if (count > field->most) {
        PyErr_Format(PyExc_ValueError, "at most %lld of %s", (long long)field->most,
                     field->name);
        return -1;
    }
    if (field->allocated && count > 0) {
        rows = PyMem_Calloc((size_t)count, field->size);
        if (rows == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        memcpy(base + field->at, &rows, sizeof(rows));
    }
    for (Py_ssize_t i = 0; i < count; i++, rows += field->size) {
        PyObject *item = PyTuple_GetItem(value, i);
        const struct row row = {field, i};

        if ((field->column_count == 1 ? take_value(field->columns, &row, item, rows)
                                      : take_row(&row, item, rows)) < 0)
            return -1;
    }
    number = (int)count;
    memcpy(base + field->count_at, &number, sizeof(number));
    return 0;
}

static int take(const struct nsd_field *field, PyObject *value, char *base)
{
    if (field->came_at != 0)
        *(bool *)(base + field->came_at) = true;
    if (field->kind == NSD_KIND_ROWS)
        return take_rows(field, value, base);
    if (field->kind == NSD_KIND_ROW)
        return take_row(&(struct row){field, -1}, value, base);
    return take_value(field, NULL, value, base);
}

/* Callers have their own order, and most names are interned: the next one is behind the last, and
 * the same object. */
static int find(const struct nsd_field_table *table, PyObject *const *interned,
                PyObject *name, int from)
{
    for (int i = from; i < table->count; i++)
        if (interned[i] == name)
            return i;
    for (int i = 0; i < from; i++)
        if (interned[i] == name)
            return i;
    for (int i = 0; i < table->count; i++)
        if (PyUnicode_CompareWithASCIIString(name, table->fields[i].name) == 0)
            return i;
    PyErr_Format(PyExc_TypeError, "%s: there is no field '%U'", table->name, name);
    return -1;
}

int nsd_take_fields(const struct nsd_field_table *table, struct module_state *state,
                    PyObject *const *values, PyObject *names, uint8_t needed,
                    void *base)
{
    PyObject *const *interned = state->names[table->number];
    Py_ssize_t count = names == NULL ? 0 : PyTuple_Size(names);
    uint64_t came = 0;
    int found = -1;

    for (Py_ssize_t i = 0; i < count; i++) {
        found = find(table, interned, PyTuple_GetItem(names, i), found + 1);
        if (found < 0 || take(&table->fields[found], values[i], base) < 0)
            return -1;
        came |= (uint64_t)1 << found;
    }
    for (int i = 0; needed != 0 && i < table->count; i++) {
        if ((table->fields[i].needed & needed) == 0 || (came >> i & 1) != 0)
            continue;
        PyErr_Format(PyExc_TypeError, "%s: %s is missing", table->name,
                     table->fields[i].name);
        return -1;
    }
    return 0;
}

int nsd_take_field(const struct nsd_field_table *table, const char *name,
                   PyObject *value, void *base)
{
    int i = 0;

    while (strcmp(table->fields[i].name, name) != 0)
        i++;
    return take(&table->fields[i], value, base);
}

int nsd_intern_names(const struct nsd_field_table *table, struct module_state *state)
{
    for (int i = 0; i < table->count; i++) {
        PyObject *name = PyUnicode_InternFromString(table->fields[i].name);

        if (name == NULL)
            return -1;
        state->names[table->number][i] = name;
    }
    return 0;
}

PyObject *nsd_fields_as_tuple(const struct nsd_field *fields, int count)
{
    static const char *const types[] = {
        [NSD_KIND_FLAG] = "bool",     [NSD_KIND_NUMBER] = "int",
        [NSD_KIND_TEXT] = "bytes",    [NSD_KIND_PROGRAM] = "bytes",
        [NSD_KIND_OBJECT] = "object", [NSD_KIND_ROW] = "row",
        [NSD_KIND_ROWS] = "rows",
    };
    PyObject *tuple = PyTuple_New(count);

    for (int i = 0; tuple != NULL && i < count; i++) {
        const struct nsd_field *field = &fields[i];
        PyObject *item = Py_BuildValue(
            "(ssN)", field->name, field->or_none ? "bytes | None" : types[field->kind],
            nsd_fields_as_tuple(field->columns, field->column_count));

        if (item == NULL || PyTuple_SetItem(tuple, i, item) < 0)
            Py_CLEAR(tuple);
    }
    return tuple;
}
