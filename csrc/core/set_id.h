/* set_id.h - does a command change who runs it? Then the kernel forgets whom to end with the
 * thread that started it (PR_SET_PDEATHSIG), and a watchdog is needed. Most launches find out
 * themselves (nsd_looks_at_command); this is asked beforehand for those that cannot. */
#ifndef NSD_SET_ID_H
#define NSD_SET_ID_H

/* Of a path as somebody sees it whose root is given, and whose working directory is cwd: 1: it
 * is set-user-ID or set-group-ID, or nobody can tell here; 0: it is not; -ENOENT, -ENOTDIR:
 * there is none, execvp would try the next. */
int nsd_is_set_id(int root, const char *cwd, const char *path);

#endif
