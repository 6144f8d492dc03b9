"""How each kind of step of a recipe is run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from boxwright.app.bases import BaseFetcher
from boxwright.app.contexts import LocalContexts
from boxwright.app.moment import Moment
from boxwright.app.mounts import LateMounts, MountOptions
from boxwright.app.request import BuildRequest
from boxwright.app.sandboxes import LateSandbox
from boxwright.frontends.recipe.frontend import proxy_args
from boxwright.model.graph import Graph
from boxwright.model.step import Base, Copy, Fetch, MakeDirectory, Run, Scratch, ServiceData, Step
from boxwright.ports import StepKind
from boxwright.solver.keys import Kinds
from boxwright.steps.base import BaseKind
from boxwright.steps.copy import CopyKind
from boxwright.steps.run import RunConditions, RunKind
from boxwright.steps.simple import MakeDirectoryKind, ScratchKind
from boxwright.store.store import Store

if TYPE_CHECKING:
    from boxwright.steps.services import Services

PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")


def step_kinds(
    request: BuildRequest,
    store: Store,
    graph: Graph,
    contexts: LocalContexts,
    sandbox: LateSandbox,
    moment: Moment,
    environment: Mapping[str, str],
    fetcher: BaseFetcher,
) -> tuple[Kinds, LateMounts]:
    """The kinds, and the mounts that RUN steps share."""
    given = proxy_args(request.build_args)
    names = [name for lower in PROXIES for name in (lower, lower.upper()) if name not in dict(given)]
    proxies = given + tuple((name, environment[name]) for name in names if environment.get(name))
    kinds: dict[type[Step], StepKind] = {
        Scratch: ScratchKind(store),
        Base: BaseKind(store, fetcher),
        MakeDirectory: MakeDirectoryKind(store),
        Copy: CopyKind(store, contexts, unpack=fetcher.unpack, is_archive=fetcher.is_archive),
    }
    fetches = [node.step for node in graph.nodes if isinstance(node.step, Fetch)]
    if fetches:
        from boxwright.app.remotes import Remotes
        from boxwright.steps.fetch import FetchKind

        remotes = Remotes(store, request.lock, locked=request.locked, offline=request.offline)
        remotes.identify_all(fetches)
        kinds[Fetch] = FetchKind(store, remotes)
    mounts = LateMounts(store, contexts, request.mounts or MountOptions(), kinds)
    conditions = (request.conditions or RunConditions())._replace(
        proxies=proxies, time_in_key=moment.epoch if moment.given else None
    )
    kinds[Run] = RunKind(
        store,
        sandbox,
        layers_directory=store.home.layers,
        conditions=conditions,
        mounts=mounts,
        services=lambda: _services(store, sandbox),
    )
    if any(isinstance(node.step, ServiceData) for node in graph.nodes):
        from boxwright.steps.services import ServiceDataKind

        kinds[ServiceData] = ServiceDataKind(store)
    return kinds, mounts


def _services(store: Store, sandbox: LateSandbox) -> Services:
    from boxwright.steps.services import Services

    return Services(store, sandbox, store.home.layers)
