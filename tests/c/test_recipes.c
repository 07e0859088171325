/* The order of steps, request by request: golden lists. Order lives in core/recipes.c and
 * nowhere else; whoever changes it there says so here. */
#include "core/request.h"

#include "check.h"

#include "core/files.h"

#include <errno.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <unistd.h>

#define FIVE (CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID)

static const char *const words[] = {
#define ROW(name, word, function, way, numbers, texts) (word),
#include "operations.def"
};

/* The operations of a recipe in one line; "?" behind a tolerated one. */
static const char *in_words(const struct nsd_builder *builder)
{
    static char line[2048];
    size_t length = 0;

    CHECK_NUMBER(builder->error, 0);
    line[0] = '\0';
    for (uint32_t i = 0; i < builder->step_count; i++) {
        const struct nsd_step *step = &builder->steps[i];

        length += (size_t)snprintf(
            line + length, sizeof(line) - length, "%s%s%s", i == 0 ? "" : " ",
            words[step->operation],
            step->flags & (NSD_TOLERATES_EPERM | NSD_TOLERATES_EINVAL) ? "?" : "");
        CHECK(length < sizeof(line));
    }
    return line;
}

static const struct nsd_step *find(const struct nsd_builder *builder,
                                   enum nsd_operation operation)
{
    for (uint32_t i = 0; i < builder->step_count; i++)
        if (builder->steps[i].operation == (uint32_t)operation)
            return &builder->steps[i];
    UNREACHED("the operation is not in the recipe");
}

#define CHECK_SPAWN(request, expected)                                                 \
    do {                                                                               \
        struct nsd_builder builder_;                                                   \
        nsd_builder_init(&builder_);                                                   \
        nsd_recipe_spawn(&builder_, &(request));                                       \
        CHECK_TEXT(in_words(&builder_), expected);                                     \
        nsd_builder_free(&builder_);                                                   \
    } while (0)

static struct nsd_request the_container(void)
{
    struct nsd_request request;

    nsd_request_init(&request);
    request.unshare = FIVE;
    request.privileged = true;
    request.watch = true;
    request.mount_proc = true;
    request.new_session = true;
    return request;
}

static void the_container_of_the_tour(void)
{
    struct nsd_request request = the_container();

    CHECK_SPAWN(request, "clone propagation mount setsid drop_inheritable exec");
}

static void under_a_root_of_its_own(void)
{
    struct nsd_request request = the_container();
    struct nsd_builder builder;
    const struct nsd_step *step;

    request.root = "/srv/box";
    request.cwd = "/";
    request.hostname = "boxy";
    nsd_builder_init(&builder);
    nsd_recipe_spawn(&builder, &request);
    CHECK_TEXT(in_words(&builder), "clone open_root sethostname propagation bind mount "
                                   "pivot_root setsid drop_inheritable chdir exec");
    step = find(&builder, NSD_MOUNT);
    CHECK_TEXT(nsd_builder_text(&builder, step->text[2]), "proc");
    CHECK_TEXT(nsd_builder_text(&builder, step->text[3]), "/srv/box");
    CHECK_NUMBER(step->number[0], MS_NOSUID | MS_NODEV | MS_NOEXEC);
    CHECK_NUMBER(step->number[1], find(&builder, NSD_OPEN_ROOT)->number[0]);
    step = find(&builder, NSD_BIND);
    CHECK_TEXT(nsd_builder_text(&builder, step->text[0]), "/srv/box");
    CHECK_TEXT(nsd_builder_text(&builder, step->text[1]), "/srv/box");
    CHECK_NUMBER(step->number[1], find(&builder, NSD_OPEN_ROOT)->number[0]);
    CHECK_NUMBER(step->number[2], 1);
    CHECK_NUMBER(find(&builder, NSD_PROPAGATION)->number[0], MS_REC | MS_PRIVATE);
    CHECK_NUMBER(find(&builder, NSD_CLONE)->number[0], FIVE);
    CHECK_NUMBER(find(&builder, NSD_CLONE)->number[1], NSD_ENDS_COMMAND);
    nsd_builder_free(&builder);
}

static struct nsd_request in_a_user_namespace(void)
{
    struct nsd_request request = the_container();

    request.unshare |= CLONE_NEWUSER;
    return request;
}

static void own_ids_are_mapped_from_inside(void)
{
    struct nsd_request request = in_a_user_namespace();
    struct nsd_builder builder;

    request.users.uid_map = "1000 1000 1";
    request.users.setgroups = "deny";
    request.users.gid_map = "1001 1001 1";
    nsd_builder_init(&builder);
    nsd_recipe_spawn(&builder, &request);
    CHECK_TEXT(in_words(&builder), "clone write write write propagation mount setsid "
                                   "drop_inheritable exec");
    CHECK_TEXT(nsd_builder_text(&builder, builder.steps[1].text[1]), "1000 1000 1");
    CHECK_TEXT(nsd_builder_text(&builder, builder.steps[3].text[1]), "1001 1001 1");
    nsd_builder_free(&builder);
}

static void ranges_are_mapped_by_a_helper_outside(void)
{
    struct nsd_request request = in_a_user_namespace();
    struct nsd_builder builder;

    request.users.outside = true;
    request.users.uid_map = "0 100000 65536";
    request.users.gid_map = "0 100000 65536";
    request.users.newgidmap = "/usr/bin/newgidmap";
    CHECK_SPAWN(request, "watch map_helper unshare map_ids map_ids unshare hide fork "
                         "propagation mount setsid drop_inheritable exec");
    request.users.setgroups = "deny";
    request.users.owner_uid = request.users.owner_gid = 7;
    request.users.uid = request.users.gid = 0;
    nsd_builder_init(&builder);
    nsd_recipe_spawn(&builder, &request);
    CHECK_TEXT(in_words(&builder),
               "watch map_helper owner unshare map_ids map_ids map_ids become_root "
               "unshare hide fork propagation mount setsid drop_inheritable exec");
    CHECK_NUMBER(builder.steps[4].number[0], 0);
    CHECK_NUMBER(builder.steps[6].number[0], 1); /* the last: the helper may go */
    CHECK_TEXT(nsd_builder_text(&builder, builder.steps[6].text[2]),
               "/usr/bin/newgidmap");
    CHECK_NUMBER(builder.steps[4].text[2], 0);
    nsd_builder_free(&builder);
    request.users.uid = 5;
    request.users.gid = 6;
    request.fork = false;
    CHECK_SPAWN(request, "watch fork map_helper owner unshare map_ids map_ids map_ids "
                         "setgid setuid unshare hide propagation mount setsid "
                         "drop_inheritable exec");
}

