"""The system calls that a job child may not make, as a seccomp filter (seccomp(2), classic BPF).

The program checks the architecture before it looks at a number, because numbers differ between
architectures, and refuses x32 numbers on x86-64. What it denies answers EPERM.
"""
# ruff: noqa: E501 (tables of numbers)

import ctypes
import errno
import platform
import struct
import sys
from collections.abc import Mapping
from dataclasses import dataclass

PR_SET_NO_NEW_PRIVS = 38
PR_SET_SECCOMP = 22
SECCOMP_MODE_FILTER = 2

# <linux/seccomp.h>: offsets in struct seccomp_data; arguments are 8 bytes, little-endian here.
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000

# <linux/bpf_common.h>: load a word, jump if equal / greater or equal / any bit set, return.
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06

_X32_BIT = 0x40000000
_CLONE_THREAD = 0x00010000


@dataclass(frozen=True)
class Architecture:
    """AUDIT_ARCH_*, the O_* bits that make an open a write, and the numbers of its system calls."""

    audit: int
    x32: bool
    numbers: Mapping[str, int]


# The same on every architecture (numbers above 423).
_COMMON = {
    "pidfd_send_signal": 424, "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427,
    "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433,
    "pidfd_open": 434, "clone3": 435, "openat2": 437, "pidfd_getfd": 438, "process_madvise": 440,
    "mount_setattr": 442, "memfd_secret": 447, "process_mrelease": 448, "fchmodat2": 452, "setxattrat": 463,
    "removexattrat": 466, "file_setattr": 469,
}  # fmt: skip

ARCHITECTURES: Mapping[str, Architecture] = {
    "x86_64": Architecture(
        audit=0xC000003E,
        x32=True,
        numbers={
            **_COMMON,
            "socket": 41, "connect": 42, "accept": 43, "sendto": 44, "sendmsg": 46, "bind": 49, "listen": 50,
            "socketpair": 53, "accept4": 288, "sendmmsg": 307,
            "clone": 56, "fork": 57, "vfork": 58, "execve": 59, "execveat": 322,
            "kill": 62, "tkill": 200, "tgkill": 234, "rt_sigqueueinfo": 129, "rt_tgsigqueueinfo": 297,
            "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311, "perf_event_open": 298, "kcmp": 312,
            "bpf": 321, "userfaultfd": 323, "memfd_create": 319,
            "add_key": 248, "request_key": 249, "keyctl": 250,
            "shmget": 29, "shmat": 30, "shmctl": 31, "semget": 64, "semop": 65, "semctl": 66, "semtimedop": 220,
            "msgget": 68, "msgsnd": 69, "msgrcv": 70, "msgctl": 71, "mq_open": 240, "mq_unlink": 241,
            "setpriority": 141, "sched_setparam": 142, "sched_setscheduler": 144, "sched_setattr": 314,
            "ioprio_set": 251, "migrate_pages": 256, "move_pages": 279, "fcntl": 72,
            "mount": 165, "umount2": 166, "pivot_root": 155, "chroot": 161, "unshare": 272, "setns": 308,
            "name_to_handle_at": 303, "open_by_handle_at": 304,
            "kexec_load": 246, "kexec_file_load": 320, "init_module": 175, "finit_module": 313, "delete_module": 176,
            "setrlimit": 160, "prlimit64": 302,
            "open": 2, "openat": 257, "creat": 85, "truncate": 76, "ftruncate": 77, "rename": 82, "mkdir": 83,
            "rmdir": 84, "link": 86, "unlink": 87, "symlink": 88, "chmod": 90, "fchmod": 91, "chown": 92,
            "fchown": 93, "lchown": 94, "mknod": 133, "utime": 132, "utimes": 235, "mkdirat": 258, "mknodat": 259,
            "fchownat": 260, "futimesat": 261, "unlinkat": 263, "renameat": 264, "linkat": 265, "symlinkat": 266,
            "fchmodat": 268, "utimensat": 280, "fallocate": 285, "renameat2": 316,
            "setxattr": 188, "lsetxattr": 189, "fsetxattr": 190, "removexattr": 197, "lremovexattr": 198,
            "fremovexattr": 199,
        },
    ),
    "aarch64": Architecture(
        audit=0xC00000B7,
        x32=False,
        numbers={
            **_COMMON,
            "socket": 198, "socketpair": 199, "bind": 200, "listen": 201, "accept": 202, "connect": 203,
            "sendto": 206, "sendmsg": 211, "accept4": 242, "sendmmsg": 269,
            "clone": 220, "execve": 221, "execveat": 281,
            "kill": 129, "tkill": 130, "tgkill": 131, "rt_sigqueueinfo": 138, "rt_tgsigqueueinfo": 240,
            "ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271, "perf_event_open": 241, "kcmp": 272,
            "bpf": 280, "userfaultfd": 282, "memfd_create": 279,
            "add_key": 217, "request_key": 218, "keyctl": 219,
            "mq_open": 180, "mq_unlink": 181, "msgget": 186, "msgctl": 187, "msgrcv": 188, "msgsnd": 189,
            "semget": 190, "semctl": 191, "semtimedop": 192, "semop": 193, "shmget": 194, "shmctl": 195,
            "shmat": 196, "setpriority": 140, "sched_setparam": 118, "sched_setscheduler": 119,
            "sched_setattr": 274, "ioprio_set": 30, "migrate_pages": 238, "move_pages": 239, "fcntl": 25,
            "umount2": 39, "mount": 40, "pivot_root": 41, "chroot": 51, "unshare": 97, "setns": 268,
            "name_to_handle_at": 264, "open_by_handle_at": 265,
            "kexec_load": 104, "init_module": 105, "delete_module": 106, "finit_module": 273, "kexec_file_load": 294,
            "setrlimit": 164, "prlimit64": 261,
            "openat": 56, "truncate": 45, "ftruncate": 46, "fallocate": 47, "mknodat": 33, "mkdirat": 34,
            "unlinkat": 35, "symlinkat": 36, "linkat": 37, "renameat": 38, "renameat2": 276, "fchmod": 52,
            "fchmodat": 53, "fchownat": 54, "fchown": 55, "utimensat": 88,
            "setxattr": 5, "lsetxattr": 6, "fsetxattr": 7, "removexattr": 14, "lremovexattr": 15, "fremovexattr": 16,
        },
    ),
}  # fmt: skip

