/* files.c - what mounts= asks for, in the core's form. */
#include "binding.h"

#include "../core/files.h"

int nsd_take_files(PyObject *tuple, struct nsd_file **ret_files, int *ret_count)
{
    Py_ssize_t count = PyTuple_Size(tuple);
    struct nsd_file *files;

    *ret_files = NULL;
    *ret_count = 0;
    if (count <= 0)
        return count < 0 ? -1 : 0;
    files = PyMem_Calloc((size_t)count, sizeof(*files));
    if (files == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *source, *options;
        int kind;
        long long flags;

        if (!PyArg_ParseTuple(PyTuple_GetItem(tuple, i), "iLOyO", &kind, &flags,
                              &source, &files[i].target, &options) ||
            nsd_optional_bytes(source, &files[i].source) < 0 ||
            nsd_optional_bytes(options, &files[i].options) < 0) {
            PyMem_Free(files);
            return -1;
        }
        if (kind < 0 || kind >= NSD_FILE_KIND_COUNT) {
            PyErr_Format(PyExc_ValueError, "there is no kind of mount %d", kind);
            PyMem_Free(files);
            return -1;
        }
        files[i].kind = (enum nsd_file_kind)kind;
        files[i].flags = flags;
    }
    *ret_files = files;
    *ret_count = (int)count;
    return 0;
}
