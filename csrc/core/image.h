/* image.h - the launcher program, carried as bytes; made by setup.py. */
#ifndef NSD_IMAGE_H
#define NSD_IMAGE_H

#include <stddef.h>

extern const unsigned char nsd_image[];
extern const size_t nsd_image_size;

#endif
