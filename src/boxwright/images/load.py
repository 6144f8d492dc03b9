"""`--load`: an image straight into an engine, by the engine's own program."""

from __future__ import annotations

import difflib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from boxwright.errors import BoxwrightError, MachineError, UsageError
from boxwright.images import docker
from boxwright.images.child import Ended, feed
from boxwright.images.layer import Layer
from boxwright.model.digest import hex_of
from boxwright.model.image import Image
from boxwright.ports import TreeReader

ENGINES = {"docker": "docker", "podman": "podman", "lxd": "lxc"}
"""The engines, and the program of each."""

_PACKAGES = {"docker": "docker.io", "podman": "podman", "lxd": "lxd"}
_NO_DAEMON = re.compile(
    r"Cannot connect to the Docker daemon|daemon running|connection refused|no such file or directory.*\.socket"
    r"|unix\.socket|dial unix",
    re.IGNORECASE,
)
_NOT_IN_ALIAS = re.compile(r"[/:]+")


def check_engine(engine: str) -> str:
    """The path of the engine's program; to be asked before anything is built."""
    if engine not in ENGINES:
        near = difflib.get_close_matches(engine, ENGINES, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"one of {', '.join(ENGINES)}"
        raise UsageError("load.unknown-engine", f"{engine!r} is no engine to load into", hint=hint)
    program = shutil.which(ENGINES[engine])
    if program is None:
        raise MachineError(
            "load.engine-missing",
            f"{engine} can't be loaded into: the program {ENGINES[engine]!r} is missing",
            hint=f"apt-get install {_PACKAGES[engine]}",
        )
    return program


def load(image: Image, reader: TreeReader, engine: str, *, name: str, layers: Sequence[Layer] = ()) -> str:
    """Load `image` as `name`; gives the name under which the engine has it. Without `layers` it is flat."""
    program = check_engine(engine)
    if engine == "lxd":
        return _load_lxd(program, image, reader, name)
    ended = feed([program, "load"], lambda sink: docker.stream_archive(sink, image, reader, name, layers))
    _check(engine, [program, "load"], ended)
    return docker.tag_of(name)


def lxd_alias(name: str) -> str:
    """`name` as an alias: LXD takes no slash, and a colon ends a remote's name there; ``:latest`` is left out."""
    return _NOT_IN_ALIAS.sub("-", name.removesuffix(":latest"))


def _load_lxd(program: str, image: Image, reader: TreeReader, name: str) -> str:
    """LXD calls an image by its archive's digest; the alias then goes to it from whatever had it."""
    from boxwright.images import writers

    alias = lxd_alias(name)
    with tempfile.TemporaryDirectory(prefix="boxwright-") as directory:
        archive = Path(directory) / "image.tar.gz"
        artifact = writers.write(image, reader, "lxd", archive, name=name)
        fingerprint = hex_of(artifact.digest)
        if _run([program, "image", "info", fingerprint]).status:
            command = [program, "image", "import", str(archive)]
            _check("lxd", command, _run(command))
    if not alias:
        return fingerprint
    _run([program, "image", "alias", "delete", alias])
    command = [program, "image", "alias", "create", alias, fingerprint]
    _check("lxd", command, _run(command))
    return alias


def _run(command: Sequence[str]) -> Ended:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return Ended(done.returncode, f"{done.stdout}{done.stderr}".strip())


def _check(engine: str, command: Sequence[str], ended: Ended) -> None:
    if ended.status == 0:
        return
    shown = " ".join(command[:3])
    if _NO_DAEMON.search(ended.said):
        raise MachineError(
            "load.failed",
            f"{engine} does not answer: {ended.said}",
            hint=f"start its daemon, or say DOCKER_HOST or LXD_DIR; then try '{shown}' by hand",
        )
    raise BoxwrightError("load.failed", f"'{shown}' failed with status {ended.status}: {ended.said}")
