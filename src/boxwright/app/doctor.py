"""What this machine can do, and how to mend what it can't."""

from __future__ import annotations

import ctypes.util
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from boxwright.app.upkeep import limit_of
from boxwright.errors import BoxwrightError
from boxwright.store.home import default_root, open_home

ANSWER_SECONDS = 10
SNAPSHOTTING = ("btrfs", "zfs", "ceph", "lvm")
"""Drivers of LXD's storage pools that copy on write."""
FEWEST_IDS = 65536
SYSCTL = "as root: sysctl kernel.unprivileged_userns_clone=1 kernel.apparmor_restrict_unprivileged_userns=0"
OVERLAY = "mount -t overlay overlay -o lowerdir=l,upperdir=u,workdir=w{options} m && echo x > m/f && rm m/f"
ENGINES = {
    "docker": (("docker", "info"), "apt-get install docker.io, and start its daemon"),
    "podman": (("podman", "info"), "apt-get install podman"),
    "lxd": (("lxc", "query", "/1.0"), "apt-get install lxd, then: lxd init --auto"),
}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing: whether it is there, what was seen, and how to mend it. `needed`: without it nothing builds."""

    name: str
    ok: bool
    seen: str
    mend: str = ""
    needed: bool = False


def examine(environment: Mapping[str, str]) -> Iterator[Check]:
    """Every check, as soon as it is done."""
    yield _store(environment)
    if os.geteuid() != 0:
        yield from _ids()
    yield _tried("user namespaces", ["unshare", "--user", "--map-root-user", "true"], SYSCTL, needed=os.geteuid() != 0)
    yield from _overlays(environment)
    yield _seccomp()
    yield _one_of("build network", ("pasta", "slirp4netns"), "apt-get install passt (or slirp4netns)")
    yield _program("mmdebstrap", "debian: and ubuntu: bases")
    yield _program("bwrap", "builds of packages", package="bubblewrap")
    yield _ubuntu_keyring()
    yield _program("openssl", "alpine: bases: their signatures")
    yield _program("skopeo", "bases from registries")
    yield _program("mksquashfs", "squashfs outputs", package="squashfs-tools")
    yield _program("nft", "rules of stacks' networks", package="nftables")
    yield _program("git", "a build's time from the last commit")
    for name, (command, mend) in ENGINES.items():
        yield _engine(name, command, mend)
    yield from _pools(environment)


def can_build(checks: list[Check]) -> bool:
    """Whether nothing that a build needs is missing."""
    return all(check.ok for check in checks if check.needed)


def _store(environment: Mapping[str, str]) -> Check:
    root = default_root(dict(environment), os.geteuid())
    try:
        home = open_home(root)
        taken = sum(size for size in _sizes(home.database))
        system = os.statvfs(root)
        free = system.f_bavail * system.f_frsize
        limit = limit_of(environment, root)
    except BoxwrightError as error:
        return Check("store", ok=False, seen=error.message, mend=error.hint, needed=True)
    seen = f"{root}: {_giga(taken)} of at most {_giga(limit)}, {_giga(free)} free on the disk"
    return Check("store", ok=True, seen=seen, needed=True)


def _sizes(index: str) -> Iterator[int]:
    if not os.path.exists(index):
        return
    import sqlite3

    yield os.path.getsize(index)
    with sqlite3.connect(f"file:{index}?mode=ro", uri=True) as db:
        yield from (row[0] or 0 for row in db.execute("SELECT sum(size) FROM layers"))
    db.close()


def _giga(size: int) -> str:
    return f"{size / 1e9:.1f} GB"


def _ids() -> Iterator[Check]:
    from boxwright.sandbox.userns import read_ranges

    uid = os.geteuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    for file in ("/etc/subuid", "/etc/subgid"):
        count = sum(found.count for found in read_ranges(Path(file), name, uid))
        mend = f"as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name}"
        yield Check(f"ids in {file}", count >= FEWEST_IDS, f"{count} for {name}", mend, needed=True)
    for program in ("newuidmap", "newgidmap"):
        yield _program(program, "ids of other users", package="uidmap", needed=True)


def _overlays(environment: Mapping[str, str]) -> Iterator[Check]:
    """On the store's own file system, which must be able to hold an upper directory."""
    ordinary = os.geteuid() != 0
    where = default_root(dict(environment), os.geteuid())
    parent = f"{where}/work" if os.access(f"{where}/work", os.W_OK) else None
    mend = "modprobe overlay, or move the store with BOXWRIGHT_HOME to ext4, xfs, btrfs or tmpfs"
    with tempfile.TemporaryDirectory(prefix="doctor-", dir=parent, ignore_cleanup_errors=True) as directory:
        for name in "luwm":
            os.mkdir(f"{directory}/{name}")
        if not ordinary:
            yield _tried("overlay", _shell(directory, [], ""), mend, needed=True)
        namespace = ["--user", "--map-root-user"]
        yield _tried(
            "overlay in a user namespace",
            _shell(directory, namespace, ",userxattr"),
            f"Linux 5.11 or newer; {mend}",
            needed=ordinary,
        )


