# SPDX-License-Identifier: GPL-2.0-or-later
"""The fixed files of the header tree: what bcc's own headers include, and the basic types that probes use.

The types are those of the kernel's user-space interface (``include/uapi/linux``), the same on every x86-64
kernel.
"""

from __future__ import annotations

_TYPES = """\
#ifndef HOOKLINE_TYPES_H
#define HOOKLINE_TYPES_H
typedef unsigned char u8, __u8, uint8_t;
typedef unsigned short u16, __u16, uint16_t, __be16, __le16, __sum16;
typedef unsigned int u32, __u32, uint32_t, __be32, __le32, __wsum;
typedef unsigned long long u64, __u64, uint64_t, __be64, __le64, __aligned_u64;
typedef signed char s8, __s8, int8_t;
typedef short s16, __s16, int16_t;
typedef int s32, __s32, int32_t;
typedef long long s64, __s64, int64_t, loff_t;
typedef unsigned long size_t, uintptr_t;
typedef long ssize_t;
typedef int pid_t;
typedef unsigned int uid_t, gid_t;
typedef unsigned short sa_family_t;
typedef _Bool bool;
#define true 1
#define false 0
#define NULL ((void *)0)
#define offsetof(type, member) __builtin_offsetof(type, member)
#define __always_inline inline __attribute__((always_inline))
#define __user
struct in6_addr { union { u8 s6_addr[16]; __be32 s6_addr32[4]; }; };
struct sockaddr { sa_family_t sa_family; char sa_data[14]; };
struct sockaddr_in { sa_family_t sin_family; __be16 sin_port; __be32 sin_addr; u8 sin_zero[8]; };
struct sockaddr_in6 {
  sa_family_t sin6_family; __be16 sin6_port; __be32 sin6_flowinfo;
  struct in6_addr sin6_addr; u32 sin6_scope_id;
};
struct sockaddr_un { sa_family_t sun_family; char sun_path[108]; };
#endif
"""

# bcc includes this file before anything else, so a probe's C needs no #include of its own for kernel types.
_KCONFIG = """\
#ifndef HOOKLINE_KCONFIG_H
#define HOOKLINE_KCONFIG_H
#define CONFIG_BPF_SYSCALL 1
#define CONFIG_64BIT 1
#include "types.h"
#include "../hookline/kernel.h"
#endif
"""

_VERSION = """\
#define LINUX_VERSION_CODE {code}
#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + ((c) > 255 ? 255 : (c)))
"""

# bcc includes these as well; what its programs need of them comes with bcc.
_EMPTY = (
    "linux/bpf_common.h",
    "linux/log2.h",
    "uapi/linux/bpf.h",
    "uapi/linux/if_packet.h",
    "uapi/linux/ptrace.h",
)

PROVIDED_STRUCTS = frozenset({"in6_addr", "sockaddr", "sockaddr_in", "sockaddr_in6", "sockaddr_un"})
"""Structures that ``linux/types.h`` declares in full."""


def fixed_files(version: tuple[int, int, int]) -> dict[str, str]:
    """Text of each fixed file by its path below ``include/``, for a kernel of this version.

    The version code is that of ``KERNEL_VERSION``, which stops counting sublevels at 255.
    """
    major, minor, sublevel = version
    return {
        **dict.fromkeys(_EMPTY, ""),
        "linux/kconfig.h": _KCONFIG,
        "linux/types.h": _TYPES,
        "linux/version.h": _VERSION.format(code=(major << 16) + (minor << 8) + min(sublevel, 255)),
        "asm/page.h": "#define PAGE_SHIFT 12\n#define PAGE_SIZE 4096UL\n",
    }
