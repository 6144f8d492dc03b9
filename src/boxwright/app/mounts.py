"""What RUN mounts of one build need, put together when the first step asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from boxwright.model.step import Copy, Scratch
from boxwright.ports import Contexts
from boxwright.solver.keys import Kinds
from boxwright.store.store import Store

if TYPE_CHECKING:
    from boxwright.sandbox.agents import BuildAgents
    from boxwright.steps.mounts import RunMounts


class MountOptions(NamedTuple):
    """What the user gave: secrets by id, whether they count in keys, and the paths of agents' sockets or keys by id."""

    secrets: tuple[tuple[str, bytes], ...] = ()
    secret_in_key: bool = False
    agents: tuple[tuple[str, tuple[str, ...]], ...] = ()


class LateMounts:
    """Called, it gives what RUN steps mount from. `close` ends what it started."""

    def __init__(self, store: Store, contexts: Contexts, options: MountOptions, kinds: Kinds) -> None:
        self._store = store
        self._contexts = contexts
        self._options = options
        self._kinds = kinds
        self._mounts: RunMounts | None = None
        self._agents: BuildAgents | None = None

    def __call__(self) -> RunMounts:
        """Make it, once."""
        if self._mounts is None:
            from boxwright.app.secrets import BuildSecrets
            from boxwright.sandbox.agents import BuildAgents
            from boxwright.steps.mounts import RunMounts
            from boxwright.store.caches import StoredCaches

            options = self._options
            self._agents = BuildAgents(dict(options.agents))
            self._mounts = RunMounts(
                self._store,
                self._contexts,
                copy=self._kinds[Copy],
                scratch=self._kinds[Scratch],
                caches=StoredCaches(self._store),
                secrets=BuildSecrets(dict(options.secrets), self._store.home, in_key=options.secret_in_key),
                agents=self._agents,
            )
        return self._mounts

    def close(self) -> None:
        """End the agents."""
        if self._agents is not None:
            self._agents.close()
