/* sys.h - the kernel, without a C library.
 *
 * A system call is an instruction and some registers. Each wrapper returns what the kernel
 * returned: a value, or -errno. There is no errno variable here, no malloc, no stdio.
 */
#ifndef NSD_SYS_H
#define NSD_SYS_H

#include "../counter.h"

#include <asm/unistd.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__x86_64__)

static inline long sys6(long nr, long a, long b, long c, long d, long e, long f)
{
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long ret;

    __asm__ volatile("syscall"
                     : "=a"(ret)
                     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return ret;
}

#elif defined(__aarch64__)

static inline long sys6(long nr, long a, long b, long c, long d, long e, long f)
{
    register long x8 __asm__("x8") = nr;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;

    __asm__ volatile("svc 0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                     : "memory");
    return x0;
}

#else
#error "nsdemo runs on x86_64 and aarch64"
#endif

#define sys_word(x) ((long)(x))
#define sys0(nr) sys6(nr, 0, 0, 0, 0, 0, 0)
#define sys1(nr, a) sys6(nr, sys_word(a), 0, 0, 0, 0, 0)
#define sys2(nr, a, b) sys6(nr, sys_word(a), sys_word(b), 0, 0, 0, 0)
#define sys3(nr, a, b, c) sys6(nr, sys_word(a), sys_word(b), sys_word(c), 0, 0, 0)
#define sys4(nr, a, b, c, d)                                                           \
    sys6(nr, sys_word(a), sys_word(b), sys_word(c), sys_word(d), 0, 0)
#define sys5(nr, a, b, c, d, e)                                                        \
    sys6(nr, sys_word(a), sys_word(b), sys_word(c), sys_word(d), sys_word(e), 0)

#endif