# Not simply denied: judged by an argument, or answered as if the kernel did not have it.
_JUDGED = frozenset({"open", "openat", "openat2", "clone", "clone3", "fcntl"})
# fcntl(2): who gets the signal when a descriptor is ready, and which one. With these it is a kill(2).
_F_SETOWN, _F_SETSIG, _F_SETOWN_EX = 8, 10, 15
# O_WRONLY | O_RDWR | O_CREAT | O_TRUNC | O_APPEND (the same on both); O_TMPFILE cannot be without O_WRONLY or O_RDWR.
_WRITES = 0o1 | 0o2 | 0o100 | 0o1000 | 0o2000


def program(architecture: Architecture) -> list[tuple[int, int, int, int]]:
    """The filter as `(code, jump if true, jump if false, k)`; a jump counts the instructions passed over."""
    numbers = architecture.numbers
    deny = _ERRNO | errno.EPERM
    filter_ = [
        # 1. Another architecture, or an x32 number: the numbers below would mean something else.
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, architecture.audit),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
    ]
    if architecture.x32:
        filter_ += [(_AT_LEAST, 0, 1, _X32_BIT), (_RETURN, 0, 0, _KILL)]
    # 2. Never.
    for name in sorted(set(numbers) - _JUDGED):
        filter_ += [(_EQUAL, 0, 1, numbers[name]), (_RETURN, 0, 0, deny)]
    # 3. Their arguments lie in memory, which a filter cannot read: libc falls back to openat and clone.
    for name in ("clone3", "openat2"):
        filter_ += [(_EQUAL, 0, 1, numbers[name]), (_RETURN, 0, 0, _ERRNO | errno.ENOSYS)]
    # 4. Threads, not processes.
    flags = _ARGUMENTS
    filter_ += [
        (_EQUAL, 0, 4, numbers["clone"]),
        (_LOAD, 0, 0, flags),
        (_ANY_BIT, 0, 1, _CLONE_THREAD),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, deny),
    ]
    # 5. Files may be read, never written.
    for name, position in (("open", 1), ("openat", 2)):
        if name in numbers:
            filter_ += [
                (_EQUAL, 0, 4, numbers[name]),
                (_LOAD, 0, 0, _ARGUMENTS + 8 * position),
                (_ANY_BIT, 0, 1, _WRITES),
                (_RETURN, 0, 0, deny),
                (_RETURN, 0, 0, _ALLOW),
            ]
    # 6. No descriptor of this process sends another process a signal.
    filter_ += [
        (_EQUAL, 0, 6, numbers["fcntl"]),
        (_LOAD, 0, 0, _ARGUMENTS + 8),
        (_EQUAL, 3, 0, _F_SETOWN),
        (_EQUAL, 2, 0, _F_SETSIG),
        (_EQUAL, 1, 0, _F_SETOWN_EX),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, deny),
    ]
    return [*filter_, (_RETURN, 0, 0, _ALLOW)]


def is_supported() -> bool:
    return sys.platform == "linux" and sys.byteorder == "little" and platform.machine() in ARCHITECTURES


def apply() -> None:
    """Put the filter on this process, for good. Raises OSError when the kernel refuses it."""
    instructions = b"".join(
        struct.pack("=HBBI", *each) for each in program(ARCHITECTURES[platform.machine()])
    )
    held = ctypes.create_string_buffer(instructions, len(instructions))
    # struct sock_fprog { unsigned short len; struct sock_filter *filter; }
    header = ctypes.create_string_buffer(struct.pack("@HP", len(instructions) // 8, ctypes.addressof(held)))
    libc = ctypes.CDLL(None, use_errno=True)
    for option, argument, pointer in (
        (PR_SET_NO_NEW_PRIVS, 1, None),
        (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header),
    ):
        if libc.prctl(option, argument, pointer, 0, 0) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"the kernel refused prctl({option})")
