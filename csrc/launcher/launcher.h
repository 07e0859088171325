/* launcher.h - what the launcher's files share. */
#ifndef NSD_LAUNCHER_H
#define NSD_LAUNCHER_H

#include "../steps/steps.h"

/* A clone whose child runs entry(argument) on a stack of its own and never returns; in
 * start.c, because the stack changes under the compiler's feet. */
long sys_clone(unsigned long flags, void *stack_top, int32_t *parent_tid,
               void (*entry)(void *), void *argument);

/* init.c: those that stay. None returns. */
_Noreturn void nsd_stay_as_watchdog(struct nsd_launch *launch);
_Noreturn void nsd_stay_as_init(struct nsd_launch *launch, long command);
_Noreturn void nsd_stand_guard(struct nsd_launch *launch, struct nsd_result *result);

/* start.c */
_Noreturn void nsd_exit(int status);
void nsd_announce(struct nsd_launch *launch);
void nsd_hold(uint32_t *futex);

#endif
