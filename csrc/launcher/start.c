/* start.c - _start, and the life of the launcher, stage by stage.
 *
 * It performs those plans that must not be performed in borrowed memory (core/launch/direct.c).
 *
 *     first process   exec'd by Python's vfork child, before there is another root, or anything
 *        |            joined; opens, unshares or joins, writes id maps;
 *        |            a thread of it may give power up
 *        |-- fork --> second process, a direct child of Python (CLONE_PARENT)
 *        |               mounts, changes the root, drops power, executes the command,
 *        |               or stays as init and lets a third process do so
 *        '-- then it ends, or stays as the watchdog
 *
 * A plan without a fork step is performed and executed by the first process alone.
 *
 * This program has no libc: no malloc, no stdio, no errno, no stack protector, no TLS.
 * Whatever needs thought was done by the core before; whatever needs words comes after.
 */
#include "launcher.h"

#include <linux/errno.h>
#include <linux/fcntl.h>
#include <linux/futex.h>
#include <linux/mman.h>
#include <linux/sched.h>
#include <linux/signal.h>
#include <linux/time_types.h>

#define PROT_RW (PROT_READ | PROT_WRITE)

/* In one page, all but the mounts that are held. */
static struct {
    struct robust_list_head holding;
    struct robust_list held;
    uintptr_t
        image; /* where the program begins; 0: it is not known, or pages are larger */
    struct nsd_launch launch;
} ours __attribute__((aligned(NSD_PAGE)));

_Static_assert(sizeof(struct nsd_trace) <= NSD_PAGE, "wards begin on page 1");

#if defined(__x86_64__)
__asm__(".globl _start\n"
        "_start:\n"
        "    xor %ebp, %ebp\n"
        "    mov %rsp, %rdi\n"
        "    and $-16, %rsp\n"
        "    call nsd_main\n"
        ".globl sys_clone\n"
        "sys_clone:\n" /* flags, stack, parent_tid, entry, argument */
        "    sub $16, %rsi\n"
        "    mov %rcx, (%rsi)\n"
        "    mov %r8, 8(%rsi)\n"
        "    xor %r10, %r10\n"
        "    xor %r8, %r8\n"
        "    mov $56, %eax\n"
        "    syscall\n"
        "    test %rax, %rax\n"
        "    jnz 1f\n"
        "    xor %ebp, %ebp\n"
        "    pop %rax\n"
        "    pop %rdi\n"
        "    call *%rax\n"
        "    ud2\n"
        "1:  ret\n");
#elif defined(__aarch64__)
__asm__(".globl _start\n"
        "_start:\n"
        "    mov x29, #0\n"
        "    mov x30, #0\n"
        "    mov x0, sp\n"
        "    bl nsd_main\n"
        ".globl sys_clone\n"
        "sys_clone:\n"
        "    stp x3, x4, [x1, #-16]!\n"
        "    mov x3, #0\n"
        "    mov x4, #0\n"
        "    mov x8, #220\n"
        "    svc #0\n"
        "    cbnz x0, 1f\n"
        "    mov x29, #0\n"
        "    ldp x1, x0, [sp], #16\n"
        "    blr x1\n"
        "    brk #0\n"
        "1:  ret\n");
#endif

/* Tells Python that the command has been executed. */
void nsd_announce(struct nsd_launch *launch)
{
    __atomic_store_n(&launch->trace->state, NSD_LAUNCHED, __ATOMIC_RELEASE);
    sys3(__NR_futex, &launch->trace->state, FUTEX_WAKE, 1);
}

static struct nsd_result *result_of(struct nsd_launch *launch, uint32_t index)
{
    return &launch->results[index];
}

static _Noreturn void give_up(struct nsd_launch *launch)
{
    launch->trace->failed = 1;
    if (launch->in_thread)
        sys1(__NR_exit, 1); /* the process gives up, which has power to undo */
    nsd_dismiss_helper(launch);
    if (launch->self == NSD_FIRST)
        nsd_unpin_all(launch);
    nsd_exit(1);
}

static _Noreturn void proceed(struct nsd_launch *launch, uint32_t index);

/* What the new process continues with; it shares or owns a copy of this memory. */
struct continuation {
    struct nsd_launch *launch;
    enum nsd_process self;
    uint32_t index;
    bool apart;
    struct nsd_trace *notes; /* of who goes apart */
};

