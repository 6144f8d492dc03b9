"""Who owns what is in a tree, as those see it who lay packages into it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from boxwright.app.owners import owners_of
from boxwright.steps.union import named
from boxwright.store.provenance import Provenance
from tests.unit.store.made import snapshot, store_at


@pytest.mark.skipif(os.geteuid() != 0, reason="layers are made as root or in a user namespace")
def test_a_package_composed_further_down_is_named_without_its_version(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    tree = snapshot(store, "tree", {"usr/bin/java": b"1", "etc/passwd": b"2", "own": b"3"})
    packages = [
        {"name": "dev/java-17-openjdk-17.0.2", "about": {"version": "17.0.2"}},
        {"name": "debian/x=1-2", "about": {}},
    ]
    record = {"packages": packages, "paths": {"0": ["usr/bin/java"], "1": ["usr/bin/x"], "-1": ["etc/passwd"]}}
    Provenance(store).keep_composition(tree.layers[0], record)
    owners = owners_of(store, tree)
    assert owners.owner("usr/bin/java") == ("dev/java-17-openjdk-17.0.2", "17.0.2")
    assert owners.owner("usr/bin/x") == ("debian/x=1-2", "")
    assert (owners.owner("etc/passwd"), owners.owner("own")) == (("composition", ""), ("base", ""))
    assert named(("dev/java-17-openjdk",), *owners.owner("usr/bin/java"))
    assert not named(("java",), *owners.owner("usr/bin/java"))
    store.close()
