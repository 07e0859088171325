/* users.c - who is who in a new user namespace, from Python's objects to struct nsd_users. */
#include "binding.h"

#include <linux/sched.h>

/* users: None, or (uid_map, setgroups, gid_map, outside, newuidmap, newgidmap, owner_uid,
 * owner_gid, uid, gid): bytes or None, a bool, numbers or -1. The bytes are borrowed. */
int nsd_take_users(PyObject *object, struct nsd_users *users)
{
    PyObject *text[5];
    const char **to[] = {&users->uid_map, &users->setgroups, &users->gid_map,
                         &users->newuidmap, &users->newgidmap};
    long long owner_uid, owner_gid, uid, gid;
    int outside;

    if (object == Py_None)
        return 0;
    if (!PyArg_ParseTuple(object, "OOOpOOLLLL", &text[0], &text[1], &text[2], &outside,
                          &text[3], &text[4], &owner_uid, &owner_gid, &uid, &gid))
        return -1;
    for (int i = 0; i < 5; i++)
        if (nsd_optional_bytes(text[i], to[i]) < 0)
            return -1;
    users->outside = outside != 0;
    users->owner_uid = owner_uid;
    users->owner_gid = owner_gid;
    users->uid = uid;
    users->gid = gid;
    return 0;
}

/* users(users) -> Plan: a new user namespace, and who is who in it */
PyObject *nsd_plan_users(PyObject *object, PyObject *tuple)
{
    const struct plan_object *self = (struct plan_object *)object;
    struct nsd_builder builder;
    struct nsd_users users;

    nsd_users_init(&users);
    if (nsd_take_users(tuple, &users) < 0)
        return NULL;
    nsd_builder_copy(&builder, &self->builder);
    nsd_add_map_helper(&builder, &users);
    nsd_add_owner(&builder, &users);
    nsd_add_unshare(&builder, CLONE_NEWUSER);
    nsd_add_maps(&builder, &users);
    return nsd_plan_from_builder(Py_TYPE(object), &builder, self->keep);
}
