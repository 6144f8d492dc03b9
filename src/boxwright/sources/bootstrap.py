"""Base systems without a registry: a distribution's own packages, their signatures checked, by mmdebstrap.

mmdebstrap writes straight into the destination, in mount and PID namespaces of its own: whatever ends it, its mounts
and its processes end with it. That works as root and as the root of a user namespace. What differs from one run to the
next is taken away afterwards (`settle`), and times follow the packages, so that the same packages give the
same tree.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from boxwright.errors import FetchError, MachineError
from boxwright.model.giturl import without_password
from boxwright.sources import settle
from boxwright.sources.alpine.keys import ApkPlaces
from boxwright.sources.aptsources import AptSource, one_line, read_sources, sources_for
from boxwright.sources.localarchive import Keep, Pinned, hand_over, write_archive
from boxwright.sources.packages import BootstrapResult, archive_date, installed_packages
from boxwright.sources.process import Finished, never, require_program, run_program
from boxwright.sources.reference import BaseName, parse_base_name

_KEYRINGS = "/usr/share/keyrings/"
_SYSTEM = ("systemd-sysv", "udev", "dbus", "iproute2")
_RESOLVED_INSIDE = frozenset({"buster", "bullseye", "bionic", "focal", "jammy"})
_FIXED_TIME = "1577836800"
"""SOURCE_DATE_EPOCH while packages are set up: the archive's date is not known yet, the clock must not show."""

_SKIPPED = "check/empty,check/signed-by,check/qemu,cleanup/apt,output/dev,output/mknod"


@dataclass(frozen=True, slots=True)
class _Family:
    """A distribution that mmdebstrap knows."""

    keyring: str
    package: str
    components: tuple[str, ...] = ("main",)
    archives: tuple[tuple[str, str], ...] = ()
    """Where its packages are, with the suite's pockets, where mmdebstrap's own default won't do."""


_UBUNTU = "http://ports.ubuntu.com/ubuntu-ports"
if os.uname().machine in ("x86_64", "i686"):
    _UBUNTU = "http://archive.ubuntu.com/ubuntu"

_FAMILIES = {
    "debian": _Family("debian-archive-keyring.gpg", "debian-archive-keyring"),
    "ubuntu": _Family(
        "ubuntu-archive-keyring.gpg",
        "ubuntu-archive-keyring (or ubuntu-keyring)",
        ("main", "universe"),
        tuple((_UBUNTU, pocket) for pocket in ("", "-updates", "-security")),
    ),
}


def bootstrap(  # noqa: PLR0913 - where packages come from, and where they go
    name: str,
    destination_directory: str,
    *,
    mirror: str | None = None,
    output: Callable[[bytes], None],
    architecture: str = "",
    cancelled: Callable[[], bool] = never,
    apt_directory: Path = Path("/etc/apt"),
    apk: ApkPlaces = ApkPlaces(),  # noqa: B008 - it can't be changed
    keep: Keep | None = None,
) -> BootstrapResult:
    """Fill an empty directory with the base `name` (see `BaseName`) of debian, ubuntu or alpine.

    From `mirror`, else the name's own, else the places of the machine's apt configuration, else a default. `apk` says
    where Alpine's keys are. `keep` is given the files of its packages (of debian and ubuntu).
    """
    base = parse_base_name(name)
    if base.distribution == "alpine":
        from boxwright.sources.alpine.bootstrap import bootstrap_alpine

        places = apk._replace(keys=(base.keyring, *apk.keys)) if base.keyring else apk
        return bootstrap_alpine(
            base,
            destination_directory,
            mirror=mirror,
            output=output,
            architecture=architecture,
            cancelled=cancelled,
            places=places,
        )
    sources = mirror or base.mirror or None
    return _mmdebstrap(base, destination_directory, sources, output, architecture, cancelled, apt_directory, keep)


def _family(base: BaseName) -> _Family:
    family = _FAMILIES.get(base.distribution)
    if family is None:
        raise FetchError(
            "base.unknown",
            f"{base} can't be bootstrapped: only debian, ubuntu and alpine can",
            hint="import it: FROM tar:FILE, oci:DIR, or a registry's full name",
        )
    require_program("mmdebstrap", "mmdebstrap")
    return family


def rebuild(
    name: str,
    destination_directory: str,
    pinned: Pinned,
    *,
    output: Callable[[bytes], None],
    architecture: str = "",
    cancelled: Callable[[], bool] = never,
) -> BootstrapResult:
    """Fill an empty directory with a base of debian or ubuntu from the packages that were in it, and no other."""
    base = parse_base_name(name)
    family = _family(base)
    _require_root()
    line = write_archive(pinned, base.suite)
    started = int(time.time())
    _run(base, _command(base, destination_directory, (line,), "", architecture), output, cancelled)
    root = Path(destination_directory)
    if base.keyring:
        _keep_keyring(root, _keyring(base.keyring, family, base.distribution), ())
    epoch = settle.settle(root, pinned.sources, started, system=base.system)
    return BootstrapResult(epoch, 0, tuple(pinned.packages), pinned.sources)


def _run(base: BaseName, argv: list[str], output: Callable[[bytes], None], cancelled: Callable[[], bool]) -> None:
    finished = run_program(
        argv, package="util-linux", output=output, cancelled=cancelled, env={"SOURCE_DATE_EPOCH": _FIXED_TIME}
    )
    if finished.status:
        raise _failed(str(base), finished)


