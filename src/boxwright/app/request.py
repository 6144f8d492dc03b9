"""What a build is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

if TYPE_CHECKING:
    from boxwright.app.locks import Lock
    from boxwright.app.mounts import MountOptions
    from boxwright.steps.run import RunConditions


class BuildRequest(NamedTuple):
    """What the user asked for. `directory` may be anything that `app.given` makes a context of.

    `text` replaces the file's text, `stdin` is read where the context is ``-``. `contexts` are by their names as
    `frontends.recipe.options.context_name` has them. With `locked` nothing is fetched that `lock` does not pin.
    """

    directory: str
    file: str | None = None
    text: str | None = None
    stdin: BinaryIO | None = None
    tags: tuple[str, ...] = ()
    build_args: Mapping[str, str] = MappingProxyType({})
    labels: tuple[tuple[str, str], ...] = ()
    target: str = ""
    platform: str = ""
    network: str = "default"
    contexts: Mapping[str, str] = MappingProxyType({})
    mirror: str | None = None
    no_cache: bool = False
    pull: bool = False
    jobs: int = 0
    keep_times: bool = False
    keep_going: bool = False
    validate: tuple[str, ...] = ()
    marked: bool = True
    layers: bool = False
    mounts: MountOptions | None = None
    conditions: RunConditions | None = None
    allowed: frozenset[str] = frozenset()
    no_cache_stages: frozenset[str] = frozenset()
    lock: Lock | None = None
    locked: bool = False
    locking: bool = False
    offline: bool = False
    remote_jobs: int | None = None
    engine: str = "native"
    endpoints: tuple[str, ...] = ()