static void continue_after_fork(void *argument)
{
    struct continuation *next = argument;

    next->launch->self = next->self;
    if (next->notes != NULL) {
        next->launch->trace = next->notes;
        next->launch->results = next->notes->results;
    }
    if (next->apart) {
        next->launch->in_thread = false;
        if (nsd_is_seen_inside(next->launch, next->index))
            nsd_forget_closed(next->launch, next->index);
    }
    result_of(next->launch, next->index)->end = nsd_counter();
    proceed(next->launch, next->index + 1);
}

static bool has_step(const struct nsd_launch *launch, enum nsd_operation operation)
{
    for (uint32_t i = 0; i < launch->head->step_count; i++)
        if (launch->steps[i].operation == operation)
            return true;
    return false;
}

/* The kernel would end the command with its parent, but for a set-user-ID program. Should this
 * fail, the parent has gone, which is looked for anyway. */
static void watch_after_all(struct nsd_launch *launch)
{
    const struct nsd_step watch = {
        .operation = NSD_WATCH,
        .number = {has_step(launch, NSD_SETSID)},
    };

    nsd_perform(launch, &watch);
}

/* The kernel changes the user or time namespace only of a process that shares its memory
 * with nobody. */
static int needs_memory_of_its_own(const struct nsd_launch *launch, uint32_t index)
{
    for (; index < launch->head->step_count; index++) {
        const struct nsd_step *step = &launch->steps[index];

        if ((step->operation == NSD_UNSHARE &&
             (step->number[0] & (CLONE_NEWUSER | CLONE_NEWTIME)) != 0) ||
            (step->operation == NSD_JOIN &&
             (step->number[1] & (CLONE_NEWUSER | CLONE_NEWTIME)) != 0))
            return 1;
    }
    return 0;
}

/* Before Linux 6.2 who has made a time namespace for its children cannot share memory with them:
 * the child gets a copy. */
static long fork_on(unsigned long flags, char *stack, int32_t *pid,
                    struct continuation *next)
{
    long found = sys_clone(flags, stack, pid, continue_after_fork, next);

    if (found == -EINVAL && (flags & CLONE_VM) != 0)
        found = sys_clone(flags & ~(unsigned long)CLONE_VM, stack, pid,
                          continue_after_fork, next);
    return found;
}

/* With vfork we sleep until the command has been executed or given up; an init executes nothing,
 * so it gets memory of its own and announces the command itself. */
static long clone_second(struct nsd_launch *launch, uint32_t index)
{
    static struct continuation next;
    bool with_init = has_step(launch, NSD_INIT);
    bool apart = !with_init && nsd_goes_apart(launch, index);
    unsigned long flags = CLONE_PARENT | CLONE_PARENT_SETTID | SIGCHLD;
    long pid;

    next = (struct continuation){launch, NSD_SECOND, index, apart, NULL};
    if (apart) {
        long ret = nsd_make_notes(launch, index, &next.notes);

        if (ret < 0)
            return ret;
        if (nsd_is_seen_inside(launch, index))
            nsd_close_for_inside(launch, index);
    }
    if (!with_init)
        flags |= CLONE_VFORK;
    if (!with_init && !apart && !needs_memory_of_its_own(launch, index))
        flags |= CLONE_VM;
    pid = fork_on(flags, nsd_stacks.second + NSD_STACK_SIZE, &launch->trace->command,
                  &next);
    if (next.notes != NULL && pid >= 0)
        nsd_take_notes(launch, next.notes, index);
    return pid;
}

/* What was closed for the second process is opened again, if it is still our parent. */
static void watch_again(struct nsd_launch *launch, uint32_t index)
{
    bool watched = launch->parent >= 0;

    if (launch->in_thread || !nsd_goes_apart(launch, index) ||
        !nsd_is_seen_inside(launch, index))
        return;
    nsd_forget_closed(launch, index);
    if (watched)
        watch_after_all(launch);
    if (watched && launch->parent < 0)
        sys2(__NR_kill, launch->command, SIGKILL);
}

/* The second process lives, or has failed: the first ends or watches. */
static _Noreturn void end_or_watch(struct nsd_launch *launch)
{
    if (!has_step(launch, NSD_INIT)) {
        struct nsd_result *exec = result_of(launch, launch->head->step_count - 1);
        uint64_t executed = nsd_counter();

        if (launch->trace->failed || exec->process == NSD_NOBODY)
            give_up(launch);
        if (launch->trace->is_set_id)
            watch_after_all(launch);
        /* The parent may have died before the kernel was asked to tell. */
        if (has_step(launch, NSD_DIE_WITH_PARENT) &&
            sys0(__NR_getppid) != launch->head->parent)
            sys2(__NR_kill, launch->command, SIGKILL);
        exec->end =
            executed; /* nothing is left to do: core/launch/settle.c looks for it */
        if (launch->parent < 0)
            nsd_exit(0); /* which announces it as well */
        nsd_announce(launch);
        sys2(__NR_munmap, launch->trace, launch->trace_size);
    }
    /* Under init the robust futex is still needed: init may die before it announces. */
    nsd_stay_as_watchdog(launch);
}

