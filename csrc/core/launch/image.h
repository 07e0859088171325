/* image.h - the launcher as a file that can be executed and that nobody can change.
 *
 * The bytes are carried in the module (made by setup.py). The first launch that needs them
 * writes them into a sealed memfd, which the process keeps: 25 microseconds less for each
 * launch after it. All of it may run in the vfork child (vfork.c), so nothing here asks libc.
 */
#ifndef NSD_IMAGE_H
#define NSD_IMAGE_H

#include "kept.h"

#include <stddef.h>

extern const unsigned char nsd_image[];
extern const size_t nsd_image_size;

/* The file that the process keeps, made if there is none. No file where memfds are refused. */
struct nsd_kept nsd_image_kept(void);

/* Becomes the launcher: by the kept file, or else one made for this time alone. Never by a path:
 * who may write to a file there could write what runs outside of its container. Returns a
 * negative errno. */
long nsd_image_execute(const struct nsd_kept *kept, char *const argv[]);

#endif
