/* text.h - text for the kernel, put together without a libc: who calls has the room for it. */
#ifndef NSD_TEXT_H
#define NSD_TEXT_H

#include <stddef.h>
#include <stdint.h>

/* Each writes at to, with a NUL, and returns where that is. */
char *nsd_append(char *to, const char *text);
char *nsd_append_number(char *to, uint64_t number);

size_t nsd_length(const char *text);

#endif
