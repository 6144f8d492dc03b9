"""The seccomp profile of container builders, compiled by libseccomp once and kept as BPF.

seccomp(2); the profile's form is that of containers-common (pkg/seccomp).
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from boxwright.errors import MachineError

# Where containers-common reads its profile, first the administrator's.
PROFILES: Final = ("/etc/containers/seccomp.json", "/usr/share/containers/seccomp.json")
_HINT: Final = "install Debian's packages libseccomp2 and golang-github-containers-common"
_FORMAT: Final = b"boxwright-seccomp-1"

# <seccomp.h>
_ACTIONS: Final = {
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
_OPERATORS: Final = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}
# uname(2)'s machine: the profile's name (Go's), libseccomp's name in the profile.
_MACHINES: Final = {
    "x86_64": ("amd64", "SCMP_ARCH_X86_64"),
    "aarch64": ("arm64", "SCMP_ARCH_AARCH64"),
    "ppc64le": ("ppc64le", "SCMP_ARCH_PPC64LE"),
    "s390x": ("s390x", "SCMP_ARCH_S390X"),
    "riscv64": ("riscv64", "SCMP_ARCH_RISCV64"),
}
_UNKNOWN_CALL: Final = -1
# <asm-generic/ioctls.h>: what puts keystrokes into a terminal (ioctl_tty(2)). The kernel looks at 32 bits of a request.
_KEYSTROKES: Final = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "archMap": [
        {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]},
        {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
    ],
    "syscalls": [
        {
            "names": ["ioctl"],
            "action": "SCMP_ACT_ERRNO",
            "args": [{"index": 1, "op": "SCMP_CMP_MASKED_EQ", "value": 0xFFFFFFFF, "valueTwo": request}],
        }
        for request in (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX
    ],
}
_ATTRIBUTE_OPTIMIZE: Final = 8  # SCMP_FLTATR_CTL_OPTIMIZE: 2 is a binary tree


class _Argument(ctypes.Structure):
    _fields_ = (("index", ctypes.c_uint), ("op", ctypes.c_int), ("first", ctypes.c_uint64), ("second", ctypes.c_uint64))


def program(cache: Path, capabilities: Collection[str]) -> bytes:
    """The filter for a process that holds `capabilities`, from `cache` where it is there."""
    text = _profile()
    library = _library()
    version = ",".join(str(number) for number in _version(library))
    facts = (_FORMAT, version.encode(), platform.machine().encode(), ",".join(sorted(capabilities)).encode(), text)
    path = cache / f"seccomp-{hashlib.sha256(bytes(1).join(facts)).hexdigest()[:32]}.bpf"
    try:
        stored = path.read_bytes()
    except FileNotFoundError:
        stored = b""
    if stored and len(stored) % 8 == 0:
        return stored
    compiled = _compile(library, json.loads(text), frozenset(capabilities))
    with suppress(OSError):  # a cache that can't be written costs 20 ms each time
        temporary = cache / f"{path.name}.{os.getpid()}"
        temporary.write_bytes(compiled)
        temporary.replace(path)
    return compiled


def keyboard_filter() -> bytes:
    """A filter for a process that is given the user's own terminal: it can't put keystrokes into it."""
    return _compile(_library(), _KEYSTROKES, frozenset())


def _profile() -> bytes:
    for name in PROFILES:
        try:
            return Path(name).read_bytes()
        except FileNotFoundError:
            continue
    raise MachineError("machine.no-seccomp-profile", f"no seccomp profile at {' or '.join(PROFILES)}", hint=_HINT)


def _library() -> Any:  # noqa: ANN401  ctypes gives functions no types
    try:
        library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    except OSError as error:
        raise MachineError("machine.no-libseccomp", f"libseccomp can't be loaded: {error}", hint=_HINT) from error
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = (ctypes.c_uint32,)
    library.seccomp_release.argtypes = (ctypes.c_void_p,)
    library.seccomp_arch_resolve_name.restype = ctypes.c_uint32
    library.seccomp_arch_add.argtypes = (ctypes.c_void_p, ctypes.c_uint32)
    library.seccomp_attr_set.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32)
    library.seccomp_rule_add_array.argtypes = (
        ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.POINTER(_Argument),
    )  # fmt: skip
    library.seccomp_export_bpf.argtypes = (ctypes.c_void_p, ctypes.c_int)
    return library


def _version(library: Any) -> tuple[int, int, int]:  # noqa: ANN401
    class Version(ctypes.Structure):
        _fields_ = (("major", ctypes.c_uint), ("minor", ctypes.c_uint), ("micro", ctypes.c_uint))

    library.seccomp_version.restype = ctypes.POINTER(Version)
    found = library.seccomp_version().contents
    return found.major, found.minor, found.micro


def _compile(library: Any, profile: dict[str, Any], capabilities: frozenset[str]) -> bytes:  # noqa: ANN401
    context = library.seccomp_init(_action(profile["defaultAction"], profile.get("defaultErrnoRet")))
    if not context:
        raise MachineError("machine.seccomp", "libseccomp made no filter", hint=_HINT)
    try:
        machine = _MACHINES.get(platform.machine(), ("", ""))
        for family in profile.get("archMap") or ():
            if family["architecture"] == machine[1]:
                for name in family.get("subArchitectures") or ():
                    token = name.removeprefix("SCMP_ARCH_").lower().encode()
                    _succeed(library.seccomp_arch_add(context, library.seccomp_arch_resolve_name(token)), name)
        library.seccomp_attr_set(context, _ATTRIBUTE_OPTIMIZE, 2)
        for rule in profile["syscalls"]:
            if _applies(rule, machine[0], capabilities):
                _add(library, context, rule, profile)
        with tempfile.TemporaryFile() as file:
            _succeed(library.seccomp_export_bpf(context, file.fileno()), "export")
            file.seek(0)
            return file.read()
    finally:
        library.seccomp_release(context)


def _applies(rule: dict[str, Any], machine: str, capabilities: frozenset[str]) -> bool:
    includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
    if not set(includes.get("caps") or ()) <= capabilities or set(excludes.get("caps") or ()) & capabilities:
        return False
    if includes.get("arches") and machine not in includes["arches"]:
        return False
    return machine not in (excludes.get("arches") or ())


def _add(library: Any, context: int, rule: dict[str, Any], profile: dict[str, Any]) -> None:  # noqa: ANN401
    action = _action(rule["action"], rule.get("errnoRet"))
    if action == _action(profile["defaultAction"], profile.get("defaultErrnoRet")):
        return
    given = [
        _Argument(entry["index"], _OPERATORS[entry["op"]], entry["value"], entry.get("valueTwo", 0))
        for entry in rule.get("args") or ()
    ]
    # libseccomp takes one condition for an argument's index in a rule: conditions on one index are rules of their own.
    several = len({argument.index for argument in given}) < len(given)
    batches = [[argument] for argument in given] if several else [given]
    for name in rule.get("names") or [rule["name"]]:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number == _UNKNOWN_CALL:
            continue
        for batch in batches:
            array = (_Argument * len(batch))(*batch)
            result = library.seccomp_rule_add_array(context, action, number, len(batch), array)
            if result not in (0, -errno.EEXIST):
                _succeed(result, name)


def _action(name: str, number: int | None) -> int:
    if name == "SCMP_ACT_ERRNO":
        return _ACTIONS[name] | (errno.EPERM if number is None else number)
    return _ACTIONS[name]


def _succeed(result: int, what: str) -> None:
    if result < 0:
        raise MachineError("machine.seccomp", f"libseccomp refuses {what}: {os.strerror(-result)}", hint=_HINT)
