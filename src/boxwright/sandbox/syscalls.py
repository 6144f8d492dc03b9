"""Linux system calls that Python 3.11 has no function for, by ctypes; each raises OSError with its errno."""

from __future__ import annotations

import ctypes
import os
import platform
from typing import Final

# <linux/sched.h>, clone(2)
CLONE_NEWNS: Final = 0x00020000
CLONE_NEWCGROUP: Final = 0x02000000
CLONE_NEWUTS: Final = 0x04000000
CLONE_NEWIPC: Final = 0x08000000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000

# <linux/mount.h>, mount(2)
MS_RDONLY: Final = 1
MS_NOSUID: Final = 2
MS_NODEV: Final = 4
MS_NOEXEC: Final = 8
MS_REMOUNT: Final = 32
MS_BIND: Final = 4096
MS_MOVE: Final = 8192
MS_REC: Final = 16384
MS_PRIVATE: Final = 1 << 18
MNT_DETACH: Final = 2

# <linux/prctl.h>, prctl(2)
PR_SET_PDEATHSIG: Final = 1
PR_SET_DUMPABLE: Final = 4
PR_CAPBSET_DROP: Final = 24
PR_CAP_AMBIENT: Final = 47
PR_CAP_AMBIENT_CLEAR_ALL: Final = 4

_SECCOMP_SET_MODE_FILTER: Final = 1
_CAPABILITY_VERSION_3: Final = 0x20080522
_KEYCTL_JOIN_SESSION_KEYRING: Final = 1
# Numbers of seccomp(2), pivot_root(2) and keyctl(2) by machine; the generic table serves arm64, riscv64 and others.
_NUMBERS: Final = {"x86_64": (317, 155, 250)}.get(platform.machine(), (277, 41, 219))

_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
_libc.umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)
_libc.unshare.argtypes = (ctypes.c_int,)
_libc.setns.argtypes = (ctypes.c_int, ctypes.c_int)
_libc.prctl.argtypes = (ctypes.c_int, *(ctypes.c_ulong,) * 4)
_libc.syscall.restype = ctypes.c_long


class _CapHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapData(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


class _SockFprog(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def _check(result: int, what: str = "") -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what or None)


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    """mount(2)."""
    data = os.fsencode(options) if options else None
    _check(_libc.mount(os.fsencode(source), os.fsencode(target), kind.encode(), flags, data), target)


def umount(target: str, flags: int = 0) -> None:
    """umount2(2)."""
    _check(_libc.umount2(os.fsencode(target), flags), target)


def unshare(flags: int) -> None:
    """unshare(2)."""
    _check(_libc.unshare(flags))


def setns(fd: int, flags: int) -> None:
    """setns(2); `fd` may be a pidfd and `flags` several kinds of namespace."""
    _check(_libc.setns(fd, flags))


def pivot_root(new_root: str, put_old: str) -> None:
    """pivot_root(2)."""
    number = ctypes.c_long(_NUMBERS[1])
    _check(_libc.syscall(number, ctypes.c_char_p(os.fsencode(new_root)), ctypes.c_char_p(os.fsencode(put_old))))


def prctl(option: int, first: int = 0, second: int = 0) -> None:
    """prctl(2) with up to two arguments."""
    _check(_libc.prctl(option, first, second, 0, 0))


def set_capabilities(permitted: int) -> None:
    """capset(2): permitted and effective become `permitted`, inheritable nothing (capabilities(7))."""
    header = _CapHeader(_CAPABILITY_VERSION_3, 0)
    low, high = permitted & 0xFFFFFFFF, permitted >> 32
    data = (_CapData * 2)(_CapData(low, low, 0), _CapData(high, high, 0))
    _check(_libc.capset(ctypes.byref(header), ctypes.byref(data)))


def set_seccomp_filter(program: bytes) -> None:
    """seccomp(2) with a classic BPF program; needs CAP_SYS_ADMIN, as no_new_privs is not set."""
    instructions = ctypes.create_string_buffer(program, len(program))
    fprog = _SockFprog(len(program) // 8, ctypes.addressof(instructions))
    number = ctypes.c_long(_NUMBERS[0])
    _check(_libc.syscall(number, ctypes.c_long(_SECCOMP_SET_MODE_FILTER), ctypes.c_long(0), ctypes.byref(fprog)))


def join_new_keyring() -> bool:
    """keyctl(2): an anonymous session keyring of its own; False where the kernel refuses."""
    number = ctypes.c_long(_NUMBERS[2])
    return bool(_libc.syscall(number, ctypes.c_long(_KEYCTL_JOIN_SESSION_KEYRING), None) >= 0)
