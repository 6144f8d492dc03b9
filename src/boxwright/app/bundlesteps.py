"""The build steps of a bundle: a recipe of their own, whose result is what is bundled."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import IO

from boxwright.errors import BoxwrightError
from boxwright.model.bundle import BundleFile
from boxwright.sources.bundletree import read_directory


def run_steps(
    image: str,
    commands: tuple[str, ...],
    files: Iterable[BundleFile],
    seconds: int,
    scratch: str,
    environment: Mapping[str, str],
) -> Iterator[BundleFile]:
    """Run `commands` in a container of `image` where `files` lie; yields what lies there then.

    `scratch` must outlive the use of what is yielded.
    """
    from boxwright.app.build import prepare
    from boxwright.app.execution import execute
    from boxwright.app.opening import open_store
    from boxwright.app.outputs import deliver
    from boxwright.app.request import BuildRequest
    from boxwright.solver.scheduler import Failed

    context = f"{scratch}/context"
    materialize(files, context)
    request = BuildRequest(context, text=_recipe(image, commands))
    with open_store(environment) as store:
        try:
            build = prepare(request, store, {**environment, "SOURCE_DATE_EPOCH": str(seconds)})
            built = execute(build, request, store, _unheard)
        except Failed as failure:
            tail = getattr(failure.error, "tail", "")
            message = f"a build step of the bundle failed: {failure.error}\n{tail}".rstrip()
            raise BoxwrightError("bundle.build", message, hint="bundle.yaml, build") from failure.error
        deliver(built, store, "bundle", [f"rootfs:{scratch}/built"], [])
    yield from read_directory(f"{scratch}/built")


def _recipe(image: str, commands: tuple[str, ...]) -> str:
    runs = "".join(f"RUN <<'END_OF_STEP'\n{command}\nEND_OF_STEP\n" for command in commands)
    return f"FROM {image} AS build\nWORKDIR /bundle\nCOPY . /bundle\n{runs}FROM scratch\nCOPY --from=build /bundle /\n"


def materialize(files: Iterable[BundleFile], directory: str) -> None:
    """Write files of a bundle into a new directory."""
    os.makedirs(directory)
    for file in files:
        path = f"{directory}/{file.path}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if file.is_link:
            os.symlink(file.data, os.fsencode(path))
            continue
        if file.mode == 0o040755:
            os.makedirs(path, exist_ok=True)
            continue
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, file.mode & 0o777), "wb") as target:
            _copy(file, target)


def _copy(file: BundleFile, target: IO[bytes]) -> None:
    if not file.place:
        target.write(file.data)
        return
    with open(file.place, "rb") as source:
        source.seek(file.offset)
        left = file.size
        while left and (data := source.read(min(left, 1 << 20))):
            target.write(data)
            left -= len(data)


def _unheard(event: object) -> None:
    """Where the build of a bundle is told of: nowhere, unless it fails."""
