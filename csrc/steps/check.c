/* check.c - may this step be performed at all? What its numbers point at is there.
 *
 * The core asks while a plan is built, and whoever performs it asks again: a number that leads
 * behind an array would change memory that decides what happens next.
 */
#include "steps.h"

#include <linux/sched.h>

#define NAMESPACES                                                                     \
    (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER |     \
     CLONE_NEWPID | CLONE_NEWNET)
#define LONGEST_FILE 32 /* of /proc/PID */

/* What a step cannot do without: a slot for each number, but for the one that may be -1; and the
 * texts that are there. What is in no slot the kernel judges. */
enum kind {
    ANY,
    A_SLOT,
    A_SLOT_OR_NONE,
};

static const struct {
    unsigned char number[3]; /* enum kind */
    bool text[4];
} needed[] = {
#define ROW(name, word, function, way, numbers, texts) {{numbers}, {texts}},
#define NUMBER(name) ANY,
#define INNER(name) ANY,
#define NO_NUMBER ANY,
#define SLOT(name) A_SLOT,
#define OPTIONAL_SLOT(name) A_SLOT_OR_NONE,
#define TEXT(name) true,
#define OPTIONAL_TEXT(name) false,
#define BYTES(name) false,
#define NO_TEXT false,
#include "../operations.def"
};

static bool is_slot(int64_t number)
{
    return number >= 0 && number < NSD_SLOTS;
}

/* The directories of an overlay, and the root that it covers. */
static bool has_directories(const struct nsd_step *step)
{
    int64_t packed = step->number[2];
    int64_t end = NSD_OVERLAY_FIRST(packed) + NSD_OVERLAY_LOWER(packed);

    if ((packed & NSD_OVERLAY_UPPER) != 0)
        end += 2;
    if ((packed & NSD_OVERLAY_IS_ROOT) != 0 && !is_slot(step->number[1]))
        return false;
    return NSD_OVERLAY_LOWER(packed) > 0 && end <= NSD_SLOTS;
}

/* As many things of that size lie behind the offset. */
static bool has_room(const struct nsd_step *step, uint32_t text_size, uint32_t most,
                     uint32_t size)
{
    int64_t count = step->number[0];

    if (count == 0)
        return true;
    return count > 0 && count <= most && step->text[0] != 0 &&
           (uint64_t)count * size <= text_size - step->text[0];
}

static bool is_short(const char *name)
{
    for (int i = 0; i < LONGEST_FILE; i++)
        if (name[i] == '\0')
            return true;
    return false;
}

static bool is_sound(const struct nsd_step *step, const char *text, uint32_t text_size)
{
    if (step->operation == NSD_CLONE)
        return (step->number[0] & ~(int64_t)NAMESPACES) == 0 && step->number[1] >= 0 &&
               step->number[1] <= NSD_ENDS_GROUP;
    if (step->operation == NSD_MAP_IDS)
        return is_short(text + step->text[0]);
    if (step->operation == NSD_OVERLAY_AT)
        return has_directories(step);
    if (step->operation == NSD_LAYER_AT)
        return step->number[0] >= 0 && step->number[0] <= NSD_LAYER_FILE &&
               step->number[2] >= 0;
    if (step->operation == NSD_READONLY)
        return step->number[0] >= 0 && step->number[0] <= NSD_READONLY_ALL;
    if (step->operation == NSD_CHROOT)
        return step->text[0] != 0 || is_slot(step->number[0]);
    if (step->operation == NSD_SETGROUPS)
        return has_room(step, text_size, 65536, sizeof(uint32_t));
    if (step->operation == NSD_SECCOMP)
        return has_room(step, text_size, 65535, 8);
    return true;
}

long nsd_check_step(const struct nsd_step *step, const char *text, uint32_t text_size)
{
    if (step->operation >= NSD_OPERATION_COUNT || (step->flags & ~NSD_STEP_FLAGS) != 0)
        return -EINVAL;
    for (int i = 0; i < 3; i++) {
        enum kind kind = (enum kind)needed[step->operation].number[i];

        if (kind == ANY || is_slot(step->number[i]))
            continue;
        if (kind == A_SLOT || step->number[i] != -1)
            return -EINVAL;
    }
    for (int i = 0; i < 4; i++)
        if (step->text[i] == 0 ? needed[step->operation].text[i]
                               : step->text[i] >= text_size)
            return -EINVAL;
    return is_sound(step, text, text_size) ? 0 : -EINVAL;
}

bool nsd_needs_slot(const struct nsd_step *step, int slot)
{
    if (step->operation == NSD_OVERLAY_AT)
        return true; /* a range of them */
    if (step->operation == NSD_TERMINAL && slot == NSD_TERMINAL_SLOT)
        return true;
    if (step->operation == NSD_HAND_OVER && slot == NSD_SOCKET_SLOT)
        return true;
    for (int i = 0; i < 3; i++)
        if (needed[step->operation].number[i] != ANY && step->number[i] == slot)
            return true;
    return false;
}
