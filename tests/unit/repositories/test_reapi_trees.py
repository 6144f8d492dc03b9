"""Input trees: what an overlay of the layers would show, as Directory messages."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from boxwright.model.digest import Digest
from boxwright.model.image import Snapshot
from boxwright.model.tree import DIRECTORY, FILE, HARDLINK, SYMLINK, Entry, Manifest, encode_directory, encode_root
from boxwright.repositories.reapi import messages
from boxwright.repositories.reapi.settings import Blob
from boxwright.repositories.reapi.trees import InputTrees, Node, directory_node

ROOT = Path(__file__).parents[3]
Content = Mapping[str, Any]  # a name's text, target (a tuple of one), or directory


class Reader:
    """Trees in memory."""

    def __init__(self) -> None:
        self._objects: dict[str, dict[str, Entry]] = {}

    def add(self, content: Content) -> Snapshot:
        root = self._directory("", content)
        top = encode_root(root)
        self._objects[top.full] = {"": root}
        return Snapshot(
            Digest(f"sha256:{top.full}"), (top.full[:8],), Manifest(Digest(f"sha256:{top.full}"), Digest("")), 0
        )

    def _directory(self, name: str, content: Content) -> Entry:
        entries = []
        for inside, what in content.items():
            if isinstance(what, str):
                digest = hashlib.sha256(what.encode()).hexdigest()
                mode = 0o755 if what.startswith("#!") else 0o640
                entries.append(Entry(FILE, inside, mode, 3, 4, 5, len(what), digest))
            elif isinstance(what, tuple):
                kind = HARDLINK if what[0].startswith("hard:") else SYMLINK
                size = what[1] if kind == HARDLINK else 0
                entries.append(Entry(kind, inside, 0o777, 0, 0, 0, size, what[0].removeprefix("hard:")))
            else:
                entries.append(self._directory(inside, what))
        made = encode_directory(entries)
        self._objects[made.full] = {entry.name: entry for entry in entries}
        return Entry(DIRECTORY, name, 0o755, 0, 0, 0, 0, made.link)

    def entries(self, full: str) -> Mapping[str, Entry]:
        return self._objects[full]

    def root(self, manifest: Manifest) -> Entry:
        return self._objects[manifest.full[7:]][""]

    def physical(self, snapshot: Snapshot, path: str) -> str | None:
        return f"/{snapshot.layers[0]}/{path}"


def shown(node: Node) -> dict[str, Any]:
    """A tree as it was given, read back from its messages alone."""
    by_digest: dict[Blob, Node] = {}
    pending = [node]
    while pending:
        one = pending.pop()
        by_digest[one.blob] = one
        pending += one.children

    def read(blob: Blob) -> dict[str, Any]:
        message = messages.Directory.FromString(by_digest[blob].data)
        for names in (message.files, message.directories, message.symlinks):
            assert [item.name for item in names] == sorted(item.name for item in names)
        found: dict[str, Any] = {item.name: (item.digest.hash, item.is_executable) for item in message.files}
        found |= {item.name: (item.target,) for item in message.symlinks}
        found |= {item.name: read(Blob(item.digest.hash, item.digest.size_bytes)) for item in message.directories}
        return found

    return read(node.blob)


def expected(*contents: Content) -> dict[str, Any]:
    """What an overlay shows of these, the topmost first."""
    found: dict[str, Any] = {}
    for name in {name for content in contents for name in content}:
        places = [content[name] for content in contents if name in content]
        if isinstance(places[0], str):
            text = places[0]
            found[name] = (hashlib.sha256(text.encode()).hexdigest(), text.startswith("#!"))
        elif isinstance(places[0], tuple):
            found[name] = places[0]
        else:
            directories = []
            for place in places:
                if not isinstance(place, dict):
                    break
                directories.append(place)
            found[name] = expected(*directories)
    return found


NAMES = st.sampled_from(["a", "b", "c", "é"])
LEAVES = st.one_of(st.sampled_from(["", "text", "#!run"]), st.tuples(st.sampled_from(["a", "../b", "/c"])))
CONTENTS = st.recursive(
    st.dictionaries(NAMES, LEAVES, max_size=3),
    lambda inner: st.dictionaries(NAMES, st.one_of(LEAVES, inner), max_size=3),
    max_leaves=8,
)


@given(st.lists(CONTENTS, min_size=1, max_size=4))
def test_merged_trees_are_what_an_overlay_shows(contents: list[Content]) -> None:
    reader = Reader()
    trees = InputTrees(reader)
    snapshots = [reader.add(content) for content in contents]
    first = trees.merged(snapshots, {})
    assert shown(first) == expected(*contents)
    assert trees.merged(snapshots, {}).blob == first.blob  # from what it remembers


def test_hard_links_are_files() -> None:
    reader = Reader()
    snapshot = reader.add({"a": {"first": "bytes"}, "b": ("hard:a/first", 5)})
    trees = InputTrees(reader)
    node = trees.merged([snapshot], {})
    digest = hashlib.sha256(b"bytes").hexdigest()
    assert shown(node)["b"] == (digest, True)
    (place,) = [place for blob, place in node.files if blob.hash == digest]
    assert trees.source(place).endswith("/a/first")


def test_own_directories_take_the_place_of_others(tmp_path: Path) -> None:
    (tmp_path / "work/src").mkdir(parents=True)
    (tmp_path / "work/run").write_text("script")
    (tmp_path / "source").write_text("source")
    reader = Reader()
    snapshot = reader.add({"build": {"old": "x"}, "bin": {"sh": "#!sh"}})
    node = directory_node(f"{tmp_path}/work", {"src/0-source": f"{tmp_path}/source"})
    tree = shown(InputTrees(reader).merged([snapshot], {"build": node}))
    source = (hashlib.sha256(b"source").hexdigest(), False)
    script = (hashlib.sha256(b"script").hexdigest(), False)
    assert tree["build"] == {"run": script, "src": {"0-source": source}}
    assert set(tree) == {"bin", "build"}


def test_the_description_is_that_of_the_protos(tmp_path: Path) -> None:
    """scripts/protos.sh gives the file that the program loads."""
    made = tmp_path / "made"
    subprocess.run([ROOT / "scripts/protos.sh", made], check=True, capture_output=True, env=dict(os.environ))
    assert made.read_bytes() == (ROOT / "src/boxwright/repositories/reapi/protos/reapi.binpb").read_bytes()