def _shell(directory: str, namespace: list[str], options: str) -> list[str]:
    script = f'cd "$1" && {OVERLAY.format(options=options)}'
    return ["unshare", *namespace, "--mount", "sh", "-c", script, "sh", directory]


def _seccomp() -> Check:
    profile = ctypes.util.find_library("seccomp")
    mend = "apt-get install libseccomp2"
    with Path("/proc/self/status").open(encoding="ascii", errors="replace") as status:
        kernel = any(line.startswith("Seccomp:") for line in status)
    if not kernel:
        return Check("seccomp", ok=False, seen="the kernel has none", mend="a kernel with CONFIG_SECCOMP_FILTER")
    return Check("seccomp", profile is not None, profile or "libseccomp is missing", mend, needed=True)


def _program(name: str, purpose: str, *, package: str = "", needed: bool = False) -> Check:
    found = shutil.which(name)
    return Check(
        name, found is not None, found or f"needed for {purpose}", f"apt-get install {package or name}", needed
    )


def _ubuntu_keyring() -> Check:
    path = "/usr/share/keyrings/ubuntu-archive-keyring.gpg"
    found = os.path.exists(path)
    mend = f"install ubuntu-archive-keyring (or ubuntu-keyring), or put Ubuntu's keyring at {path}"
    return Check("keyring of ubuntu", found, path if found else "needed for ubuntu: bases: their signatures", mend)


def _one_of(name: str, programs: tuple[str, ...], mend: str) -> Check:
    found = next((path for program in programs if (path := shutil.which(program))), None)
    return Check(name, found is not None, found or "RUN has no network but --network host", mend)


def _tried(name: str, command: list[str], mend: str, *, needed: bool) -> Check:
    said = _ask(command)
    return Check(name, said is None, said or "works", mend, needed)


def _engine(name: str, command: tuple[str, ...], mend: str) -> Check:
    if shutil.which(command[0]) is None:
        return Check(f"engine {name}", ok=False, seen=f"{command[0]} is not installed", mend=mend)
    said = _ask(list(command))
    return Check(f"engine {name}", said is None, said or "answers", mend)


def _pools(environment: Mapping[str, str]) -> Iterator[Check]:
    """Storage pools of the local LXD: each step of a build there is a snapshot."""
    from boxwright.engines.lxdclient.address import find_endpoint
    from boxwright.engines.lxdclient.client import LxdClient

    try:
        with LxdClient(find_endpoint("", environment)) as client:
            pools = client.get("/storage-pools", recursion="1")
    except BoxwrightError:
        return  # what is wrong with LXD is said above
    for pool in pools:
        copies = pool["driver"] not in SNAPSHOTTING
        seen = (
            f"{pool['driver']}: each step of a build copies the whole tree"
            if copies
            else f"{pool['driver']}: snapshots"
        )
        mend = "lxc storage create NAME btrfs, and let the default profile's root device use it"
        yield Check(f"lxd pool {pool['name']}", not copies, seen, mend)


def _ask(command: list[str]) -> str | None:
    """None when it works, else the last line of what it says."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=ANSWER_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        return f"{command[0]} is missing"
    except subprocess.TimeoutExpired:
        return f"no answer in {ANSWER_SECONDS} s"
    if done.returncode == 0:
        return None
    lines = done.stderr.decode(sys.getfilesystemencoding(), "replace").strip().splitlines()
    return lines[-1] if lines else f"exit status {done.returncode}"