/* The first process clones the second. */
static _Noreturn void fork_second(struct nsd_launch *launch, uint32_t index)
{
    long pid = clone_second(launch, index);

    if (pid < 0) {
        result_of(launch, index)->error = (int32_t)-pid;
        give_up(launch);
    }
    result_of(launch, index)->value = pid;
    launch->command = (int32_t)pid;
    watch_again(launch, index);
    if (launch->in_thread)
        sys1(__NR_exit, 0);
    end_or_watch(launch);
}

static void continue_in_thread(void *argument)
{
    struct continuation *next = argument;

    result_of(next->launch, next->index)->end = nsd_counter();
    proceed(next->launch, next->index + 1);
}

/* The thread gives up power, clones the second process, and is gone before we go on. */
static _Noreturn void go_on_in_thread(struct nsd_launch *launch, uint32_t index)
{
    static struct continuation next;
    struct nsd_result *result = result_of(launch, index);
    long ret;

    next = (struct continuation){launch, NSD_FIRST, index, false, NULL};
    launch->in_thread = true;
    ret =
        sys_clone(CLONE_VM | CLONE_VFORK | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM,
                  nsd_stacks.thread + NSD_STACK_SIZE, NULL, continue_in_thread, &next);
    launch->in_thread = false;
    if (ret < 0)
        result->error = (int32_t)-ret;
    else
        result->value = ret;
    if (ret < 0 || launch->trace->failed)
        give_up(launch);
    end_or_watch(launch);
}

static _Noreturn void fork_third(struct nsd_launch *launch, uint32_t index)
{
    static struct continuation next;
    struct nsd_result *exec = result_of(launch, launch->head->step_count - 1);
    long pid;

    next = (struct continuation){launch, NSD_THIRD, index, false, NULL};
    sys2(__NR_rt_sigpending, &launch->pending, sizeof(launch->pending));
    pid = fork_on(CLONE_VM | CLONE_VFORK | CLONE_PARENT_SETTID | SIGCHLD,
                  nsd_stacks.third + NSD_STACK_SIZE, &launch->trace->command_inner,
                  &next);
    launch->self = NSD_SECOND;
    if (pid < 0)
        result_of(launch, index)->error = (int32_t)-pid;
    if (pid < 0 || launch->trace->failed)
        nsd_exit(1);
    result_of(launch, index)->value = pid;
    exec->end = nsd_counter();
    nsd_stay_as_init(launch, pid);
}

/* What comes behind a filter is judged by it, so that is nothing of ours. */
static bool is_last_but_command(const struct nsd_launch *launch, uint32_t index)
{
    while (index < launch->head->step_count - 1 &&
           launch->steps[index].operation == NSD_SECCOMP)
        index++;
    return index == launch->head->step_count - 1;
}

static void refuse(struct nsd_launch *launch, uint32_t index, int32_t error)
{
    struct nsd_result *result = result_of(launch, index);

    result->process = launch->self;
    result->start = result->end = nsd_counter();
    result->error = error;
}

/* The plan executes nothing: what was to be done is done. */
static _Noreturn void end(struct nsd_launch *launch, uint32_t index)
{
    struct nsd_result *result = result_of(launch, index);

    result->process = launch->self;
    result->start = result->end = nsd_counter();
    nsd_exit(0);
}

static _Noreturn void proceed(struct nsd_launch *launch, uint32_t index)
{
    for (; index < launch->head->step_count; index++) {
        uint32_t operation = launch->steps[index].operation;
        struct nsd_result *result = result_of(launch, index);

        if (launch->self == NSD_FIRST && operation == NSD_FORK)
            nsd_default_signals(launch);
        if (operation == NSD_SECCOMP) {
            long ret =
                is_last_but_command(launch, index) ? nsd_get_ready(launch) : -EINVAL;

            if (ret < 0) {
                refuse(launch, index, (int32_t)-ret);
                break;
            }
        }
        if (operation == NSD_EXEC) {
            nsd_execute(launch);
            break;
        }
        if (operation == NSD_END)
            end(launch, index);
        if (operation == NSD_FORK || operation == NSD_INIT || operation == NSD_GUARD ||
            operation == NSD_THREAD) {
            result->process = launch->self;
            result->start = nsd_counter();
        }
        if (operation == NSD_FORK)
            fork_second(launch, index);
        if (operation == NSD_THREAD)
            go_on_in_thread(launch, index);
        if (operation == NSD_INIT)
            fork_third(launch, index);
        if (operation == NSD_GUARD)
            nsd_stand_guard(launch, result);
        if (!nsd_perform_noted(launch, index))
            break;
    }
    give_up(launch);
}

