/* counter.h - the CPU's time-stamp counter, read by both sides of a launch. The core turns
 * its ticks into nanoseconds with two readings of the clock, before and after. */
#ifndef NSD_COUNTER_H
#define NSD_COUNTER_H

#include <stdint.h>

#if defined(__x86_64__)

static inline uint64_t nsd_counter(void)
{
    uint32_t low, high;

    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
}

#elif defined(__aarch64__)

static inline uint64_t nsd_counter(void)
{
    uint64_t ticks;

    __asm__ volatile("isb; mrs %0, cntvct_el0" : "=r"(ticks));
    return ticks;
}

#else
#error "nsdemo runs on x86_64 and aarch64"
#endif

#endif