/* What stays outside is cloned before the way leads anywhere. */
static void the_helper_stays_before_a_join(void)
{
    struct nsd_request request = in_a_user_namespace();

    request.users.outside = true;
    request.users.uid_map = request.users.gid_map = "0 100000 65536";
    request.unshare = CLONE_NEWUSER;
    request.mount_proc = false;
    request.joins[0] =
        (struct nsd_join){.process = {7, 1, -1}, .flags = CLONE_NEWPID | CLONE_NEWNET};
    request.join_count = 1;
    CHECK_SPAWN(request,
                "open_process watch map_helper hide join unshare map_ids map_ids fork "
                "setsid drop_inheritable exec");
}

static void chroot_instead_of_pivot_root(void)
{
    struct nsd_request request = the_container();

    request.root = "/srv/box";
    request.by_chroot = true;
    CHECK_SPAWN(request, "clone open_root propagation mount chroot setsid "
                         "drop_inheritable exec");
}

static void mounts_go_by_the_launcher_in_their_order(void)
{
    const struct nsd_file files[] = {
        {NSD_FILE_FILESYSTEM, MS_NOSUID, "tmpfs", "/tmp", "mode=755"},
        {NSD_FILE_BIND, MS_REC | MS_RDONLY, "/usr", "/usr", NULL},
        {NSD_FILE_BIND, 0, "/etc", "/etc", NULL},
    };
    struct nsd_request request = the_container();
    struct nsd_builder builder;
    const struct nsd_step *step;

    request.root = "/srv/box";
    request.files = files;
    request.file_count = 3;
    nsd_builder_init(&builder);
    nsd_recipe_spawn(&builder, &request);
    CHECK_TEXT(in_words(&builder),
               "clone open_root propagation open_source open_source bind mount "
               "mount_at bind_at bind_at pivot_root setsid drop_inheritable exec");
    step = find(&builder, NSD_MOUNT_AT);
    CHECK_TEXT(nsd_builder_text(&builder, step->text[0]), "mode=755");
    CHECK_TEXT(nsd_builder_text(&builder, step->text[1]), "/tmp");
    CHECK_TEXT(nsd_builder_text(&builder, step->text[2]), "tmpfs");
    CHECK_TEXT(nsd_builder_text(&builder, step->text[3]), "/srv/box");
    CHECK_NUMBER(step->number[0], MS_NOSUID);
    CHECK_NUMBER(step->number[1], 0);
    step = find(&builder, NSD_BIND_AT);
    CHECK_NUMBER(step->number[0], MS_REC | MS_RDONLY);
    CHECK_NUMBER(step->number[2], find(&builder, NSD_OPEN_SOURCE)->number[0]);
    CHECK_NUMBER(step[1].number[2], step->number[2] + 1);
    nsd_builder_free(&builder);
}

/* What is to lie on the new /proc, or below it, holds that; its owner may rename the place. */
static void a_proc_that_is_mounted_on_is_held(void)
{
    struct nsd_file files[] = {{NSD_FILE_BIND, 0, "/a", "/proc/cpuinfo", NULL}};
    struct nsd_request request = the_container();

    request.root = "/srv/box";
    request.by_chroot = true;
    request.watch = false;
    request.files = files;
    request.file_count = 1;
    CHECK_SPAWN(request, "clone open_root propagation open_source open_root mount_at "
                         "bind_at chroot setsid drop_inheritable exec");
    files[0].target = "/proc";
    CHECK_SPAWN(request, "clone open_root propagation open_source open_root mount_at "
                         "bind_at chroot setsid drop_inheritable exec");
    files[0].target = "/process";
    CHECK_SPAWN(request, "clone open_root propagation open_source open_root mount "
                         "bind_at chroot setsid drop_inheritable exec");
}

static void a_dev_is_many_steps(void)
{
    const struct nsd_file files[] = {
        {NSD_FILE_BIND, 0, "/usr", "/usr", NULL},
        {NSD_FILE_DEV, MS_NOSUID, NULL, "/dev", NULL},
        {NSD_FILE_BIND, 0, "/etc", "/etc", NULL},
    };
    struct nsd_place place = {.root_slot = -1, .first_source = 20, .has_ipc = true};
    struct nsd_builder builder;

    nsd_builder_init(&builder);
    nsd_add_files(&builder, files, 3, &place);
    CHECK_TEXT(
        in_words(&builder),
        "bind_at mount_at bind_at bind_at bind_at bind_at bind_at bind_at link_at "
        "link_at link_at link_at link_at mount_at mount_at mount_at bind_at");
    CHECK_TEXT(nsd_builder_text(&builder, builder.steps[2].text[1]), "/dev/null");
    CHECK_NUMBER(builder.steps[2].number[2], 21);
    CHECK_TEXT(nsd_builder_text(&builder, builder.steps[15].text[1]), "/dev/mqueue");
    CHECK_NUMBER(builder.steps[16].number[2], 27);
    nsd_builder_free(&builder);

    nsd_builder_init(&builder);
    place.has_ipc = false;
    nsd_add_files(&builder, files + 1, 1, &place);
    CHECK_NUMBER(builder.step_count, 14);
    nsd_builder_free(&builder);

    nsd_builder_init(&builder);
    nsd_add_sources(&builder, files, 3, &place);
    CHECK_NUMBER(builder.step_count, 8);
    CHECK_NUMBER(builder.steps[1].number[1], 0x103);
    CHECK_NUMBER(builder.steps[7].number[0], 27);
    nsd_builder_free(&builder);
}

