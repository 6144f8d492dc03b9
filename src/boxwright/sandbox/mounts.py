"""What a sandbox's first process mounts, in mount and PID namespaces of its own; all of it goes with the namespace.

The file systems and masked paths are those of the OCI runtime specification, config-linux.md ("Default Filesystems",
"Default Devices", "Masked Paths", "Readonly Paths"), with the values that container builders use. All that is writable
is mounted nodev, which does what they do by a device cgroup: a device node that a process makes can't be opened.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from boxwright.files import write_all
from boxwright.ports import SandboxMount, SecretFile, Tmpfs, TreeMount
from boxwright.sandbox import syscalls
from boxwright.sandbox.place import Place, find_place
from boxwright.sandbox.request import RunRequest, SandboxError
from boxwright.sandbox.syscalls import MS_BIND, MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY, MS_REC, MS_REMOUNT, mount

_DEVICES: Final = ("full", "null", "random", "tty", "urandom", "zero")
_LINKS: Final = (
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
)
_MASKED_FILES: Final = (
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/timer_list",
    "/proc/timer_stats",
)
_MASKED_DIRECTORIES: Final = ("/proc/acpi", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap")
_READ_ONLY: Final = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
# Flags that a user namespace may not clear from a mount it inherited (mount_namespaces(7)), by statvfs(3)'s bits.
_LOCKED: Final = os.ST_RDONLY | os.ST_NOSUID | os.ST_NODEV | os.ST_NOEXEC | os.ST_NOATIME | os.ST_NODIRATIME | 4096
_SHM_SIZE: Final = 64 << 20
_TEMPORARY: Final = "/dev/.boxwright"
_ABSENT: Final = (errno.ENOENT, errno.ENOTDIR)


@contextmanager
def _reported(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno == errno.EROFS:
            message = f"{what} is not there, and what it lies in can't be written"
            raise SandboxError("sandbox.mount-point", message, fault="step") from error
        raise SandboxError("sandbox.mount", f"can't mount {what}: {error.strerror}", hint=_hint(error)) from error


def _hint(error: OSError) -> str:
    if error.errno == errno.EPERM:
        return "run as root, or with a kernel that lets user namespaces mount overlays (5.11 or newer)"
    return "`boxwright doctor` says what this machine can do"


def stage(directory: str) -> None:
    """What every sandbox has, mounted below `directory` before its request is known: /proc with its masks, and /dev."""
    syscalls.mount("none", "/", "", MS_REC | syscalls.MS_PRIVATE)
    os.chdir("/")
    with _reported("/proc and /dev"):
        mount("proc", f"{directory}/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
        _mount_dev(f"{directory}/dev")
        _mask(directory, "/proc/")


def enter_tree(request: RunRequest) -> int:
    """Mount the tree and make it the root; returns a descriptor of the old root, which is still mounted."""
    spec = request.spec
    old_root = os.open("/", os.O_PATH | os.O_DIRECTORY)
    with _reported("the overlay"):
        # Descriptors in place of paths: nothing to escape, and the options stay below a page.
        skeleton = os.open(request.skeleton, os.O_PATH | os.O_DIRECTORY)
        options = f"lowerdir={':'.join((*spec.lowers, f'/proc/self/fd/{skeleton}'))},index=off"
        options += ",userxattr" if request.user_namespace else ",metacopy=off,redirect_dir=off"
        flags = 0 if spec.security == "insecure" else MS_NODEV
        if spec.upper:
            upper = os.open(spec.upper, os.O_PATH | os.O_DIRECTORY)
            work = os.open(spec.work, os.O_PATH | os.O_DIRECTORY)
            options += f",upperdir=/proc/self/fd/{upper},workdir=/proc/self/fd/{work}"
            options += "" if request.detached else ",volatile"
        else:
            flags |= MS_RDONLY
        if spec.work:
            # Left by an earlier volatile mount of the same layer, whose bytes this same system still holds.
            with suppress(OSError):
                os.unlink(f"{spec.work}/work/incompat/volatile/dirty")
                os.rmdir(f"{spec.work}/work/incompat/volatile")
                os.rmdir(f"{spec.work}/work/incompat")
        os.chdir(spec.layers_directory)
        mount("overlay", request.root, "overlay", flags, options)
    os.chdir(request.root)
    syscalls.pivot_root(".", ".")
    os.fchdir(old_root)
    return old_root


def populate(request: RunRequest) -> tuple[tuple[str, bool], ...]:
    """Mount everything else. The working directory is the old root; sources are relative to it, targets absolute.

    Returns what had to be made in the tree to be mounted on.
    """
    made: list[tuple[str, bool]] = []
    spec = request.spec
    insecure = spec.security == "insecure"
    staged = request.stage.lstrip("/")
    with _reported("/proc, /sys and /dev"):
        for target in ("/proc", "/sys", "/dev"):
            _make_top(target, made)
        if insecure:
            mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
        else:
            mount(f"{staged}/proc", "/proc", "", syscalls.MS_MOVE)
        mount(f"{staged}/dev", "/dev", "", syscalls.MS_MOVE)
        if spec.shm_size != _SHM_SIZE:
            flags = MS_REMOUNT | MS_NOSUID | MS_NODEV | MS_NOEXEC
            mount("shm", "/dev/shm", "tmpfs", flags, f"size={spec.shm_size}")  # noqa: S108
        _mount_sys(request)
        if not insecure:
            _mask("", "/sys/")
    _mount_files(request, made)
    for entry in spec.mounts:
        with _reported(entry.target):
            _mount_entry(request, entry, made)
    return tuple(made)


def leave_old_root() -> None:
    """Take the old root away; the working directory must be in it."""
    syscalls.umount(".", syscalls.MNT_DETACH)
    os.chdir("/")


def _mount_sys(request: RunRequest) -> None:
    flags = MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY
    if not (request.user_namespace and request.spec.network == "host"):
        try:
            mount("sysfs", "/sys", "sysfs", flags)
        except PermissionError:
            pass
        else:
            return
    # A user namespace that doesn't own the network namespace may not mount sysfs (sysfs(5)).
    mount("sys", "/sys", "", MS_BIND | MS_REC)
    _remount_at("/sys", MS_RDONLY)


def _mount_dev(dev: str) -> None:
    mount("tmpfs", dev, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=755,size=65536k")
    os.umask(0)
    for name in _DEVICES:
        os.close(os.open(f"{dev}/{name}", os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o666))
        mount(f"dev/{name}", f"{dev}/{name}", "", MS_BIND)
    for directory, mode in (("pts", 0o755), ("shm", 0o1777), ("mqueue", 0o1777)):
        os.mkdir(f"{dev}/{directory}", mode)
    mount("devpts", f"{dev}/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620,gid=5")
    mount("shm", f"{dev}/shm", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, f"mode=1777,size={_SHM_SIZE}")
    mount("mqueue", f"{dev}/mqueue", "mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    for source, link in _LINKS:
        os.symlink(source, f"{dev}/{link}")
    os.umask(0o022)


def _mount_files(request: RunRequest, made: list[tuple[str, bool]]) -> None:
    spec = request.spec
    hosts = "".join(f"{address}\t{name}\n" for name, address in spec.hosts)
    local = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
    files = (
        ("/etc/resolv.conf", request.resolver),
        ("/etc/hosts", f"{local}127.0.1.1\t{spec.hostname}\n{hosts}"),
        ("/etc/hostname", f"{spec.hostname}\n"),
    )
    given = {entry.target for entry in spec.mounts}  # nothing can be mounted on a file that no name leads to
    for target, text in files:
        if target in given:
            continue
        with _reported(target):
            try:
                _mount_file(SecretFile(target, text.encode(), 0o644), made, flags=0)
            except OSError as error:
                if error.errno != errno.EROFS:
                    raise


def _mount_file(file: SecretFile, made: list[tuple[str, bool]], flags: int) -> None:
    """A file of the tmpfs at /dev that no name leads to but this mount."""
    place = find_place(file.target, made, is_directory=False)
    fd = os.open(_TEMPORARY, os.O_CREAT | os.O_RDWR | os.O_EXCL | os.O_CLOEXEC, 0o600)
    write_all(fd, file.data)
    os.fchown(fd, file.uid, file.gid)
    os.fchmod(fd, file.mode)
    os.close(fd)
    mount(_TEMPORARY, place.target, "", MS_BIND)
    os.unlink(_TEMPORARY)
    _remount(place, flags)
    place.close()


def _mount_entry(request: RunRequest, entry: SandboxMount, made: list[tuple[str, bool]]) -> None:
    insecure = request.spec.security == "insecure"
    if isinstance(entry, SecretFile):
        _mount_file(entry, made, MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC)
    elif isinstance(entry, Tmpfs):
        place = find_place(entry.target, made, is_directory=True)
        size = f",size={entry.size}" if entry.size else ""
        mount("tmpfs", place.target, "tmpfs", MS_NOSUID | MS_NODEV, f"mode={entry.mode:o}{size}")
        place.close()
    elif isinstance(entry, TreeMount):
        _mount_tree(request, entry, made)
    else:
        _bind(entry.source.lstrip("/") or ".", entry.target, made, read_only=entry.read_only, insecure=insecure)


def _bind(source: str, target: str, made: list[tuple[str, bool]], *, read_only: bool, insecure: bool) -> None:
    mode = os.stat(source).st_mode
    place = find_place(target, made, is_directory=stat.S_ISDIR(mode))
    mount(source, place.target, "", MS_BIND | MS_REC)
    _remount(place, (MS_RDONLY if read_only else 0) | (0 if insecure or stat.S_ISCHR(mode) else MS_NODEV))
    place.close()


def _mount_tree(request: RunRequest, entry: TreeMount, made: list[tuple[str, bool]]) -> None:
    """Mount the whole tree aside, and its part where it belongs."""
    insecure = request.spec.security == "insecure"
    layers = request.spec.layers_directory.lstrip("/")
    if len(entry.lowers) == 1 and not entry.upper:
        _bind(f"{layers}/{entry.lowers[0]}/{entry.source}", entry.target, made, read_only=True, insecure=insecure)
        return
    old_root = os.open(".", os.O_PATH | os.O_DIRECTORY)
    options = f"lowerdir={':'.join(entry.lowers)},index=off"
    options += ",userxattr" if request.user_namespace else ",metacopy=off,redirect_dir=off"
    if entry.upper:
        upper = os.open(entry.upper.lstrip("/"), os.O_PATH | os.O_DIRECTORY)
        work = os.open(entry.work.lstrip("/"), os.O_PATH | os.O_DIRECTORY)
        options += f",upperdir=/proc/self/fd/{upper},workdir=/proc/self/fd/{work},volatile"
    os.mkdir(_TEMPORARY, 0o700)
    os.chdir(layers)
    mount("overlay", _TEMPORARY, "overlay", (0 if insecure else MS_NODEV) | (0 if entry.upper else MS_RDONLY), options)
    os.fchdir(old_root)
    os.close(old_root)
    _bind(f"{_TEMPORARY}/{entry.source}", entry.target, made, read_only=not entry.upper, insecure=insecure)
    syscalls.umount(_TEMPORARY, syscalls.MNT_DETACH)
    os.rmdir(_TEMPORARY)


def _remount(place: Place, flags: int) -> None:
    if not flags:
        return
    fd = place.mounted()
    _remount_at(f"/proc/self/fd/{fd}", flags)
    os.close(fd)


def _remount_at(target: str, flags: int) -> None:
    kept = os.statvfs(target).f_flag & _LOCKED
    # statvfs and mount number these alike, but for relatime: 4096 there, 1 << 21 here.
    kept = kept & ~4096 | (1 << 21 if kept & 4096 else 0)
    mount("none", target, "", MS_BIND | MS_REMOUNT | kept | flags)


def _mask(root: str, below: str) -> None:
    for path in _MASKED_FILES:
        if path.startswith(below):
            _try_mount(f"{root}/dev/null", root + path, "", MS_BIND)
    for path in _MASKED_DIRECTORIES:
        if path.startswith(below):
            flags = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC
            _try_mount("tmpfs", root + path, "tmpfs", flags, "size=0,nr_inodes=2")
    for path in _READ_ONLY:
        if path.startswith(below) and _try_mount(root + path, root + path, "", MS_BIND | MS_REC):
            flags = MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC
            mount("none", root + path, "", flags)


def _try_mount(source: str, target: str, kind: str, flags: int, options: str = "") -> bool:
    try:
        mount(source, target, kind, flags, options)
    except OSError as error:
        if error.errno in _ABSENT:
            return False
        raise
    return True


def _make_top(path: str, made: list[tuple[str, bool]]) -> None:
    """A mount point right below the root, before /proc is there; a symbolic link in its place would lead elsewhere."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        os.mkdir(path, 0o755)
        made.append((path, True))
        return
    if not stat.S_ISDIR(found.st_mode):
        raise SandboxError("sandbox.mount-point", f"the tree's {path} is no directory", fault="step")
