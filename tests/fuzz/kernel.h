/* kernel.h - a kernel that answers as the fuzzer likes. Compiled before csrc/steps/sys.h, which
 * it takes the place of, so that the steps run as they are written, in a hosted program. */
#ifndef NSD_SYS_H
#define NSD_SYS_H

#include "counter.h"

#include <asm/unistd.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

long sys6(long nr, long a, long b, long c, long d, long e, long f);

#define sys_word(x) ((long)(x))
#define sys0(nr) sys6(nr, 0, 0, 0, 0, 0, 0)
#define sys1(nr, a) sys6(nr, sys_word(a), 0, 0, 0, 0, 0)
#define sys2(nr, a, b) sys6(nr, sys_word(a), sys_word(b), 0, 0, 0, 0)
#define sys3(nr, a, b, c) sys6(nr, sys_word(a), sys_word(b), sys_word(c), 0, 0, 0)
#define sys4(nr, a, b, c, d)                                                           \
    sys6(nr, sys_word(a), sys_word(b), sys_word(c), sys_word(d), 0, 0)
#define sys5(nr, a, b, c, d, e)                                                        \
    sys6(nr, sys_word(a), sys_word(b), sys_word(c), sys_word(d), sys_word(e), 0)

/* What is left of the input. */
struct input {
    const uint8_t *data;
    size_t size;
};

extern struct input input;

uint8_t take_byte(void);
void take(void *to, size_t size); /* zeros when there is no more */
char *take_text(size_t most);     /* malloc'ed, so that its end is known */

/* Runs a function on this kernel. False: it ended its process. Whatever it opened must be
 * closed again, or be one of those that keeps() knows. */
bool run_on_kernel(const uint8_t *data, size_t size, void (*function)(void),
                   bool (*keeps)(long fd));

bool is_open(long fd);

/* Of the target: the content of a file that is opened by this path ("socket": the second of a
 * pair); NULL: one of the kernel's answers. And what is executed. */
const char *content_of(const char *path, size_t *ret_size);
void see_execve(const char *path, char *const argv[], char *const envp[]);

#define INSIST(condition)                                                              \
    do {                                                                               \
        if (!(condition))                                                              \
            fail(#condition, __FILE__, __LINE__);                                      \
    } while (0)
_Noreturn void fail(const char *condition, const char *file, int line);

#endif