static void overlays_come_after_their_directories(void)
{
    const struct nsd_file files[] = {
        {NSD_FILE_ROOT_OVERLAY, 0, "words", "/", "size=1m"},
        {NSD_FILE_LOWER, 0, "/a", "/o", NULL},
        {NSD_FILE_LOWER, 0, "/b", "/o", NULL},
        {NSD_FILE_UPPER, 0, "/c", "/o", NULL},
        {NSD_FILE_WORK, 0, "/d", "/o", NULL},
        {NSD_FILE_OVERLAY, MS_RDONLY, "words", "/o", NULL},
        {NSD_FILE_BIND, 0, "/usr", "/usr", NULL},
    };
    struct nsd_request request = the_container();
    struct nsd_builder builder;
    const struct nsd_step *step;

    request.root = "/srv/box";
    request.files = files;
    request.file_count = 7;
    nsd_builder_init(&builder);
    nsd_recipe_spawn(&builder, &request);
    CHECK_TEXT(in_words(&builder),
               "clone open_root propagation open_source open_source "
               "open_source open_source open_source open_root mount_at overlay_at "
               "hand_over mount overlay_at bind_at pivot_root setsid drop_inheritable "
               "exec");
    step = &builder.steps[8]; /* once more, in the new mount namespace */
    CHECK_TEXT(nsd_builder_text(&builder, step->text[0]), "/srv/box");
    CHECK_NUMBER(step->number[0], 0);
    CHECK_NUMBER(step->number[2], 1);
    step = &builder.steps[9];
    CHECK_TEXT(nsd_builder_text(&builder, step->text[0]), "size=1m");
    CHECK_TEXT(nsd_builder_text(&builder, step->text[1]), "/");
    CHECK_NUMBER(step->number[2], 1); /* no more rights than what it covers */
    step = &builder.steps[10];
    CHECK_NUMBER(step->number[2], 0 | 1 << 8 | NSD_OVERLAY_IS_ROOT);
    CHECK_TEXT(nsd_builder_text(&builder, step->text[2]), "");
    CHECK_NUMBER(builder.steps[11].number[0], NSD_UPPER_SLOT);
    CHECK_NUMBER(builder.steps[11].number[1], 0);
    step = &builder.steps[13];
    CHECK_NUMBER(step->number[0], MS_RDONLY);
    CHECK_NUMBER(step->number[2], NSD_FIRST_SOURCE | 2 << 8 | NSD_OVERLAY_UPPER);
    CHECK_NUMBER(builder.steps[14].number[2], NSD_FIRST_SOURCE + 4);
    nsd_builder_free(&builder);

    request.unshare |= CLONE_NEWUSER;
    nsd_builder_init(&builder);
    nsd_recipe_spawn(&builder, &request);
    step = find(&builder, NSD_OVERLAY_AT);
    CHECK_TEXT(nsd_builder_text(&builder, step->text[2]), ",userxattr");
    nsd_builder_free(&builder);
}

/* What is mounted below the root; and a root that is made anew, name for name. */
static void layers_come_after_the_overlay(void)
{
    struct nsd_file files[] = {
        {NSD_FILE_ROOT_OVERLAY, 0, "words", "/", "size=1m"},
        {NSD_FILE_LAYER, NSD_LAYER, NULL, "/data", NULL},
        {NSD_FILE_LAYER, NSD_LAYER_FILE, NULL, "/file", NULL},
        {NSD_FILE_LINK, 0, "usr/bin", "/", "bin"},
        {NSD_FILE_LAYER, NSD_LAYER, NULL, "/proc/x", NULL},
        {NSD_FILE_BIND, 0, "/usr", "/usr", NULL},
    };
    struct nsd_request request = the_container();
    struct nsd_builder builder;

    request.root = "/";
    request.files = files;
    request.file_count = 6;
    nsd_builder_init(&builder);
    nsd_recipe_spawn(&builder, &request);
    CHECK_TEXT(in_words(&builder),
               "clone open_root propagation open_source open_root mount_at overlay_at "
               "hand_over layer_at hand_over layer_at link_at layer_at hand_over mount "
               "bind_at pivot_root setsid drop_inheritable exec");
    CHECK_NUMBER(builder.steps[8].number[1], 0);
    CHECK_NUMBER(builder.steps[8].number[2], 1);
    CHECK_NUMBER(builder.steps[10].number[2], 2);
    CHECK_NUMBER(builder.steps[9].number[0], NSD_UPPER_SLOT);
    CHECK_NUMBER(builder.steps[9].number[1], NSD_LAYER_SLOT);
    nsd_builder_free(&builder);

    files[0].flags = 1;
    files[1] = (struct nsd_file){NSD_FILE_LAYER, NSD_LAYER_SKELETON, NULL, "/", NULL};
    request.unshare |= CLONE_NEWUSER;
    nsd_builder_init(&builder);
    nsd_recipe_spawn(&builder, &request);
    CHECK(strstr(in_words(&builder),
                 "open_root mount_at layer_at hand_over layer_at link_at layer_at "
                 "hand_over mount bind_at pivot_root") != NULL);
    CHECK_TEXT(nsd_builder_text(&builder, find(&builder, NSD_LAYER_AT)->text[2]),
               ",userxattr");
    nsd_builder_free(&builder);
}

static void a_read_only_root_is_closed_around_the_mounts(void)
{
    const struct nsd_file files[] = {
        {NSD_FILE_FILESYSTEM, 0, "tmpfs", "/tmp", NULL},
        {NSD_FILE_READONLY_ROOT, 0, NULL, "/", NULL},
    };
    struct nsd_request request = the_container();
    struct nsd_builder builder;

    request.root = "/srv/box";
    request.files = files;
    request.file_count = 2;
    nsd_builder_init(&builder);
    nsd_recipe_spawn(&builder, &request);
    CHECK_TEXT(in_words(&builder),
               "clone open_root propagation bind readonly mount mount_at readonly "
               "pivot_root setsid drop_inheritable exec");
    CHECK_NUMBER(builder.steps[4].number[0], NSD_READONLY_BELOW);
    CHECK_NUMBER(builder.steps[7].number[0], NSD_READONLY_TOP);
    CHECK_NUMBER(builder.steps[7].number[1], 0);
    nsd_builder_free(&builder);
}

static void what_is_hidden_follows_what_is_mounted(void)
{
    const struct nsd_file files[] = {
        {NSD_FILE_FILESYSTEM, MS_NOSUID, "proc", "/proc", NULL},
        {NSD_FILE_MASK, MS_NOSUID, "keys:acpi", "/proc", "sys"},
        {NSD_FILE_MASK, 0, "firmware", "/sys", NULL},
    };
    const struct nsd_place place = {.root = "/srv/box", .root_slot = 3};
    struct nsd_builder builder;

    nsd_builder_init(&builder);
    nsd_add_sources(&builder, files, 3, &place);
    nsd_add_files(&builder, files, 3, &place);
    CHECK_TEXT(in_words(&builder), "mount_at mask_at mask_at");
    CHECK_NUMBER(builder.steps[1].number[0], MS_NOSUID);
    CHECK_NUMBER(builder.steps[1].number[1], 3);
    CHECK_TEXT(nsd_builder_text(&builder, builder.steps[1].text[0]), "keys:acpi");
    CHECK_TEXT(nsd_builder_text(&builder, builder.steps[1].text[1]), "/proc");
    CHECK_TEXT(nsd_builder_text(&builder, builder.steps[1].text[2]), "sys");
    CHECK_TEXT(nsd_builder_text(&builder, builder.steps[1].text[3]), "/srv/box");
    CHECK_NUMBER(builder.steps[2].text[2], 0);
    nsd_builder_free(&builder);
}