def _require_root() -> None:
    if os.geteuid() != 0:
        raise MachineError("machine.not-root", "a base can only be made as root or in a user namespace")


def _mmdebstrap(
    base: BaseName,
    destination_directory: str,
    mirror: str | None,
    output: Callable[[bytes], None],
    architecture: str,
    cancelled: Callable[[], bool],
    apt_directory: Path,
    keep: Keep | None,
) -> BootstrapResult:
    family = _family(base)
    keyring = _keyring(base.keyring or _KEYRINGS + family.keyring, family, base.distribution)
    _require_root()
    sources = _sources(base, mirror, keyring, apt_directory, family)
    argv = _command(base, destination_directory, tuple(map(one_line, sources)), keyring, architecture)
    if keep is not None:
        argv.insert(argv.index("mmdebstrap") + 1, "--skip=essential/unlink")
    started = int(time.time())
    _run(base, argv, output, cancelled)
    root = Path(destination_directory)
    if keep is not None:
        hand_over(destination_directory, keep)
    date = archive_date(root / "var/lib/apt/lists")
    packages = installed_packages(root)
    used = (root / "etc/apt/sources.list").read_text("utf-8").splitlines() if not sources else map(one_line, sources)
    lines = tuple(map(without_password, used))
    if base.keyring:
        lines = _keep_keyring(root, keyring, lines)
    epoch = settle.settle(root, lines, started, system=base.system)
    return BootstrapResult(epoch, date, packages, lines)


def _keep_keyring(root: Path, keyring: str, lines: tuple[str, ...]) -> tuple[str, ...]:
    """Put a keyring that isn't the distribution's own into the tree, for apt there; gives its sources with that."""
    kept = _KEYRINGS + os.path.basename(keyring)
    (root / kept[1:]).write_bytes(Path(keyring).read_bytes())
    (root / kept[1:]).chmod(0o644)
    return tuple(line.replace(f"signed-by={keyring}]", f"signed-by={kept}]") for line in lines)


def _keyring(path: str, family: _Family, distribution: str) -> str:
    if not os.path.exists(path):
        raise MachineError(
            "machine.no-keyring",
            f"the signatures of {distribution} can't be checked: {path} is missing",
            hint=f"apt install {family.package}, or name another in the configuration: bases, keyring",
        )
    return path


def _sources(
    base: BaseName, mirror: str | None, keyring: str, apt_directory: Path, family: _Family
) -> tuple[AptSource, ...]:
    if mirror is not None:
        return (AptSource(mirror.rstrip("/"), base.suite, family.components, keyring),)
    codename = _own_codename(base.distribution)
    if not codename:
        return tuple(AptSource(uri, base.suite + pocket, family.components, keyring) for uri, pocket in family.archives)
    own = f"{_KEYRINGS}{base.distribution}-archive-"
    return sources_for(read_sources(apt_directory), codename, base.suite, keyring, own)


def _own_codename(distribution: str) -> str:
    """The release of this machine, if it is of that distribution (os-release(5))."""
    try:
        text = Path("/etc/os-release").read_text("utf-8")
    except FileNotFoundError:
        return ""
    fields = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', text, re.MULTILINE))
    return fields.get("VERSION_CODENAME", "") if fields.get("ID") == distribution else ""


def _command(base: BaseName, destination: str, sources: tuple[str, ...], keyring: str, architecture: str) -> list[str]:
    argv = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "mmdebstrap"]
    argv += ["--mode=root", f"--variant={base.variant or 'minbase'}", "--format=directory", f"--skip={_SKIPPED}"]
    argv += [f"--aptopt={option}" for option in ('Acquire::Languages "none"', *_apt_options())]
    argv += ["--dpkgopt=force-unsafe-io", *([f"--keyring={keyring}"] if keyring else [])]
    if architecture:
        argv.append(f"--architectures={architecture}")
    resolved = () if base.suite in _RESOLVED_INSIDE else ("systemd-resolved",)
    wanted = (*(_SYSTEM + resolved if base.system else ()), *base.packages)
    if wanted:
        argv.append("--include=" + ",".join(wanted))
    if base.system:
        argv.append('--customize-hook=chroot "$1" systemctl enable systemd-networkd systemd-resolved')
    return [*argv, base.suite, destination, *sources]


def _apt_options() -> list[str]:
    """The machine's own settings of how archives are reached (apt.conf(5)); the base doesn't keep them."""
    finished = run_program(["apt-config", "dump"], package="apt")
    wanted = re.compile(
        r"Acquire::(?:(?:http|https|ftp)::(?!User-Agent)|Check-Valid-Until |Check-Date |Max-ValidTime |Retries )"
    )
    lines = finished.stdout.decode("utf-8", "replace").splitlines()
    return [line.rstrip(";") for line in lines if wanted.match(line) and not line.endswith(' "";')]


def _failed(name: str, finished: Finished) -> FetchError:
    said = [line for line in finished.tail.splitlines() if line.startswith(("E:", "W:", "Err:", "mmdebstrap"))]
    tail = "\n".join((said or finished.tail.splitlines())[-8:])
    return FetchError(
        "base.fetch",
        f"{name} could not be bootstrapped (mmdebstrap ended with {finished.status}):\n{tail}",
        hint="is the suite's name right, and can this machine run `apt-get update`? Another mirror: --mirror URL",
    )
