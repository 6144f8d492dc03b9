"""`run --bundle`: a directory's bundle, made for one run of a base image, and again at each change.

The container reads it from a directory that is mounted read-only; its installer is told by SIGHUP to look again. A web
server between the two would be one more thing that can fail, and the machine's loopback is not the container's.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from boxwright.app.bundling import BundleRequest, make_bundle
from boxwright.engines.options import RunOptions
from boxwright.engines.volumes import VolumeOption
from boxwright.errors import BoxwrightError, UsageError

if TYPE_CHECKING:
    from boxwright.engines.native import NativeEngine

MOUNTED = "/run/bundle-source"
KINDS = ("static", "php", "python", "node", "java", "generic")
LOOK_SECONDS = 0.2
LOOKING_SHARE = 4
"""Between two looks at a large tree lies so many times what one takes."""
Say = Callable[[str], None]


def provide_base(image: str, environment: Mapping[str, str], say: Say) -> None:
    """Build a base image of this program (``base/php``) where the store has none; for a process with one thread."""
    kind = image.removeprefix("base/").removesuffix(":latest")
    if not image.startswith("base/") or kind not in KINDS:
        return
    from boxwright.app.build import prepare
    from boxwright.app.execution import execute
    from boxwright.app.opening import open_store
    from boxwright.app.recipes import own_recipe
    from boxwright.app.request import BuildRequest
    from boxwright.solver.scheduler import Failed
    from boxwright.store.images import Images

    with open_store(environment) as store:
        name = f"base/{kind}:latest"
        if Images(store).find(name) is not None:
            return
        say(f"building {name}, which is not in the store yet")
        directory = os.path.dirname(own_recipe("base")[1])
        request = BuildRequest(directory, tags=(name,), target=kind)
        try:
            execute(prepare(request, store, environment), request, store, lambda _: None)
        except Failed as failure:
            hint = f"boxwright build {directory} --target {kind} -t {name} shows why"
            raise BoxwrightError("run.base", f"{name} can't be built: {failure.error}", hint=hint) from failure.error


@contextmanager
def bundled(options: RunOptions, directory: str, environment: Mapping[str, str], say: Say) -> Iterator[RunOptions]:
    """`options` with the bundle of `directory` mounted and named. What the block forks does not clean up."""
    if not os.path.isdir(directory):
        raise UsageError("run.bundle", f"--bundle {directory}: there is no such directory")
    place = tempfile.mkdtemp(prefix="boxwright-bundle-")
    owner = os.getpid()
    os.chmod(place, 0o755)  # noqa: S103 - the container's user reads it
    try:
        remake(directory, place, environment, say)
        env = (("PACKAGE_ZIP_URL", f"file://{MOUNTED}/latest"), *options.env)
        volumes = (*options.volumes, VolumeOption(place, MOUNTED, read_only=True))
        yield options._replace(env=env, volumes=volumes)
    finally:
        if os.getpid() == owner:
            import shutil

            shutil.rmtree(place, ignore_errors=True)


def remake(directory: str, place: str, environment: Mapping[str, str], say: Say) -> None:
    """Bundle what lies in `directory` now; those before it go."""
    from boxwright.app.bundleindex import prune

    request = BundleRequest(directory, place, working=True, store=True)
    bundle = make_bundle(request, environment, lambda text: say(f"warning: {text}"))
    prune(place, 2)
    say(f"bundle {bundle.revision[:12]}: {bundle.files} files")


def watch(
    directory: str, place: str, name: str, engine: NativeEngine, environment: Mapping[str, str], say: Say
) -> None:
    """Bundle again whenever something in `directory` changed, and tell the container; until the parent process ends."""
    parent = os.getppid()
    before = look(directory)
    pause = LOOK_SECONDS
    while os.getppid() == parent:
        time.sleep(pause)
        began = time.monotonic()
        now = look(directory)
        pause = max(LOOK_SECONDS, LOOKING_SHARE * (time.monotonic() - began))
        if now == before:
            continue
        before = now
        try:
            remake(directory, place, environment, say)
            engine.signal(engine.running(name), signal.SIGHUP)
        except (BoxwrightError, OSError) as error:
            say(f"not bundled: {error}")


def look(directory: str) -> list[tuple[str, int, int, int]]:
    """What says whether anything changed: each path with its time, size and inode."""
    found: list[tuple[str, int, int, int]] = []
    for place, directories, files in os.walk(directory):
        if ".git" in directories:
            directories.remove(".git")
        for name in (*files, *directories):
            with suppress(FileNotFoundError):
                status = os.lstat(f"{place}/{name}")
                found.append((f"{place}/{name}", status.st_mtime_ns, status.st_size, status.st_ino))
    return found