/* Who may be below what was mounted goes to the same path again; see core/where.h. */
static void without_a_root_the_path_is_followed(void)
{
    const struct nsd_file files[] = {
        {NSD_FILE_FILESYSTEM, 0, "tmpfs", "/tmp", NULL},
    };
    struct nsd_request request = the_container();
    struct nsd_builder builder;

    request.watch = false;
    request.files = files;
    request.file_count = 1;
    CHECK_SPAWN(request,
                "clone propagation mount mount_at chdir setsid drop_inheritable exec");
    request.cwd = "below";
    CHECK_SPAWN(
        request,
        "clone propagation mount mount_at chdir setsid drop_inheritable chdir exec");
    nsd_builder_init(&builder);
    nsd_recipe_spawn(&builder, &request);
    CHECK_NUMBER(find(&builder, NSD_CHDIR)->text[0], 0);
    CHECK_NUMBER(find(&builder, NSD_CHDIR)->number[0], NSD_WHERE_WE_ARE);
    nsd_builder_free(&builder);
    request.cwd = "/tmp/x";
    CHECK_SPAWN(request,
                "clone propagation mount mount_at setsid drop_inheritable chdir exec");
    request.init = true;
    nsd_builder_init(&builder);
    nsd_recipe_spawn(&builder, &request);
    CHECK_TEXT(in_words(&builder),
               "unshare hide fork propagation mount mount_at chdir init setsid "
               "drop_inheritable chdir exec");
    CHECK_NUMBER(find(&builder, NSD_CHDIR)->text[0], 0);
    CHECK_NUMBER(find(&builder, NSD_CHDIR)->number[0], NSD_IF_IT_CAN_BE);
    nsd_builder_free(&builder);
    request.cwd = NULL;
    nsd_builder_init(&builder);
    nsd_vector_add(&builder, &builder.paths, "/bin/true", 9);
    nsd_recipe_spawn(&builder, &request);
    CHECK_NUMBER(find(&builder, NSD_CHDIR)->number[0], NSD_UNLESS_DELETED);
    nsd_builder_free(&builder);
    nsd_builder_init(&builder);
    nsd_vector_add(&builder, &builder.paths, "./true", 6);
    nsd_recipe_spawn(&builder, &request);
    CHECK_NUMBER(find(&builder, NSD_CHDIR)->number[0], NSD_WHERE_WE_ARE);
    nsd_builder_free(&builder);
}

static void a_new_proc_alone_asks_it_of_few(void)
{
    struct nsd_request request = the_container();

    CHECK(chdir("/proc/self") == 0);
    CHECK_SPAWN(request, "clone propagation mount chdir setsid drop_inheritable exec");
    request.mount_proc = false;
    CHECK_SPAWN(request, "clone propagation setsid drop_inheritable exec");
    request.mount_proc = true;
    request.cwd = "/";
    CHECK_SPAWN(request, "clone propagation mount setsid drop_inheritable chdir exec");
    CHECK(chdir("/") == 0);
}

static void too_many_sources_are_an_error(void)
{
    static struct nsd_file files[NSD_SLOTS];
    struct nsd_request request = the_container();
    struct nsd_builder builder;

    for (int i = 0; i < NSD_SLOTS; i++)
        files[i] = (struct nsd_file){NSD_FILE_BIND, 0, "/usr", "/usr", NULL};
    request.files = files;
    request.file_count = NSD_UPPER_SLOT - NSD_FIRST_SOURCE + 1;
    nsd_builder_init(&builder);
    nsd_recipe_spawn(&builder, &request);
    CHECK_NUMBER(builder.error, -E2BIG);
    nsd_builder_free(&builder);
}

static void with_an_init_and_a_network(void)
{
    struct nsd_request request = the_container();

    request.unshare |= CLONE_NEWNET;
    request.init = true;
    CHECK_SPAWN(request,
                "watch unshare hide fork loopback_up propagation mount init setsid "
                "drop_inheritable exec");
}

static void an_ordinary_user_becomes_root_first(void)
{
    struct nsd_request request = the_container();
    struct nsd_builder builder;
    char map[32];

    request.unshare |= CLONE_NEWUSER;
    request.privileged = false;
    nsd_builder_init(&builder);
    nsd_recipe_spawn(&builder, &request);
    CHECK_TEXT(in_words(&builder), "clone write write write "
                                   "propagation mount setsid drop_inheritable exec");
    CHECK_NUMBER(builder.steps[0].number[0], FIVE | CLONE_NEWUSER);
    snprintf(map, sizeof(map), "0 %u 1", (unsigned int)geteuid());
    CHECK_TEXT(nsd_builder_text(&builder, builder.steps[1].text[1]), map);
    /* setgroups before gid_map: the kernel refuses the map otherwise */
    CHECK_TEXT(nsd_builder_text(&builder, builder.steps[2].text[0]),
               "/proc/self/setgroups");
    CHECK_TEXT(nsd_builder_text(&builder, builder.steps[3].text[0]),
               "/proc/self/gid_map");
    nsd_builder_free(&builder);
    /* In a launcher's own memory, where ours will not do. */
    request.no_user_clone = true;
    CHECK_SPAWN(request, "watch unshare write write write unshare hide fork "
                         "propagation mount setsid drop_inheritable exec");
}

static void the_time_namespace_has_no_clone_flag(void)
{
    struct nsd_request request = the_container();

    request.unshare |= CLONE_NEWTIME;
    CHECK_SPAWN(request, "watch unshare hide fork propagation mount setsid "
                         "drop_inheritable exec");
}

static void without_a_fork_the_time_namespace_is_entered(void)
{
    struct nsd_request request = the_container();
    struct nsd_builder builder;

    request.unshare = CLONE_NEWTIME;
    request.time_offsets = "monotonic 5 0\n";
    request.fork = false;
    request.mount_proc = false;
    nsd_builder_init(&builder);
    nsd_recipe_spawn(&builder, &request);
    CHECK_TEXT(in_words(&builder), "open_root watch fork unshare write enter_time hide "
                                   "setsid drop_inheritable exec");
    CHECK_NUMBER(find(&builder, NSD_OPEN_ROOT)->number[0], NSD_PROC_SLOT);
    CHECK_NUMBER(find(&builder, NSD_ENTER_TIME)->number[0], NSD_PROC_SLOT);
    nsd_builder_free(&builder);
}

