"""Packages in the store: records under both keys, blobs, and what is removed when."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxwright.errors import BoxwrightError
from boxwright.model.change import Difference
from boxwright.model.digest import digest_of
from boxwright.model.package import PackageRecord
from boxwright.store.home import open_home
from boxwright.store.packages import REMEMBERED_SECONDS, Packages
from boxwright.store.store import Store

KEY, DEFINITION = digest_of(b"key"), digest_of(b"definition")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(open_home(str(tmp_path / "store")))
    yield opened
    opened.close()


def keep(store: Store, packages: Packages) -> PackageRecord:
    with store.draft(None) as draft:
        store.commit(KEY, None, draft, newest=0, difference=Difference({}))
    with packages.adding() as part:
        Path(part).write_bytes(b"tar")
        archive = packages.keep_archive(part)
    record = PackageRecord(KEY, DEFINITION, "libs/x-1", archive, {"name": "libs/x-1"})
    packages.keep(record)
    return record


@pytest.mark.skipif(os.geteuid() != 0, reason="layers are made as root or in a user namespace")
def test_a_package_is_found_by_name_and_by_the_beginning_of_either_key(store: Store) -> None:
    packages = Packages(store)
    record = keep(store, packages)
    for given in ("libs/x-1", KEY, DEFINITION, KEY[7:17], DEFINITION[7:13]):
        assert packages.find(given) == record
    found = packages.by_definition(DEFINITION)
    assert found is not None
    assert found.key == KEY
    with pytest.raises(BoxwrightError) as caught:
        packages.find("libs/y-1")
    assert caught.value.code == "package.unknown"


@pytest.mark.skipif(os.geteuid() != 0, reason="layers are made as root or in a user namespace")
def test_what_is_needed_or_new_stays(store: Store) -> None:
    packages = Packages(store)
    record = keep(store, packages)
    with packages.adding() as part:
        Path(part).write_bytes(b"source")
        source = packages.add(part)
    now = int(time.time())
    assert packages.prune(now, everything=True) == 0
    assert packages.prune(now + REMEMBERED_SECONDS // 2, everything=False) == 0
    assert packages.prune(now + 2 * REMEMBERED_SECONDS, everything=False) == 1
    assert packages.blob(source) is None
    assert packages.archive(record.archive) is not None
    with store.index.writing() as db:
        db.execute("DELETE FROM snapshots")
    assert packages.prune(now + 2 * REMEMBERED_SECONDS, everything=False) == 1
    assert packages.archive(record.archive) is None
    assert packages.by_key(KEY) is None
