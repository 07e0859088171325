/* fields.h - what C takes from Python by name.
 *
 * A row of a table says what a name is: its type, its limits, and the member of a struct that it
 * goes to. A row whose kind does not fit its member does not compile; a wrong name, a wrong
 * type, a number that does not fit, a NUL byte or too many rows is an exception that names it.
 * Bytes are borrowed from the arguments: for as long as the call lasts.
 */
#ifndef NSD_FIELDS_H
#define NSD_FIELDS_H

#include "binding.h"

#include <limits.h>
#include <stddef.h>

enum nsd_field_kind {
    NSD_KIND_FLAG,    /* bool */
    NSD_KIND_NUMBER,  /* int, between least and most */
    NSD_KIND_TEXT,    /* bytes without NUL */
    NSD_KIND_PROGRAM, /* bytes, instructions of BPF */
    NSD_KIND_OBJECT,  /* borrowed, too */
    NSD_KIND_ROW,  /* a tuple with the columns, which are members of the same struct */
    NSD_KIND_ROWS, /* a tuple of such tuples; of one column: of its values */
};

struct nsd_field {
    const char *name;
    enum nsd_field_kind kind;
    uint32_t at;       /* of the member */
    uint32_t size;     /* of a number, or of one of the rows */
    uint32_t count_at; /* of the member that says how many */
    uint32_t came_at;  /* of a bool that says that there is one; 0: none */
    bool or_none;      /* the text, which is NULL then */
    bool allocated;    /* the rows, by PyMem_Calloc: the member is a pointer */
    uint8_t needed;    /* a bit for each of those who cannot do without */
    int64_t least, most;
    const struct nsd_field *columns;
    int column_count;
};

struct nsd_field_table {
    const char *name; /* of the function, for its errors */
    enum nsd_table_number number;
    const struct nsd_field *fields;
    int count; /* at most NSD_MAX_FIELDS */
};

extern const struct nsd_field_table nsd_request_table, nsd_launch_table;

#define NSD_LENGTH(array) ((int)(sizeof(array) / sizeof((array)[0])))

#define NSD_AT(type, member, is)                                                       \
    (offsetof(type, member) + /* NOLINTNEXTLINE(bugprone-macro-parentheses): a type */ \
     0 * sizeof(char[_Generic(((type *)0)->member, is : 1)]))

#define NSD_FLAG(label, type, member, ...)                                             \
    {                                                                                  \
        .name = (label), .kind = NSD_KIND_FLAG, .at = NSD_AT(type, member, bool),      \
        __VA_ARGS__                                                                    \
    }
#define NSD_SIZED(label, type, member, is, from, to, ...)                              \
    {                                                                                  \
        .name = (label), .kind = NSD_KIND_NUMBER, .at = NSD_AT(type, member, is),      \
        .size = sizeof(is), .least = (from), .most = (to), __VA_ARGS__                 \
    }
#define NSD_INT(label, type, member, ...)                                              \
    NSD_SIZED(label, type, member, int, INT_MIN, INT_MAX, __VA_ARGS__)
#define NSD_LONG(label, type, member, ...)                                             \
    NSD_SIZED(label, type, member, int64_t, INT64_MIN, INT64_MAX, __VA_ARGS__)
#define NSD_TEXT(label, type, member, ...)                                             \
    {                                                                                  \
        .name = (label), .kind = NSD_KIND_TEXT,                                        \
        .at = NSD_AT(type, member, const char *), __VA_ARGS__                          \
    }
#define NSD_TEXT_OR_NONE(label, type, member, ...)                                     \
    NSD_TEXT(label, type, member, .or_none = true, __VA_ARGS__)
#define NSD_PROGRAM(label, type, member, counted, ...)                                 \
    {                                                                                  \
        .name = (label), .kind = NSD_KIND_PROGRAM,                                     \
        .at = NSD_AT(type, member, const void *),                                      \
        .count_at = NSD_AT(type, counted, uint32_t), __VA_ARGS__                       \
    }
#define NSD_OBJECT(label, type, member, ...)                                           \
    {                                                                                  \
        .name = (label), .kind = NSD_KIND_OBJECT,                                      \
        .at = NSD_AT(type, member, PyObject *), __VA_ARGS__                            \
    }
#define NSD_ROW(label, of, ...)                                                        \
    {                                                                                  \
        .name = (label), .kind = NSD_KIND_ROW, .columns = (of),                        \
        .column_count = NSD_LENGTH(of), __VA_ARGS__                                    \
    }
/* A member that is an array of as many as there may be, or a pointer to them. */
#define NSD_ROWS(label, type, member, is, of, limit, counted, ...)                     \
    {                                                                                  \
        .name = (label), .kind = NSD_KIND_ROWS, .at = NSD_AT(type, member[0], is),     \
        .size = sizeof(is), .count_at = NSD_AT(type, counted, int), .most = (limit),   \
        .columns = (of), .column_count = NSD_LENGTH(of), __VA_ARGS__                   \
    }
#define NSD_ALLOCATED(label, type, member, is, of, limit, counted, ...)                \
    {                                                                                  \
        .name = (label), .kind = NSD_KIND_ROWS, .at = NSD_AT(type, member, is *),      \
        .size = sizeof(is), .count_at = NSD_AT(type, counted, int), .allocated = true, \
        .most = (limit), .columns = (of), .column_count = NSD_LENGTH(of), __VA_ARGS__  \
    }

/* The keyword arguments of a call (values, and their names, a tuple or NULL) into base. needed:
 * which bit of .needed the call has. 0, or -1 with an exception set; what is allocated is the
 * caller's to free then, too. */
int nsd_take_fields(const struct nsd_field_table *table, struct module_state *state,
                    PyObject *const *values, PyObject *names, uint8_t needed,
                    void *base);

/* One of them, which must be in the table. */
int nsd_take_field(const struct nsd_field_table *table, const char *name,
                   PyObject *value, void *base);

/* The table as Python sees it: ((name, type, columns), ...) */
PyObject *nsd_fields_as_tuple(const struct nsd_field *fields, int count);

/* The names as strings of this interpreter. 0, or -1 with an exception set. */
int nsd_intern_names(const struct nsd_field_table *table, struct module_state *state);

#endif