static void clocks_are_set_before_anybody_is_in_their_namespace(void)
{
    struct nsd_request request = the_container();
    struct nsd_builder builder;

    request.unshare |= CLONE_NEWTIME | CLONE_NEWUSER;
    request.time_offsets = "monotonic 5 0\n";
    request.domainname = "example";
    nsd_builder_init(&builder);
    nsd_recipe_spawn(&builder, &request);
    CHECK_TEXT(in_words(&builder),
               "watch unshare write write write unshare write hide fork setdomainname "
               "propagation mount setsid drop_inheritable exec");
    CHECK_TEXT(nsd_builder_text(&builder, builder.steps[6].text[0]),
               "/proc/self/timens_offsets");
    CHECK_TEXT(nsd_builder_text(&builder, builder.steps[6].text[1]), "monotonic 5 0\n");
    nsd_builder_free(&builder);
}

static void without_a_fork_the_command_stays_outside_its_pid_namespace(void)
{
    struct nsd_request request = the_container();

    request.fork = false;
    request.mount_proc = false;
    CHECK_SPAWN(request,
                "watch fork unshare hide propagation setsid drop_inheritable exec");
    request.watch = false;
    CHECK_SPAWN(request, "unshare propagation setsid drop_inheritable exec");
}

static void without_a_pid_namespace_the_process_group_ends_with_the_command(void)
{
    struct nsd_request request = the_container();
    struct nsd_builder builder;

    request.unshare = CLONE_NEWUTS;
    request.mount_proc = false;
    nsd_builder_init(&builder);
    nsd_recipe_spawn(&builder, &request);
    CHECK_TEXT(in_words(&builder), "clone setsid drop_inheritable exec");
    CHECK_NUMBER(builder.steps[0].number[1], NSD_ENDS_GROUP);
    nsd_builder_free(&builder);
    request.watch = false;
    nsd_builder_init(&builder);
    nsd_recipe_spawn(&builder, &request);
    CHECK_NUMBER(builder.steps[0].number[1], NSD_ENDS_NOTHING);
    nsd_builder_free(&builder);
}

static void credentials_come_late_and_groups_first(void)
{
    static const uint32_t groups[2] = {7, 8};
    struct nsd_request request = the_container();
    struct nsd_builder builder;

    request.uid = 1000;
    request.gid = 1001;
    request.groups = groups;
    request.group_count = 2;
    request.umask = 022;
    request.cwd = "/";
    nsd_builder_init(&builder);
    nsd_recipe_spawn(&builder, &request);
    CHECK_TEXT(in_words(&builder),
               "clone propagation mount setsid umask drop_inheritable setgroups setgid "
               "setuid chdir exec");
    CHECK(memcmp(builder.text + find(&builder, NSD_SETGROUPS)->text[0], groups,
                 sizeof(groups)) == 0);
    CHECK_NUMBER(find(&builder, NSD_SETGROUPS)->number[0], 2);
    CHECK_NUMBER(find(&builder, NSD_SETUID)->number[0], 1000);
    CHECK_NUMBER(find(&builder, NSD_SETGID)->number[0], 1001);
    nsd_builder_free(&builder);
    request.groups = NULL;
    request.group_count = 0;
    request.groups_implied = true;
    CHECK_SPAWN(request, "clone propagation mount setsid umask drop_inheritable "
                         "setgroups? setgid setuid chdir exec");
}

static void forbidding_new_privileges_is_one_step(void)
{
    struct nsd_request request = the_container();

    request.power.no_new_privs = true;
    CHECK_SPAWN(request,
                "clone propagation mount setsid drop_inheritable no_new_privs exec");
}

/* Limits while there is power, the bounding set before the user changes, what is kept
 * after that, and the filter last: it judges whatever follows. */
static void power_is_given_up_around_the_change_of_user(void)
{
    static const uint64_t filter[1] = {6};
    struct nsd_request request = the_container();
    struct nsd_builder builder;

    request.uid = 1000;
    request.power = (struct nsd_power){
        .no_new_privs = true,
        .sets_capabilities = true,
        .kept = 0x21,
        .ambient = 0x20,
        .limits = {{7, 64, -1}, {4, 0, 0}},
        .limit_count = 2,
        .filter = filter,
        .filter_count = 1,
    };
    nsd_builder_init(&builder);
    nsd_recipe_spawn(&builder, &request);
    CHECK_TEXT(
        in_words(&builder),
        "clone propagation mount setsid drop_inheritable rlimit rlimit drop_bounding "
        "keep_capabilities setuid capset no_new_privs seccomp exec");
    CHECK_NUMBER(find(&builder, NSD_RLIMIT)->number[0], 7);
    CHECK_NUMBER(find(&builder, NSD_RLIMIT)->number[1], 64);
    CHECK_NUMBER(find(&builder, NSD_RLIMIT)->number[2], -1);
    CHECK_NUMBER(find(&builder, NSD_DROP_BOUNDING)->number[0], 0x21);
    CHECK_NUMBER(find(&builder, NSD_CAPSET)->number[0], 0x21);
    CHECK_NUMBER(find(&builder, NSD_CAPSET)->number[1], 0x20);
    CHECK_NUMBER(find(&builder, NSD_SECCOMP)->number[0], 1);
    CHECK(memcmp(builder.text + find(&builder, NSD_SECCOMP)->text[0], filter,
                 sizeof(filter)) == 0);
    nsd_builder_free(&builder);
}

static void securebits_are_set_while_there_is_power(void)
{
    struct nsd_request request = the_container();
    struct nsd_builder builder;

    request.power.sets_securebits = true;
    request.power.securebits = 3;
    CHECK_SPAWN(request,
                "clone propagation mount setsid drop_inheritable securebits exec");
    request.uid = 1000;
    CHECK_SPAWN(request, "clone propagation mount setsid drop_inheritable "
                         "keep_capabilities setuid capset securebits capset exec");
    request.power.sets_capabilities = true;
    request.power.kept = 0x21;
    request.power.ambient = 0x20;
    request.uid = -1;
    nsd_builder_init(&builder);
    nsd_recipe_spawn(&builder, &request);
    CHECK_TEXT(in_words(&builder), "clone propagation mount setsid drop_inheritable "
                                   "drop_bounding capset securebits capset exec");
    CHECK_NUMBER(builder.steps[6].number[0], -1);
    CHECK_NUMBER(builder.steps[6].number[1], 0x20);
    CHECK_NUMBER(builder.steps[7].number[0], 3);
    CHECK_NUMBER(builder.steps[8].number[0], 0x21);
    CHECK_NUMBER(builder.steps[8].number[1], 0x20);
    nsd_builder_free(&builder);
}

