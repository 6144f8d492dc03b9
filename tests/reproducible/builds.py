"""One build of a package, in circumstances that are chosen."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from boxwright.app.opening import open_store
from boxwright.model.digest import Digest
from boxwright.model.package import PackageRecord
from boxwright.store.packages import Packages

ROOT = Path(__file__).parents[2]


class Circumstances(NamedTuple):
    """Where and how a build is run. `user` empty: the one who runs this. `processors` 0: all of them."""

    checkout: Path
    store: Path
    hostname: str = ""
    user: str = ""
    processors: int = 0
    environment: tuple[tuple[str, str], ...] = ()
    umask: int = 0o022
    no_cache: bool = False


class Built(NamedTuple):
    """What came out: the package's record with the path of its archive, and how long it took."""

    package: PackageRecord
    archive: str
    seconds: float


class BuildError(Exception):
    """The build did not end well. `log` holds what it said."""

    def __init__(self, log: Path) -> None:
        super().__init__(f"the build failed: {log}")
        self.log = log


def checkout(directory: Path) -> Path:
    """A copy of the program and its package tree, its files made in another order."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    for name in ("boxwright", "src", "packages"):
        source = ROOT / name
        if source.is_file():
            shutil.copy2(source, directory / name)
            continue
        paths = sorted((path for path in source.rglob("*") if "__pycache__" not in path.parts), reverse=True)
        for path in paths:
            target = directory / path.relative_to(ROOT)
            if path.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, target)
    (directory / ".venv").symlink_to(ROOT / ".venv")
    return directory


def build(package: str, how: Circumstances, log: Path, *, test: bool) -> Built:
    """Build ``CATEGORY/NAME``. Raises BuildError."""
    result = how.store.parent / f"{how.store.name}.key"
    words = [str(how.checkout / "boxwright"), "build", str(how.checkout / "packages" / package)]
    words += ["--progress", "plain", "--iidfile", str(result)]
    if how.no_cache:
        words.append("--no-cache")
    if not test:
        words.append("--no-test")
    if how.processors:
        words = ["taskset", "--cpu-list", f"0-{how.processors - 1}", *words]
    if how.user:
        words = ["setpriv", f"--reuid={how.user}", f"--regid={how.user}", "--init-groups", *words]
    if how.hostname:
        words = ["unshare", "--uts", "sh", "-euc", 'hostname "$0"; exec "$@"', how.hostname, *words]
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environment.update({"BOXWRIGHT_HOME": str(how.store), **dict(how.environment)})
    started = time.monotonic()
    with log.open("wb") as out:
        done = subprocess.run(
            words, env=environment, stdout=out, stderr=out, cwd=how.checkout, umask=how.umask, check=False
        )
    seconds = time.monotonic() - started
    if done.returncode:
        raise BuildError(log)
    with open_store({"BOXWRIGHT_HOME": str(how.store)}) as store:
        packages = Packages(store)
        record = packages.by_key(Digest(result.read_text("ascii")))
        archive = packages.archive(record.archive) if record else None
    if record is None or archive is None:
        raise BuildError(log)
    return Built(record, archive, seconds)


def say(line: str) -> None:
    """Print a line of the table at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
