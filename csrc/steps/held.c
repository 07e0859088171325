/* held.c - the mounts that a plan has made, each by a descriptor, until the root changes.
 *
 * Who owns a root may rename what is in it while it is set up: a name that led to a mount a
 * moment ago leads elsewhere now. So a step that works on what an earlier one mounted begins at
 * the descriptor of that, and looks up only what is left of its path.
 */
#include "held.h"

#include <linux/fcntl.h>

/* A path in two parts, a root and a target in it; both may be absent. */
struct path {
    const char *part, *next;
};

static struct path path_of(const char *root, const char *target)
{
    if (root == NULL)
        return (struct path){target == NULL ? "" : target, NULL};
    return (struct path){root, target};
}

/* To the next name; false: there is none. */
static bool go_on(struct path *path)
{
    for (;;) {
        while (*path->part == '/')
            path->part++;
        if (*path->part != '\0' || path->next == NULL)
            return *path->part != '\0';
        path->part = path->next;
        path->next = NULL;
    }
}

static bool take_same_name(struct path *a, struct path *b)
{
    while (*a->part == *b->part && *a->part != '\0' && *a->part != '/') {
        a->part++;
        b->part++;
    }
    return (*a->part == '\0' || *a->part == '/') &&
           (*b->part == '\0' || *b->part == '/');
}

/* Does a path lead to another one, or below it? Then it is what is left of it. */
static bool leads_below(struct path *path, struct path above)
{
    while (go_on(&above))
        if (!go_on(path) || !take_same_name(path, &above))
            return false;
    go_on(path);
    return true;
}

void nsd_forget(struct nsd_launch *launch, const char *root, const char *target)
{
    int kept = 0;

    for (int i = 0; i < launch->held_count; i++) {
        struct nsd_held *held = &launch->held[i];
        struct path path = path_of(held->root, held->target);

        if (leads_below(&path, path_of(root, target)))
            sys1(__NR_close, held->fd);
        else
            launch->held[kept++] = *held;
    }
    launch->held_count = kept;
}

long nsd_keep_mount(struct nsd_launch *launch, const char *root, const char *target,
                    long fd)
{
    nsd_forget(launch, root, target);
    if (launch->held_count == NSD_HELD)
        return close_after(fd, -E2BIG);
    launch->held[launch->held_count++] = (struct nsd_held){root, target, (int)fd};
    return 0;
}

/* The last mount that a path leads to, or through, and the rest of the path. */
static const struct nsd_held *find(const struct nsd_launch *launch, const char *root,
                                   const char *target, const char **ret_rest)
{
    for (int i = launch->held_count - 1; i >= 0; i--) {
        const struct nsd_held *held = &launch->held[i];
        struct path path = path_of(root, target);

        if (!leads_below(&path, path_of(held->root, held->target)) || path.next != NULL)
            continue;
        *ret_rest = path.part;
        return held;
    }
    return NULL;
}

long nsd_open_held(const struct nsd_launch *launch, const char *root,
                   const char *target, long slot, const char **ret_rest)
{
    const struct nsd_held *held = find(launch, root, target, ret_rest);

    if (held != NULL)
        return sys3(__NR_fcntl, held->fd, F_DUPFD_CLOEXEC, 0);
    *ret_rest = target;
    return nsd_open_root_again(launch, root == NULL ? "/" : root, slot);
}

/* The root itself, which has no target, was mounted by somebody else. */
long nsd_open_mount(const struct nsd_launch *launch, const struct nsd_step *step)
{
    const char *rest = NULL;
    const struct nsd_held *held =
        find(launch, nsd_text(launch, step, 3), nsd_text(launch, step, 1), &rest);

    return held == NULL || held->target == NULL || *rest != '\0'
               ? -ESTALE
               : sys3(__NR_fcntl, held->fd, F_DUPFD_CLOEXEC, 0);
}

void nsd_let_go(struct nsd_launch *launch)
{
    for (int i = 0; i < launch->held_count; i++)
        sys1(__NR_close, launch->held[i].fd);
    launch->held_count = 0;
}
