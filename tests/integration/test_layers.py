"""--layers: an image with a layer for each instruction holds the same tree as the flat one; umoci and docker judge."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Program

pytestmark = pytest.mark.integration

Context = Callable[..., Path]

RECIPE = """\
FROM tar:{base}
ENV a=1
RUN mkdir -p /d/deep /gone /same && echo 1 > /d/a && echo 2 > /d/deep/b && echo 3 > /gone/c && echo 4 > /same/x
RUN ln /d/a /d/linked && ln /d/a /later && ln -s /d/a /d/soft && echo h > /h1 && ln /h1 /h2 && ln /h1 /h3
RUN rm -rf /gone && rm /d/deep/b
RUN rm -rf /d/deep && mkdir /d/deep && echo new > /d/deep/n
RUN echo 5 > /d/a
RUN rm /h1
RUN rm -rf /same && echo file > /same && rm /later && mkdir /later && echo x > /later/y
RUN chmod 700 /d && chmod 600 /h2 && touch /empty
USER app
RUN true
WORKDIR /w/x
COPY f /w/x/
RUN test -f /h3
LABEL l=2
CMD ["sh"]
"""


def needed(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        assert os.environ.get("CI") != "true", f"{program} is missing"
        pytest.skip(f"{program} is missing")
    return path


def facts(path: Path, root: Path, inodes: dict[int, list[str]]) -> tuple[object, ...]:
    state = path.lstat()
    name = str(path.relative_to(root))
    if stat.S_ISREG(state.st_mode) and state.st_nlink > 1:
        inodes.setdefault(state.st_ino, []).append(name)
    content = ""
    if stat.S_ISREG(state.st_mode):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
    elif stat.S_ISLNK(state.st_mode):
        content = str(path.readlink())
    attributes = [
        (key, os.getxattr(path, key, follow_symlinks=False)) for key in os.listxattr(path, follow_symlinks=False)
    ]
    return (oct(state.st_mode), state.st_uid, state.st_gid, int(state.st_mtime), content, sorted(attributes))


def tree_of(root: Path) -> tuple[dict[str, tuple[object, ...]], list[list[str]]]:
    """Every path with what can be seen of it, and the groups of hard links."""
    inodes: dict[int, list[str]] = {}
    found = {str(path.relative_to(root)): facts(path, root, inodes) for path in sorted(root.rglob("*"))}
    found["."] = facts(root, root, inodes)
    return found, sorted(sorted(names) for names in inodes.values())


def unpacked(layout: Path, bundle: Path) -> tuple[dict[str, tuple[object, ...]], list[list[str]]]:
    command = [needed("umoci"), "unpack", "--image", f"{layout}:v1", str(bundle)]
    subprocess.run(command, check=True, capture_output=True)
    return tree_of(bundle / "rootfs")


def json_of(layout: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The manifest and the configuration of the one image in a layout."""

    def blob(digest: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((layout / "blobs/sha256" / digest.removeprefix("sha256:")).read_bytes())
        return found

    manifest = blob(json.loads((layout / "index.json").read_bytes())["manifests"][0]["digest"])
    return manifest, blob(manifest["config"]["digest"])


def built(boxwright: Program, place: Path, out: Path, *options: str) -> Path:
    boxwright("build", place, "-q", "-t", "layers:v1", "-o", f"oci,compression=gzip:{out}", *options)
    # umoci finds an image by its tag alone.
    index = json.loads((out / "index.json").read_bytes())
    index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"] = "v1"
    (out / "index.json").write_text(json.dumps(index))
    return out


def test_flat_and_layered_hold_the_same_tree(
    boxwright: Program, context: Context, busybox_base: Path, tmp_path: Path
) -> None:
    place = context(RECIPE.format(base=busybox_base), {"f": "copied"})
    flat = built(boxwright, place, tmp_path / "flat")
    layered = built(boxwright, place, tmp_path / "layered", "--layers")
    assert unpacked(layered, tmp_path / "two") == unpacked(flat, tmp_path / "one")
    manifest, config = json_of(layered)
    empty = [entry.get("empty_layer", False) for entry in config["history"]]
    # ENV, USER, RUN true, RUN test, LABEL and CMD change no file.
    assert empty == [False, True, *[False] * 8, True, True, False, False, True, True, True]
    assert len(manifest["layers"]) == len(config["rootfs"]["diff_ids"]) == empty.count(False)
    assert config["history"][1]["created_by"] == "ENV a=1"
    assert config["config"] == json_of(flat)[1]["config"]


def test_a_layer_has_what_its_instruction_changed(
    boxwright: Program, context: Context, busybox_base: Path, tmp_path: Path
) -> None:
    place = context(RECIPE.format(base=busybox_base), {"f": "copied"})
    layered = tmp_path / "layered"
    boxwright("build", place, "-q", "-o", f"oci,compression=none:{layered}", "--layers")
    names: list[list[str]] = []
    for layer in json_of(layered)[0]["layers"]:
        with tarfile.open(layered / "blobs/sha256" / layer["digest"].removeprefix("sha256:")) as tar:
            names.append([member.name for member in tar])
    assert names[3] == [".", "d", "d/deep", "d/deep/.wh.b", ".wh.gone"]
    assert names[4] == [".", "d", "d/deep", "d/deep/n"]
    assert names[5] == [".", "d", "d/a", "d/linked", "later"]
    assert names[6] == [".", ".wh.h1", "h2", "h3"]
    assert names[7] == [".", "later", "later/y", "same"]


def test_layers_are_deterministic_and_complete_again(
    fresh_boxwright: Program, context: Context, busybox_base: Path, tmp_path: Path
) -> None:
    place = context(RECIPE.format(base=busybox_base), {"f": "copied"})
    one, two = tmp_path / "one.tar", tmp_path / "two.tar"
    fresh_boxwright("build", place, "-q", "-o", f"oci-archive:{one}", "--layers")
    fresh_boxwright("build", place, "-q", "--no-cache", "-o", f"oci-archive:{two}", "--layers")
    assert one.read_bytes() == two.read_bytes()
    other = fresh_boxwright.at(tmp_path / "other-store")
    other("build", place, "-q")
    other("build", place, "-q", "-o", f"oci-archive:{two}", "--layers")
    assert one.read_bytes() == two.read_bytes()


def test_scratch_without_files_has_a_layer(boxwright: Program, context: Context, tmp_path: Path) -> None:
    place = context("FROM scratch\nENV a=1\n")
    boxwright("build", place, "-q", "-o", f"oci:{tmp_path / 'out'}", "--layers")
    assert len(json_of(tmp_path / "out")[0]["layers"]) == 1


def test_formats_without_layers_say_so(boxwright: Program, context: Context, tmp_path: Path) -> None:
    place = context("FROM scratch\nRUN this would fail\n")
    said = boxwright("build", place, "--layers", "-o", f"tar:{tmp_path / 'out'}", status=2).err
    assert "[output.no-layers]" in said


@pytest.mark.engine("docker")
def test_docker_takes_the_layers(boxwright: Program, context: Context, busybox_base: Path, tmp_path: Path) -> None:
    place = context(RECIPE.format(base=busybox_base), {"f": "copied"})
    name = f"boxwright-layers:{os.getpid()}"
    boxwright("build", place, "-q", "-t", name, "--layers", "--load", "docker")
    try:
        script = "cat /d/a /d/linked /h2 /same; test ! -e /gone; test ! -e /h1; test -d /later"
        run = ["/usr/bin/docker", "run", "--rm", "--network=none", "--user", "0", name, "sh", "-ec", script]
        # An overlay breaks hard links where it copies a file up: /d/linked keeps its content.
        assert subprocess.run(run, check=True, capture_output=True, text=True).stdout == "5\n1\nh\nfile\n"
        history = subprocess.run(["/usr/bin/docker", "history", "-q", name], check=True, capture_output=True, text=True)
        assert len(history.stdout.split()) == 17
    finally:
        subprocess.run(["/usr/bin/docker", "rmi", "-f", name], capture_output=True, check=False)
    archive = tmp_path / "image.tar"
    boxwright("build", place, "-q", "-t", name, "--layers", "-o", f"docker-archive:{archive}")
    with tarfile.open(archive) as tar:
        assert len([member for member in tar if member.name.startswith("layer-")]) == 11
