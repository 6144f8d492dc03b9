"""Base systems made of a distribution's packages: those that there are today, or exactly those of a lock."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import NamedTuple

from boxwright.app.locks import LockedBase, LockedPackage
from boxwright.app.outside import Outside
from boxwright.model.digest import Digest
from boxwright.model.step import Base
from boxwright.sources.packages import BootstrapResult
from boxwright.sources.pool import PoolFile
from boxwright.store.packages import Packages
from boxwright.store.store import Store

REBUILT = ("debian", "ubuntu")
"""Those that can be made of packages' files alone."""


class Surroundings(NamedTuple):
    """What making a base needs beside its name. With `keep` its packages' files are kept by digest.

    `made` is told what it was made of.
    """

    store: Store
    outside: Outside
    locked: LockedBase | None
    keep: bool
    output: Callable[[bytes], None]
    cancelled: Callable[[], bool]
    made: dict[Base, BootstrapResult]


def make_base_system(base: Base, name: str, directory: str, around: Surroundings) -> BootstrapResult:
    """Fill `directory` with the base `name`."""
    distribution = name.partition(":")[0]
    locked = around.locked
    if locked is not None and locked.packages and distribution in REBUILT:
        result = _rebuilt(base, name, directory, around, locked)
    else:
        result = _bootstrapped(base, name, directory, around)
    around.made[base] = result
    return result


def note_made(store: Store, content: Digest, result: BootstrapResult) -> None:
    """Remember what the base with this content was made of, for locks."""
    packages = [(p.name, p.version, p.architecture, p.sha256, p.path, p.priority) for p in result.packages]
    text = json.dumps({"packages": packages, "sources": result.sources})
    with store.index.writing() as db:
        row = (f"made:{content}", "", "{}", "", text, int(time.time()))
        db.execute("INSERT OR REPLACE INTO bases VALUES (?, ?, ?, ?, ?, ?)", row)


def made_of(store: Store, content: Digest) -> tuple[tuple[LockedPackage, ...], tuple[str, ...]] | None:
    """What the base with this content was made of, and its sources; None where that is not known."""
    row = store.index.one("SELECT packages FROM bases WHERE name=?", (f"made:{content}",))
    if row is None:
        return None
    found = json.loads(row[0])
    return tuple(LockedPackage(*item) for item in found["packages"]), tuple(found["sources"])


def _bootstrapped(base: Base, name: str, directory: str, around: Surroundings) -> BootstrapResult:
    from boxwright.sources.alpine.keys import apk_places
    from boxwright.sources.bootstrap import bootstrap

    outside, store = around.outside, around.store
    outside.require(f"the base {name.partition('?')[0]}")
    distribution = name.partition(":")[0]
    own = "?mirror=" in name
    packages = Packages(store)

    def keep(path: str, sha256: str) -> None:
        with packages.adding():
            packages.add(path, f"sha256:{sha256}")

    return bootstrap(
        name,
        directory,
        mirror=outside.mirror or (None if own else outside.mirrors.get(distribution)),
        output=around.output,
        architecture=base.platform.split("/")[1],
        cancelled=around.cancelled,
        apk=apk_places(outside.environment, store.home.root, store.home.cache),
        keep=keep if around.keep else None,
    )


def _rebuilt(base: Base, name: str, directory: str, around: Surroundings, locked: LockedBase) -> BootstrapResult:
    from boxwright.app.poolfiles import provide_files
    from boxwright.sources.bootstrap import rebuild
    from boxwright.sources.localarchive import Pinned
    from boxwright.sources.packages import BasePackage

    packages = Packages(around.store)
    files = provide_files(
        packages,
        around.outside,
        pool_files(locked),
        name.partition(":")[0],
        locked.sources,
        around.output,
    )
    return rebuild(
        name,
        directory,
        Pinned([BasePackage(*item) for item in locked.packages], files, locked.sources, around.store.scratch()),
        output=around.output,
        architecture=base.platform.split("/")[1],
        cancelled=around.cancelled,
    )


def pool_files(locked: LockedBase) -> list[PoolFile]:
    """The files of a locked base's packages."""
    return [PoolFile(item.name, item.version, item.architecture, item.sha256, item.path) for item in locked.packages]
