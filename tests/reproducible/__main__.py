"""`make reproducible`: the table of package, seconds of both builds, same or different."""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.conftest import ORDINARY_USER, has_ordinary_user
from tests.reproducible.builds import ROOT, BuildError, Built, Circumstances, build, checkout, say
from tests.reproducible.compare import dated, differences

PREFIX = "boxwright-reproducible-"
MEMORY = Path("/dev/shm")
MEMORY_NEEDED = 12 * 2**30
"""Bytes that must be free in memory before the second store is put there: files come in another order from it."""


def tree_packages() -> list[str]:
    """Every package of the tree."""
    return sorted("/".join(path.parts[-3:-1]) for path in (ROOT / "packages").glob("*/*/pkg.yaml"))


def plain(directory: Path) -> Circumstances:
    """As somebody builds it."""
    return Circumstances(ROOT, directory / "first")


def changed(directory: Path, *, as_user: bool) -> Circumstances:
    """Everything that may not count is another: path, time, user, host name, locale, zone, processors, umask."""
    user = ORDINARY_USER if as_user and has_ordinary_user() else ""
    environment = {
        "HOME": str(directory / "a home"),
        "LANG": "tr_TR.UTF-8",
        "LC_ALL": "tr_TR.UTF-8",
        "TZ": "Pacific/Kiritimati",
        "USER": "somebody",
        "LOGNAME": "somebody",
        "CFLAGS": "-O0",
        "MAKEFLAGS": "-j1",
    }
    return Circumstances(
        checkout(directory / "another place" / "with a longer name"),
        directory / "second",
        hostname="another-host" if os.geteuid() == 0 else "",
        user=user,
        processors=1,
        environment=tuple(environment.items()),
        umask=0o027 if not user else 0o022,
    )


def main(arguments: Sequence[str]) -> int:
    """Build everything twice; 1 where something is different or fails."""
    options = _parser().parse_args(arguments)
    wanted = options.only or tree_packages()
    home, second_home = _homes(options.directory)
    for directory in (home, second_home):
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o777)
    (home / "logs").mkdir(exist_ok=True)
    try:
        first, second = plain(home), changed(second_home, as_user=options.as_user)
        say(f"{'package':<32} {'first':>8} {'second':>8}  result")
        results = [_compare(package, first, second, home / "logs", test=options.test) for package in wanted]
    finally:
        if not options.directory:
            shutil.rmtree(second_home, ignore_errors=True)
            shutil.rmtree(home, ignore_errors=True)
    say(f"{sum(results)} of {len(results)} the same")
    return 0 if all(results) else 1


def _homes(kept: str | None) -> tuple[Path, Path]:
    """Where both stores are: new ones, or those that belong to a directory that is kept."""
    memory = shutil.disk_usage(MEMORY).free >= MEMORY_NEEDED if MEMORY.is_dir() else False
    if kept is None:
        home = Path(tempfile.mkdtemp(prefix=PREFIX, dir="/var/tmp"))
        return home, Path(tempfile.mkdtemp(prefix=PREFIX, dir=MEMORY if memory else home))
    home = Path(kept).absolute()
    second = MEMORY / f"{PREFIX}{hashlib.sha256(os.fsencode(home)).hexdigest()[:12]}"
    return home, second if second.is_dir() or memory else home / "other"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make reproducible", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="CATEGORY/NAME", help="these packages, and what they need")
    parser.add_argument("--directory", help="keep logs and both stores; what they have is not built again")
    parser.add_argument("--test", action="store_true", help="run the packages' own tests too")
    parser.add_argument("--as-user", action="store_true", help=f"the second time as the user {ORDINARY_USER}")
    return parser


def _compare(package: str, first: Circumstances, second: Circumstances, logs: Path, *, test: bool) -> bool:
    name = package.replace("/", "_")
    started = time.time()
    try:
        one = build(package, first, logs / f"{name}.1", test=test)
        other = build(package, second, logs / f"{name}.2", test=False)
    except BuildError as failure:
        say(f"{package:<32} {'-':>8} {'-':>8}  failed")
        for line in failure.log.read_text("utf-8", "replace").splitlines()[-15:]:
            say(f"    {line}")
        return False
    found = _findings(one, other, (started, time.time()))
    say(f"{package:<32} {one.seconds:8.1f} {other.seconds:8.1f}  {'different' if found else 'same'}")
    for line in found:
        say(f"    {line}")
    return not found


def _findings(one: Built, other: Built, moments: tuple[float, ...]) -> list[str]:
    found = []
    if one.package.definition != other.package.definition:
        found.append(f"HASH {one.package.definition} and {other.package.definition}")
    if one.package.archive != other.package.archive:
        found += differences(one.archive, other.archive)
    if one.package.record["content"] != other.package.record["content"]:
        found.append("the recorded content")
    return found + [f"holds the day of its build: {name}" for name in dated(one.archive, moments)]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
