/* constants.h - what the kernel's own headers leave to those of a libc. */
#ifndef NSD_CONSTANTS_H
#define NSD_CONSTANTS_H

#include <linux/limits.h> /* PATH_MAX, NAME_MAX */

#define S_IFMT 0170000
#define S_IFREG 0100000
#define S_IFDIR 0040000
#define S_IFCHR 0020000
#define S_IFLNK 0120000
#define S_ISUID 04000
#define S_ISGID 02000

#define MNT_DETACH 2

#define AF_UNIX 1
#define AF_INET 2
#define SOCK_DGRAM 2
#define SOCK_SEQPACKET 5
#define SOCK_CLOEXEC 02000000
#define SOL_SOCKET 1
#define SCM_RIGHTS 1
#define MSG_DONTWAIT 0x40
#define MSG_NOSIGNAL 0x4000

#define IFF_UP 0x1
#define IFF_RUNNING 0x40

/* File systems that linux/magic.h does not name. */
#define MQUEUE_MAGIC 0x19800202
#define FUSECTL_MAGIC 0x65735543
#define CONFIGFS_MAGIC 0x62656570
#define AUTOFS_MAGIC 0x0187

#endif
