"""The repositories of one build: which are asked, and which get what was built."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from boxwright.app.configuration import configuration_files
from boxwright.errors import FetchError, UsageError
from boxwright.events import Message
from boxwright.model.digest import Digest
from boxwright.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boxwright.app.binaries import Binaries
    from boxwright.app.repositories import Opened
    from boxwright.app.workers import Workers
    from boxwright.ports import Emit


class SharingRequest(NamedTuple):
    """What the command line says: `push` or not, `offline` or not; `files` are configurations that were discovered."""

    files: tuple[str, ...] = ()
    push: bool = False
    offline: bool = False


class Sharing(NamedTuple):
    """The repositories that are asked, in their order, and those that get what was built."""

    asked: tuple[Opened, ...] = ()
    pushed: tuple[Opened, ...] = ()

    def binaries(
        self, store: Store, emit: Emit, origins: dict[int, str], workers: Workers | None = None
    ) -> Binaries | None:
        """What a build takes packages from, None where no repository is asked. `origins` will say what was taken.

        The servers of `workers` are asked last.
        """
        servers = workers if workers is not None and workers.is_configured() else None
        if not self.asked and servers is None:
            return None
        from boxwright.app.binaries import Binaries

        more = partial(servers.sources, emit) if servers is not None else tuple
        return Binaries([it.packages for it in self.asked], store, emit, origins, self._bring_tree, more)

    def _bring_tree(self, content: Digest, store: Store, emit: Emit) -> None:
        """Bring the tree of this content from the first repository that has it; where none does, nothing is said."""
        from boxwright.app.pulling import bring_tree

        for it in self.asked:
            try:
                if bring_tree(it, content, store):
                    return
            except FetchError as error:
                emit(Message("warning", f"a toolchain is not taken from {it.configured.name}: {error.message}"))


@contextmanager
def sharing(
    request: SharingRequest, directory: str, store: Store, environment: Mapping[str, str], *, builds: bool
) -> Iterator[Sharing]:
    """The repositories of a build in `directory`. Where nothing is built and nothing pushed nothing is opened."""
    files: Sequence[str] = ()
    if builds or request.push:
        files = (*request.files, *configuration_files(directory, environment.get("HOME", "")))
    if not files:
        if request.push:
            raise UsageError(
                "repository.none", "no repository is configured", hint="name one in .boxwright-config.yaml"
            )
        yield Sharing()
        return
    from boxwright.app.repositories import opened
    from boxwright.app.repositoryconfiguration import binaries_of
    from boxwright.store.packages import Packages

    binaries = binaries_of(files, environment, foreign=request.files)
    with opened(binaries, Packages(store), environment) as all_of_them:
        asked = [it for it in all_of_them if not (request.offline and it.catalog.source.distant)]
        pushed = [it for it in all_of_them if it.configured.upload is not None] if request.push else []
        if request.push and not pushed:
            hint = "give upload-type and upload-path"
            raise UsageError("repository.none", "no repository is configured that can be uploaded to", hint=hint)
        yield Sharing(tuple(asked) if builds else (), tuple(pushed))


def directory_of(file: str) -> str:
    """Where the configuration of a definition is looked for."""
    return os.path.dirname(os.path.abspath(file))