/* Registers a robust futex. The kernel marks it and wakes its waiter when this process dies or
 * executes the command: no descriptor that somebody's fork could keep open, nothing to forget
 * on any way out. */
void nsd_hold(uint32_t *futex)
{
    ours.held.next = (struct robust_list *)&ours.holding;
    ours.holding.list.next = &ours.held;
    ours.holding.futex_offset = (long)((uintptr_t)futex - (uintptr_t)&ours.held);
    sys2(__NR_set_robust_list, &ours.holding, sizeof(ours.holding));
}

/* Reads a number and wipes it: ps shows these arguments as long as somebody stays. */
static long take_number(char *text)
{
    long value = 0;

    for (; *text >= '0' && *text <= '9'; *text++ = '\0')
        value = value * 10 + (*text - '0');
    return value;
}

/* The trace at the beginning of a file, if it is one of ours. */
static int take_trace(struct nsd_launch *launch, struct nsd_trace *trace, size_t size)
{
    if (size < NSD_PAGE || trace->magic != NSD_MAGIC || trace->plan_offset >= size)
        return -1;
    launch->trace = trace;
    launch->results = trace->results;
    launch->trace_size = trace->plan_offset;
    launch->plan_size = size - launch->trace_size;
    return 0;
}

_Noreturn void nsd_main(uintptr_t *stack); /* called by _start alone */

/* Somebody inside may look at us from the first moment on that there is an inside. Only who has yet
 * to write its own id maps, or clocks, may not be hidden: then a step hides it. */
static void hide_at_once(struct nsd_launch *launch, uint32_t index)
{
    const struct nsd_step hide = {.operation = NSD_HIDE};
    long ret;

    for (; index < launch->head->step_count; index++)
        if (launch->steps[index].operation == NSD_WRITE_PROC ||
            launch->steps[index].operation == NSD_MAP_IDS)
            return;
    ret = nsd_perform(launch, &hide);
    if (ret < 0) /* no step of the plan has failed, and none is performed */
        nsd_exit(NSD_NOT_TAKEN - (int)ret);
}

/* For whoever runs this program by hand, or as a container's "#!/proc/self/exe". */
static _Noreturn void explain(void)
{
    static const char words[] = "nsdemo-start: this is the part of nsdemo that starts "
                                "commands; by itself it does "
                                "nothing\n";

    sys3(__NR_write, 2, words, sizeof(words) - 1);
    nsd_exit(125);
}

/* Arguments: the descriptor of the plan's file, its size, and the first step to perform. */
_Noreturn void nsd_main(uintptr_t *stack)
{
    char **argv = (char **)(stack + 1);
    long fd, size, first, base;

    if (stack[0] != 4)
        explain();
    fd = take_number(argv[1]);
    size = take_number(argv[2]);
    first = take_number(argv[3]);
    base = sys6(__NR_mmap, 0, size, PROT_RW, MAP_SHARED, fd, 0);
    if (base == -EBADF || base == -ENODEV || base == -EINVAL)
        explain();
    sys1(__NR_close, fd);
    if (base < 0 && base > -4096)
        nsd_exit(NSD_NOT_TAKEN - (int)base); /* there is no trace to note it in */
    nsd_find_image(&ours.launch, stack);
    ours.launch.name = argv[0];
    ours.launch.self = NSD_FIRST;
    if (take_trace(&ours.launch, (struct nsd_trace *)base, (size_t)size) < 0)
        explain();
    nsd_hold(&ours.launch.trace->state);
    ours.launch.head = (struct nsd_plan_head *)(base + (long)ours.launch.trace_size);
    if (!nsd_lay_out(&ours.launch) || first >= (long)ours.launch.head->step_count)
        explain();
    ours.launch.ignored = &ours.launch.trace->ignored;
    hide_at_once(&ours.launch, (uint32_t)first);
    proceed(&ours.launch, (uint32_t)first);
}
