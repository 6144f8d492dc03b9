"""A snapshot's manifest, brought up to date from differences, against what a real overlay mount shows."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from boxwright.model.digest import digest_of
from boxwright.model.image import Snapshot
from boxwright.model.tree import Manifest
from boxwright.store import layers
from boxwright.store.home import open_home
from boxwright.store.scan import scan_upper
from boxwright.store.store import Store

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts an overlay")

EPOCH = 1_600_000_000
NAMES = ("a", "b", "c")
paths = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map("/".join)
operations = st.one_of(
    st.tuples(st.just("write"), paths),
    st.tuples(st.just("mkdir"), paths),
    st.tuples(st.just("remove"), paths),
    st.tuples(st.just("replace"), paths),
    st.tuples(st.just("chmod"), paths),
    st.tuples(st.just("attribute"), paths),
    st.tuples(st.just("symlink"), paths),
    st.tuples(st.just("link"), paths, paths),
    st.tuples(st.just("rename"), paths, paths),
)
steps = st.lists(st.lists(operations, min_size=1, max_size=6), min_size=1, max_size=6)

COMMANDS = {
    "write": 'mkdir -p "$(dirname "$1")" && echo "$1 $N" > "$1"',
    "mkdir": 'mkdir -p "$1"',
    "remove": 'rm -rf "$1"',
    "replace": 'rm -rf "$1" && mkdir "$1" && echo "$N" > "$1/new"',
    "chmod": 'chmod 0705 "$1" && chown 12:34 "$1"',
    "attribute": 'setfattr -n user.test -v "$N" "$1"',
    "symlink": 'ln -s nowhere "$1"',
    "link": 'ln "$1" "$2"',
    "rename": 'mv "$1" "$2"',
}

OPTIONS = "index=off,metacopy=off,redirect_dir=off"


def _script(step: list[tuple[str, ...]], number: int) -> str:
    lines = [f"N={number}"]
    for operation, *arguments in step:
        lines.append(f"set -- {' '.join(arguments)}; ({COMMANDS[operation]}) 2>/dev/null")
    return "\n".join([*lines, "true"])


def _mounted(store: Store, chain: tuple[str, ...], upper: str, work: str, place: Path, command: str) -> None:
    lowers = ":".join((*chain, "../skeleton"))
    mount = f"mount -t overlay overlay -o {OPTIONS},lowerdir={lowers},upperdir={upper},workdir={work} {place}"
    script = f"cd {store.home.layers} && {mount} && cd {place} && {{ {command}\n}}"
    subprocess.run(["unshare", "-m", "sh", "-c", script], check=True)


def _judge(store: Store, snapshot: Snapshot, tmp: Path, number: int) -> Manifest:
    """The manifest of the merged tree, read from a copy of the mount."""
    copy = tmp / f"copy{number}"
    copy.mkdir()
    mount = tmp / "mount"
    for name in ("upper", "work"):
        (tmp / f"{name}{number}").mkdir()
    with store.draft(snapshot) as draft:
        _mounted(store, snapshot.layers, draft.upper, draft.work, mount, f"cp -a . {copy}")
    scan = scan_upper(str(copy), None)
    tree = store.trees.update(None, scan.changes)
    return store.trees.seal(scan.root.holding(tree))


def _build(store: Store, tmp: Path, number: int, step: list[tuple[str, ...]], parent: Snapshot | None) -> Snapshot:
    key = digest_of(os.urandom(16))
    with store.draft(parent) as draft:
        chain = parent.layers if parent else ()
        _mounted(store, chain, draft.upper, draft.work, tmp / "mount", _script(step, number))
        return store.commit(key, parent, draft, newest=EPOCH)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps)
def test_manifest_is_what_the_mount_shows(
    tmp_path_factory: pytest.TempPathFactory, steps: list[list[tuple[str, ...]]]
) -> None:
    tmp = tmp_path_factory.mktemp("overlay")
    store = Store(open_home(str(tmp / "store")))
    (tmp / "mount").mkdir()
    (tmp / "store" / "skeleton").mkdir()
    snapshot: Snapshot | None = None
    for number, step in enumerate(steps):
        snapshot = _build(store, tmp, number, step, snapshot)
    assert snapshot is not None
    assert _judge(store, snapshot, tmp, 0).content == snapshot.manifest.content
    for file in store.walk(snapshot):
        if file.entry.kind == "f":
            assert file.physical is not None
            assert os.stat(file.physical).st_size == file.entry.size
    store.close()


def test_long_chains_are_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "MAX_CHAIN", 5)
    store = Store(open_home(str(tmp_path / "store")))
    (tmp_path / "mount").mkdir()
    (tmp_path / "store" / "skeleton").mkdir()
    snapshot: Snapshot | None = None
    for number in range(23):
        step = [("write", f"a/{number}"), ("replace", "b"), ("remove", f"a/{number - 3}"), ("link", f"a/{number}", "c")]
        snapshot = _build(store, tmp_path, number, [*step], snapshot)
        assert len(snapshot.layers) <= 5 + 1
    assert snapshot is not None
    assert _judge(store, snapshot, tmp_path, 1).content == snapshot.manifest.content
    store.close()