static void landlock_comes_last_but_for_a_filter(void)
{
    static const uint64_t filter[1] = {6};
    struct nsd_request request = the_container();
    struct nsd_builder builder;

    request.root = "/srv/box";
    request.cwd = "/tmp";
    request.power.no_new_privs = true;
    request.power.has_landlock = true;
    request.power.rules[0] = (struct nsd_rule){"/usr", false};
    request.power.rules[1] = (struct nsd_rule){"/tmp", true};
    request.power.rule_count = 2;
    request.power.filter = filter;
    request.power.filter_count = 1;
    nsd_builder_init(&builder);
    nsd_recipe_spawn(&builder, &request);
    CHECK_TEXT(in_words(&builder),
               "clone open_root propagation bind mount pivot_root setsid "
               "drop_inheritable chdir no_new_privs landlock landlock_allow "
               "landlock_allow landlock_restrict seccomp exec");
    CHECK_NUMBER(builder.steps[11].number[0], 0);
    CHECK_TEXT(nsd_builder_text(&builder, builder.steps[12].text[0]), "/tmp");
    CHECK_NUMBER(builder.steps[12].number[0], 1);
    nsd_builder_free(&builder);
}

static void without_a_list_another_user_keeps_what_is_ambient(void)
{
    struct nsd_request request = the_container();
    struct nsd_builder builder;

    request.power.sets_capabilities = true;
    request.power.kept = -1;
    request.power.ambient = 0x20;
    for (int uid = 0; uid < 2; uid++) {
        request.uid = uid;
        nsd_builder_init(&builder);
        nsd_recipe_spawn(&builder, &request);
        CHECK_NUMBER(find(&builder, NSD_CAPSET)->number[0], uid == 0 ? -1 : 0x20);
        nsd_builder_free(&builder);
    }
}

static void a_session_or_a_group_or_neither(void)
{
    struct nsd_request request = the_container();

    request.new_session = false;
    CHECK_SPAWN(request, "clone propagation mount drop_inheritable exec");
    request.process_group = 0;
    CHECK_SPAWN(request, "clone propagation mount setpgid drop_inheritable exec");
}

static void a_terminal_belongs_to_a_session(void)
{
    struct nsd_request request = the_container();

    request.terminal = 7;
    CHECK_SPAWN(request,
                "clone propagation mount setsid terminal drop_inheritable exec");
    request.init = true;
    request.uid = 5;
    CHECK_SPAWN(request,
                "watch unshare hide fork propagation mount init setsid terminal "
                "drop_inheritable setuid exec");
}

static void mounts_that_stay_as_they_are(void)
{
    struct nsd_request request = the_container();

    request.propagation = -1;
    CHECK_SPAWN(request, "clone mount setsid drop_inheritable exec");
}

/* As unshare(1): what is mounted for a container is not mounted on the machine, which may
 * share its mounts. */
static void what_is_mounted_stays_inside(void)
{
    static const int64_t kinds[] = {MS_REC | MS_PRIVATE, MS_REC | MS_SLAVE,
                                    MS_REC | MS_SHARED, -1};
    const struct nsd_file files[] = {
        {NSD_FILE_FILESYSTEM, 0, "tmpfs", "/tmp", NULL},
        {NSD_FILE_BIND, MS_REC, "/usr", "/usr", NULL},
        {NSD_FILE_LOWER, 0, "/a", "/o", NULL},
        {NSD_FILE_OVERLAY, 0, "words", "/o", NULL},
    };
    static const enum nsd_operation mounts[] = {NSD_BIND, NSD_MOUNT, NSD_MOUNT_AT,
                                                NSD_BIND_AT, NSD_OVERLAY_AT};
    struct nsd_request request = the_container();

    request.root = "/srv/box";
    request.files = files;
    request.file_count = 4;
    for (size_t kind = 0; kind < 4; kind++) {
        struct nsd_builder builder;
        const struct nsd_step *step;

        request.propagation = kinds[kind];
        nsd_builder_init(&builder);
        nsd_recipe_spawn(&builder, &request);
        CHECK_NUMBER(builder.error, 0);
        for (size_t i = 0; i < sizeof(mounts) / sizeof(mounts[0]); i++)
            CHECK_NUMBER(find(&builder, mounts[i])->flags,
                         kind < 2 ? 0 : NSD_STAYS_INSIDE);
        step = find(&builder, NSD_PIVOT_ROOT);
        CHECK_NUMBER(step->number[1], kind == 0);
        if (kind == 2) { /* pivot_root takes none that is shared */
            CHECK_NUMBER(step[1].operation, NSD_PROPAGATION);
            CHECK_NUMBER(step[1].number[0], MS_REC | MS_SHARED);
        } else {
            CHECK_NUMBER(step[1].operation, NSD_SETSID);
        }
        nsd_builder_free(&builder);
    }
}

static struct nsd_request the_visitor(void)
{
    struct nsd_request request = the_container();

    request.unshare = 0;
    request.mount_proc = false;
    request.join_count = 1;
    request.joins[0] =
        (struct nsd_join){{.pid = 42, .birth = 99, .pidfd = -1}, -1, FIVE};
    request.root_of = request.joins[0].process;
    return request;
}

static void entering_follows_the_root_and_hides_before_it_joins(void)
{
    struct nsd_request request = the_visitor();
    struct nsd_builder builder;

    nsd_builder_init(&builder);
    nsd_recipe_spawn(&builder, &request);
    CHECK_TEXT(in_words(&builder),
               "open_process open_root watch hide join fork chroot setsid "
               "drop_inheritable exec");
    CHECK_NUMBER(builder.steps[0].number[0], 42);
    CHECK_NUMBER(builder.steps[0].number[1], 99);
    CHECK_TEXT(nsd_builder_text(&builder, builder.steps[1].text[0]), "/proc/42/root");
    /* one open process serves the root and the join */
    CHECK_NUMBER(builder.steps[1].number[1], builder.steps[0].number[2]);
    CHECK_NUMBER(find(&builder, NSD_JOIN)->number[0], builder.steps[0].number[2]);
    CHECK_NUMBER(find(&builder, NSD_CHROOT)->number[0], builder.steps[1].number[0]);
    nsd_builder_free(&builder);
}

