"""Take from a fresh base what differs from run to run and from machine to machine."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from boxwright.sources.network import enable_dhcp

_EMPTIED_DIRECTORIES = ("dev", "run", "tmp", "var/tmp", "var/cache/apt/archives", "var/lib/apt/lists")
_REMOVED = (
    "etc/hostname",
    "etc/resolv.conf",
    "etc/apt/apt.conf.d/99mmdebstrap",
    "etc/apt/apt.conf.d/00mmdebstrap",
    "etc/dpkg/dpkg.cfg.d/99mmdebstrap",
    "var/cache/apt/pkgcache.bin",
    "var/cache/apt/srcpkgcache.bin",
    "var/cache/ldconfig/aux-cache",
    "var/lib/dbus/machine-id",
    "var/lib/systemd/random-seed",
    "var/lib/systemd/credential.secret",
    "etc/.pwd.lock",
    "var/lib/dpkg/lock",
    "var/lib/dpkg/lock-frontend",
    "var/lib/apt/daily_lock",
)
_BACKUPS = ("etc/passwd-", "etc/group-", "etc/shadow-", "etc/gshadow-", "etc/subuid-", "etc/subgid-")
_BACKUPS_OF_DPKG = ("var/lib/dpkg/status-old", "var/lib/dpkg/diversions-old", "var/lib/dpkg/statoverride-old")
_BACKUPS_OF_DEBCONF = ("var/cache/debconf/config.dat-old", "var/cache/debconf/templates.dat-old")
_DAY = 86400


def settle(root: Path, sources: tuple[str, ...], started: int, *, system: bool) -> int:
    """Make the tree, begun at `started`, one that depends on its packages alone. Gives its newest time."""
    epoch = newest_before(os.fspath(root), started)
    for name in _EMPTIED_DIRECTORIES:
        empty_directory(root / name)
    empty_directory(root / "run")
    (root / "run/lock").mkdir(mode=0o1777)
    (root / "run/lock").chmod(0o1777)
    for name in (*_REMOVED, *_BACKUPS, *_BACKUPS_OF_DPKG, *_BACKUPS_OF_DEBCONF):
        (root / name).unlink(missing_ok=True)
    remove_logs(root / "var/log")
    (root / "etc/machine-id").unlink(missing_ok=True)
    (root / "etc/machine-id").touch(0o444)
    _write_sources(root / "etc/apt", sources)
    date_passwords(root / "etc/shadow", epoch // _DAY)
    if system:
        enable_dhcp(root)
    clamp_times(os.fspath(root), epoch)
    return epoch


def empty_directory(directory: Path) -> None:
    """Remove what is in a directory; a symbolic link is left alone."""
    if not directory.is_dir() or directory.is_symlink():
        return
    with os.scandir(directory) as found:
        for entry in list(found):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)


def remove_logs(directory: Path) -> None:
    """Logs that hold something; the empty ones (btmp, wtmp) are there for their owners."""
    for parent, _, files in os.walk(directory):
        for name in files:
            path = Path(parent, name)
            if path.is_symlink() or path.stat().st_size:
                path.unlink()


def _write_sources(directory: Path, sources: tuple[str, ...]) -> None:
    empty_directory(directory / "sources.list.d")
    path = directory / "sources.list"
    path.unlink(missing_ok=True)
    path.write_text("".join([f"{line}\n" for line in sources]), "utf-8")
    path.chmod(0o644)


def date_passwords(path: Path, day: int) -> None:
    """Days of password changes (shadow(5), third field) follow the packages, not the clock."""
    lines = [line.split(":") for line in path.read_text("utf-8").splitlines()]
    for fields in lines:
        if len(fields) > 2 and fields[2] not in ("", "0"):
            fields[2] = str(day)
    with path.open("r+", encoding="utf-8") as file:
        file.truncate()
        file.write("".join([":".join(fields) + "\n" for fields in lines]))


def newest_before(root: str, started: int) -> int:
    """The newest time that came with a package: what is written while it is set up is not older than `started`.

    What apt fetched has the time of the archive's files, or of those that stand for them.
    """
    downloads = (f"{root}/var/lib/apt/lists", f"{root}/var/cache/apt")
    times = [
        int(os.lstat(os.path.join(parent, name)).st_mtime)
        for parent, directories, files in os.walk(root)
        for name in (*directories, *files)
        if not parent.startswith(downloads)
    ]
    return max((time for time in times if time < started), default=0)


def clamp_times(root: str, epoch: int) -> None:
    """Set back what is later than `epoch`, and every time to whole seconds."""
    for parent, directories, files in os.walk(root, topdown=False):
        for name in (*files, *directories):
            _clamp(os.path.join(parent, name), epoch)
    _clamp(root, epoch)


def _clamp(path: str, epoch: int) -> None:
    status = os.lstat(path)
    time = min(int(status.st_mtime_ns // 1_000_000_000), epoch)
    if status.st_mtime_ns != time * 1_000_000_000:
        os.utime(path, (time, time), follow_symlinks=False)
