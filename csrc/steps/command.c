/* command.c - where a command leads, before it is executed in borrowed memory.
 *
 * Until execve has succeeded, /proc/self/exe is the program whose memory the child borrows:
 * Python. A root that makes its /bin/sh, the interpreter of a script or the loader of a program
 * a link to it would have a program of the host run inside (CVE-2019-5736). So each of them is
 * opened once without following a link that only /proc can make ("magic link").
 */
#include "steps.h"

#include <asm/stat.h>
#include <linux/elf.h>
#include <linux/errno.h>
#include <linux/fcntl.h>
#include <linux/openat2.h>

#define MOST_INTERPRETERS 5 /* BINPRM_MAX_RECURSION and the first */
#define HEAD 256            /* BINPRM_BUF_SIZE: as far as the kernel looks for "#!" */
#define PATH_MAX 4096
#define S_IFMT 0170000
#define S_IFREG 0100000

static long open_without_magic(const char *path)
{
    struct open_how how = {.flags = O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC,
                           .resolve = RESOLVE_NO_MAGICLINKS};
    long fd = sys4(__NR_openat2, AT_FDCWD, path, &how, sizeof(how));

    if (fd != -EACCES)
        return fd;
    how.flags = O_PATH | O_CLOEXEC; /* may be executed though it may not be read */
    return sys4(__NR_openat2, AT_FDCWD, path, &how, sizeof(how));
}

static long read_at(long fd, void *to, size_t size, uint64_t offset)
{
    return sys4(__NR_pread64, fd, to, size, offset);
}

/* "#! /bin/sh -e" -> "/bin/sh"; false: the kernel will find no interpreter there either. */
static bool interpreter_of_script(const char *head, long size, char *ret_path)
{
    long i = 2, n = 0;

    while (i < size && (head[i] == ' ' || head[i] == '\t'))
        i++;
    while (i < size && head[i] != ' ' && head[i] != '\t' && head[i] != '\n' &&
           head[i] != '\0')
        ret_path[n++] = head[i++];
    ret_path[n] = '\0';
    return n > 0;
}

/* Where a program header table lies, and what of a header is of interest, for both classes. */
struct elf_layout {
    uint64_t offset;
    uint32_t size, count, at_offset, at_length;
};

static uint64_t word(const char *at, bool wide)
{
    return wide ? *(const uint64_t *)(const void *)at
                : *(const uint32_t *)(const void *)at;
}

static bool layout_of(const char *head, long size, struct elf_layout *ret_layout)
{
    const Elf64_Ehdr *wide = (const Elf64_Ehdr *)(const void *)head;
    const Elf32_Ehdr *narrow = (const Elf32_Ehdr *)(const void *)head;

    if (size < (long)sizeof(*wide))
        return false;
    if (head[EI_CLASS] == ELFCLASS64)
        *ret_layout =
            (struct elf_layout){wide->e_phoff, wide->e_phentsize, wide->e_phnum,
                                __builtin_offsetof(Elf64_Phdr, p_offset),
                                __builtin_offsetof(Elf64_Phdr, p_filesz)};
    else
        *ret_layout =
            (struct elf_layout){narrow->e_phoff, narrow->e_phentsize, narrow->e_phnum,
                                __builtin_offsetof(Elf32_Phdr, p_offset),
                                __builtin_offsetof(Elf32_Phdr, p_filesz)};
    return ret_layout->size <= sizeof(Elf64_Phdr);
}

/* The loader that an ELF file names; false: it names none, or is not one. */
static bool loader_of_program(long fd, const char *head, long size, char *ret_path)
{
    bool wide = head[EI_CLASS] == ELFCLASS64;
    char header[sizeof(Elf64_Phdr)] __attribute__((aligned(8)));
    struct elf_layout layout;

    if (!layout_of(head, size, &layout))
        return false;
    for (uint32_t i = 0; i < layout.count; i++) {
        uint64_t length;

        if (read_at(fd, header, layout.size, layout.offset + i * layout.size) !=
            (long)layout.size)
            return false;
        if (*(const uint32_t *)(const void *)header != PT_INTERP)
            continue;
        length = word(header + layout.at_length, wide);
        if (length < 2 || length > PATH_MAX ||
            read_at(fd, ret_path, length, word(header + layout.at_offset, wide)) !=
                (long)length)
            return false;
        ret_path[length - 1] = '\0';
        return true;
    }
    return false;
}

long nsd_check_command(const char *path)
{
    char next[PATH_MAX + 1], head[HEAD] __attribute__((aligned(8)));
    bool is_set_id = false, is_loader = false;

    for (int i = 0; i < MOST_INTERPRETERS; i++) {
        long fd = open_without_magic(path);
        struct stat file;
        long size;
        bool more;

        if (fd == -ELOOP || (i == 0 && (fd == -ENOENT || fd == -ENOTDIR)))
            return fd;
        if (fd < 0)
            return 0; /* execve will say why */
        if (sys2(__NR_fstat, fd, &file) < 0 || (file.st_mode & S_IFMT) != S_IFREG) {
            sys1(__NR_close, fd);
            return 0; /* which execve refuses */
        }
        is_set_id |= !is_loader && (file.st_mode & NSD_SET_ID) != 0;
        size = read_at(fd, head, sizeof(head), 0);
        if (size > 2 && head[0] == '#' && head[1] == '!') {
            more = interpreter_of_script(head, size, next);
        } else if (size > 4 && head[0] == 0x7f && head[1] == 'E' && head[2] == 'L' &&
                   head[3] == 'F') {
            more = loader_of_program(fd, head, size, next);
            i = MOST_INTERPRETERS - 2; /* a loader is loaded as it is */
            is_loader = true;
        } else {
            more = false;
        }
        sys1(__NR_close, fd);
        if (!more)
            break;
        path = next;
    }
    return is_set_id;
}