/* Whoever waits in the pid namespace sees nobody who has power to lose. */
static void power_is_given_up_before_the_fork_into_others_pids(void)
{
    struct nsd_request request = the_visitor();
    const int flags = request.joins[0].flags;

    request.joins[0].flags = flags | CLONE_NEWPID;
    request.uid = 1000;
    request.cwd = "/tmp";
    request.power.sets_capabilities = true;
    request.power.limits[0] = (struct nsd_limit){RLIMIT_CORE, 0, 0};
    request.power.limit_count = 1;
    CHECK_SPAWN(request, "open_process open_root watch hide join chroot thread join "
                         "drop_inheritable drop_bounding keep_capabilities setuid "
                         "capset fork setsid rlimit chdir exec");
    request.uid = -1;
    request.unshare = CLONE_NEWUSER; /* which no thread may make */
    CHECK_SPAWN(request,
                "open_process open_root watch hide join unshare write write write "
                "chroot drop_inheritable drop_bounding capset fork setsid rlimit chdir "
                "exec");
    request.unshare = 0;
    request.joins[0].flags |= CLONE_NEWUSER; /* its memory is ours: nobody seizes it */
    CHECK_SPAWN(request, "open_process open_root watch hide join become_root? fork "
                         "chroot setsid drop_inheritable rlimit drop_bounding chdir "
                         "capset exec");
    request.joins[0].flags = flags | CLONE_NEWPID;
    request.unshare = CLONE_NEWNS; /* a proc shows the pids of who mounts it */
    request.mount_proc = true;
    request.root_of = (struct nsd_process_id){.pidfd = -1};
    CHECK_SPAWN(request,
                "open_process watch hide join unshare fork propagation mount setsid "
                "drop_inheritable rlimit drop_bounding chdir capset exec");
}

static void an_init_in_reach_of_its_command_has_no_more_power(void)
{
    struct nsd_request request = the_container();

    request.init = true;
    request.power.sets_capabilities = true;
    request.power.kept = 1 << CAP_SYS_PTRACE;
    CHECK_SPAWN(request, "watch unshare hide fork propagation mount drop_inheritable "
                         "drop_bounding capset init setsid capset exec");
    request.power.kept = 1 << CAP_KILL;
    CHECK_SPAWN(request, "watch unshare hide fork propagation mount init setsid "
                         "drop_inheritable drop_bounding capset exec");
}

static void a_cgroup_is_joined_before_the_namespaces(void)
{
    struct nsd_request request = the_visitor();

    request.cgroups[0] = "/sys/fs/cgroup/pids/box/cgroup.procs";
    request.cgroups[1] = "/sys/fs/cgroup/unified/box/cgroup.procs";
    request.cgroup_count = 2;
    CHECK_SPAWN(request,
                "open_process open_root watch join_cgroup join_cgroup hide join "
                "fork chroot setsid drop_inheritable exec");
}

static void entering_without_the_root(void)
{
    struct nsd_request request = the_visitor();

    request.root_of = (struct nsd_process_id){.pidfd = -1};
    CHECK_SPAWN(request,
                "open_process watch hide join fork setsid drop_inheritable exec");
}

static void joining_a_user_namespace_makes_us_its_root(void)
{
    struct nsd_request request = the_visitor();

    request.joins[0].flags |= CLONE_NEWUSER;
    CHECK_SPAWN(request,
                "open_process open_root watch hide join become_root? fork chroot "
                "setsid drop_inheritable exec");
    request.uid = 5;
    CHECK_SPAWN(request, "open_process open_root watch hide join fork chroot setsid "
                         "drop_inheritable setuid exec");
}

/* Root joins the user namespace last, because it may lose power by that; an ordinary user
 * first, because that is where the power comes from. */
static void the_user_namespace_is_joined_last_or_first(void)
{
    struct nsd_request request = the_visitor();

    request.join_count = 2;
    request.joins[0].flags = CLONE_NEWUSER;
    request.joins[1] =
        (struct nsd_join){{.pid = 43, .birth = 1, .pidfd = -1}, -1, CLONE_NEWNET};
    for (int privileged = 0; privileged < 2; privileged++) {
        struct nsd_builder builder;
        const struct nsd_step *join;

        request.privileged = privileged;
        nsd_builder_init(&builder);
        nsd_recipe_spawn(&builder, &request);
        join = find(&builder, NSD_JOIN);
        CHECK_NUMBER(join[0].number[1], privileged ? CLONE_NEWNET : CLONE_NEWUSER);
        CHECK_NUMBER(join[1].operation, NSD_JOIN);
        CHECK_NUMBER(join[1].number[1], privileged ? CLONE_NEWUSER : CLONE_NEWNET);
        nsd_builder_free(&builder);
    }
}

/* An ordinary user passes through what lies between, in the order that he was given. */
static void a_nest_is_joined_from_the_outside_in(void)
{
    static const int flags[] = {CLONE_NEWUSER, CLONE_NEWNET, CLONE_NEWUSER,
                                CLONE_NEWUTS};
    static const int of_root[] = {1, 3, 0, 2};
    struct nsd_request request = the_visitor();

    request.join_count = 4;
    request.root_of.pid = 0;
    for (int i = 0; i < 4; i++)
        request.joins[i] = (struct nsd_join){{.pidfd = -1}, 20 + i, flags[i]};
    for (int privileged = 0; privileged < 2; privileged++) {
        struct nsd_builder builder;
        const struct nsd_step *join;

        request.privileged = privileged;
        nsd_builder_init(&builder);
        nsd_recipe_spawn(&builder, &request);
        join = find(&builder, NSD_JOIN);
        for (int i = 0; i < 4; i++) {
            CHECK_NUMBER(join[i].operation, NSD_JOIN);
            CHECK_NUMBER(join[i].number[1], flags[privileged ? of_root[i] : i]);
        }
        nsd_builder_free(&builder);
    }
}

static void a_namespace_file_needs_no_process(void)
{
    struct nsd_request request = the_container();
    struct nsd_builder builder;

    request.unshare = 0;
    request.mount_proc = false;
    request.watch = false;
    request.join_count = 1;
    request.joins[0] = (struct nsd_join){{.pidfd = -1}, 17, CLONE_NEWNET};
    nsd_builder_init(&builder);
    nsd_recipe_spawn(&builder, &request);
    CHECK_TEXT(in_words(&builder), "hide join setsid drop_inheritable exec");
    CHECK_NUMBER(builder.slot[find(&builder, NSD_JOIN)->number[0]], 17);
    nsd_builder_free(&builder);
}

static void pins_are_asked_for_when_all_else_is_there(void)
{
    struct nsd_request request = the_container();
    struct nsd_builder builder;
    const struct nsd_step *step;

    request.unshare |= CLONE_NEWTIME;
    request.pins[0] = (struct nsd_pin_wish){CLONE_NEWNS, "/run/mount"};
    request.pins[1] = (struct nsd_pin_wish){CLONE_NEWTIME, "/run/time"};
    request.pin_count = 2;
    request.init = true;
    nsd_builder_init(&builder);
    nsd_recipe_spawn(&builder, &request);
    CHECK_TEXT(in_words(&builder), "watch unshare hide fork propagation mount pin pin "
                                   "init setsid drop_inheritable exec");
    step = find(&builder, NSD_PIN);
    CHECK_NUMBER(step[0].number[0], CLONE_NEWNS);
    CHECK_NUMBER(step[0].number[1], -1);
    CHECK_TEXT(nsd_builder_text(&builder, step[0].text[0]), "mnt");
    CHECK_TEXT(nsd_builder_text(&builder, step[0].text[1]), "/run/mount");
    CHECK_TEXT(nsd_builder_text(&builder, step[1].text[0]), "time_for_children");
    nsd_builder_free(&builder);
}

static void in_a_joined_mount_namespace_the_first_process_pins(void)
{
    struct nsd_request request;
    struct nsd_builder builder;

    nsd_request_init(&request);
    request.unshare = CLONE_NEWNET;
    request.watch = true;
    request.join_count = 1;
    request.joins[0] =
        (struct nsd_join){{4711, 1, -1}, -1, CLONE_NEWNS | CLONE_NEWUSER};
    request.pins[0] = (struct nsd_pin_wish){CLONE_NEWNET, "/run/net"};
    request.pin_count = 1;
    nsd_builder_init(&builder);
    nsd_recipe_spawn(&builder, &request);
    CHECK_TEXT(in_words(&builder),
               "open_process open_root watch hide join become_root? unshare pin fork "
               "loopback_up drop_inheritable exec");
    CHECK_NUMBER(find(&builder, NSD_PIN)->number[1],
                 find(&builder, NSD_OPEN_ROOT)->number[0]);
    nsd_builder_free(&builder);
}

static void chroot_run_is_one_process(void)
{
    struct nsd_request request;
    struct nsd_builder builder;

    nsd_request_init(&request);
    request.root = "/srv/box";
    request.cwd = "/";
    request.die_with_parent = true;
    nsd_builder_init(&builder);
    nsd_recipe_chroot_run(&builder, &request);
    CHECK_TEXT(in_words(&builder),
               "chroot drop_inheritable chdir die_with_parent exec");
    nsd_builder_free(&builder);
    request.unshare = CLONE_NEWUSER;
    nsd_builder_init(&builder);
    nsd_recipe_chroot_run(&builder, &request);
    CHECK_TEXT(in_words(&builder),
               "clone write write write chroot drop_inheritable chdir "
               "die_with_parent exec");
    nsd_builder_free(&builder);
}

static void a_visit_executes_nothing(void)
{
    struct nsd_request request;
    struct nsd_builder builder;

    nsd_request_init(&request);
    request.joins[0] = (struct nsd_join){.file = 7, .flags = CLONE_NEWNS};
    request.joins[1] = (struct nsd_join){.file = 8, .flags = CLONE_NEWUSER};
    request.join_count = 2;
    request.privileged = true;
    request.pins[0].path = "/run/blue";
    nsd_builder_init(&builder);
    nsd_recipe_release(&builder, &request);
    CHECK_TEXT(in_words(&builder),
               "open_root hide join join become_root? capset? unpin end");
    nsd_builder_free(&builder);
    nsd_builder_init(&builder);
    nsd_recipe_root(&builder, &request);
    CHECK_TEXT(in_words(&builder),
               "hide join join become_root? open_root hand_over end");
    nsd_builder_free(&builder);
}

int main(void)
{
    RUN(the_container_of_the_tour);
    RUN(under_a_root_of_its_own);
    RUN(own_ids_are_mapped_from_inside);
    RUN(ranges_are_mapped_by_a_helper_outside);
    RUN(the_helper_stays_before_a_join);
    RUN(chroot_instead_of_pivot_root);
    RUN(mounts_go_by_the_launcher_in_their_order);
    RUN(a_proc_that_is_mounted_on_is_held);
    RUN(a_dev_is_many_steps);
    RUN(overlays_come_after_their_directories);
    RUN(what_is_hidden_follows_what_is_mounted);
    RUN(layers_come_after_the_overlay);
    RUN(a_read_only_root_is_closed_around_the_mounts);
    RUN(without_a_root_the_path_is_followed);
    RUN(a_new_proc_alone_asks_it_of_few);
    RUN(too_many_sources_are_an_error);
    RUN(with_an_init_and_a_network);
    RUN(an_ordinary_user_becomes_root_first);
    RUN(without_a_fork_the_command_stays_outside_its_pid_namespace);
    RUN(without_a_pid_namespace_the_process_group_ends_with_the_command);
    RUN(the_time_namespace_has_no_clone_flag);
    RUN(without_a_fork_the_time_namespace_is_entered);
    RUN(clocks_are_set_before_anybody_is_in_their_namespace);
    RUN(credentials_come_late_and_groups_first);
    RUN(forbidding_new_privileges_is_one_step);
    RUN(power_is_given_up_around_the_change_of_user);
    RUN(securebits_are_set_while_there_is_power);
    RUN(landlock_comes_last_but_for_a_filter);
    RUN(without_a_list_another_user_keeps_what_is_ambient);
    RUN(a_session_or_a_group_or_neither);
    RUN(a_terminal_belongs_to_a_session);
    RUN(mounts_that_stay_as_they_are);
    RUN(what_is_mounted_stays_inside);
    RUN(entering_follows_the_root_and_hides_before_it_joins);
    RUN(power_is_given_up_before_the_fork_into_others_pids);
    RUN(an_init_in_reach_of_its_command_has_no_more_power);
    RUN(a_cgroup_is_joined_before_the_namespaces);
    RUN(entering_without_the_root);
    RUN(joining_a_user_namespace_makes_us_its_root);
    RUN(the_user_namespace_is_joined_last_or_first);
    RUN(a_nest_is_joined_from_the_outside_in);
    RUN(a_namespace_file_needs_no_process);
    RUN(pins_are_asked_for_when_all_else_is_there);
    RUN(in_a_joined_mount_namespace_the_first_process_pins);
    RUN(chroot_run_is_one_process);
    RUN(a_visit_executes_nothing);
    return 0;
}
