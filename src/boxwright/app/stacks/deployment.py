"""A deployment from the definition to what runs: facts, plan, application, and back where that fails."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import NamedTuple

from boxwright.app.stacks.contents import StackContents, content_document, digest_of_file, file_digests, kept_files
from boxwright.app.stacks.images import (
    KEPT,
    bundle_environment,
    image_facts,
    kept_tags,
    server_facts,
    wants_balancer,
    with_databases,
)
from boxwright.deploy.applying import DEPLOYING, Limits, Progress, apply_plan
from boxwright.deploy.basis import Basis, basis_text
from boxwright.deploy.desired import Facts, ImageFacts, desired_of
from boxwright.deploy.engine import DeployEngine
from boxwright.deploy.history import (
    EVENTS,
    IMAGES,
    RELEASES,
    Release,
    StackEvent,
    add_events,
    images_of,
    images_of_others,
    images_text,
    read_images,
    read_releases,
    releases_text,
    with_events,
    with_release,
)
from boxwright.deploy.live import BALANCER
from boxwright.deploy.naming import RESOLVER
from boxwright.deploy.planning import INSTANCE, RESTART, START, UPDATE, WAIT, DeployPlan, make_plan, start_order
from boxwright.deploy.refusing import check_networks, check_volumes
from boxwright.errors import BoxwrightError, DefinitionError
from boxwright.model.deployment import ABSENT, UNSURE, ContainerSpec, Desired, Network, NetworkSpec, Observed
from boxwright.model.stack import Stack
from boxwright.store.images import Images
from boxwright.store.store import Store

JOBS = 8
UNTOLD = "untold"
"""The document with the names of balancers and resolvers that don't know what others were told."""
SETTLED = 30.0
"""Seconds for which a command waits until the members of a cluster hear each other again."""
_SETTLE_SECONDS = 0.5
_TELLING = (START, UPDATE, RESTART)
"""After these an instance knows what the others know."""


class Prepared(NamedTuple):
    """A deployment that is planned. `notes` are what the engine does without; `unfinished`: one was interrupted.

    `released` is what the last release was, `basis` what `desired` was made from.
    """

    desired: Desired
    observed: Observed
    plan: DeployPlan
    contents: StackContents
    images: tuple[ImageFacts, ...]
    notes: tuple[str, ...]
    unfinished: bool
    released: Desired | None
    basis: str = ""


def completed_stack(stack: Stack, store: Store) -> tuple[Stack, dict[str, str]]:
    """The stack with the servers that its images need (DBASE), and where those's first content lies."""
    return with_databases(stack, image_facts(stack, store, balanced=False), store)


def desired_stack(
    completed: tuple[Stack, Mapping[str, str]],
    store: Store,
    engine: DeployEngine,
    environment: Mapping[str, str],
    replicas: Mapping[str, int],
    rotate: Sequence[str] = (),
) -> tuple[Desired, StackContents, tuple[ImageFacts, ...], str]:
    """Everything that is to be there, and the basis of it. All images are in the store already.

    Secrets to `rotate` are made anew.

    Raises DefinitionError `stack.no-secret` for one that is not made here.
    """
    stack, dumps = completed
    images = image_facts(stack, store, balanced=wants_balancer(stack, replicas))
    digests = file_digests(stack)
    dump_digests = {name: digest_of_file(path) for name, path in dumps.items()}
    paths = {digest: path for path, digest in digests.items()} | {dump_digests[it]: dumps[it] for it in dumps}
    contents = StackContents(engine, stack.name, paths)
    _rotate(stack, contents, rotate)
    servers = server_facts(stack, dump_digests, contents.made)
    named = {it.name: contents.given(it, environment) for it in stack.secrets}
    containers = tuple(
        it._replace(
            env=bundle_environment(it) + it.env,
            secrets=tuple(use._replace(name=named[use.name]) for use in it.secrets),
        )
        for it in stack.containers
    )
    facts = Facts(images, servers, digests, replicas, engine.hosts())
    stack = stack._replace(containers=containers)
    return desired_of(stack, facts), contents, tuple(images.values()), basis_text(Basis(stack, facts))


def _rotate(stack: Stack, contents: StackContents, names: Sequence[str]) -> None:
    ours = {it.name for it in stack.containers if it.database is not None}
    ours |= {it.name for it in stack.secrets if not it.file and not it.env}
    for name in names:
        if name not in ours:
            hint = f"made are: {', '.join(sorted(ours)) or 'none'}; others change where they come from"
            raise DefinitionError("stack.no-secret", f"{stack.name} has no secret {name} that is made", hint=hint)
        contents.rotate(name)


def prepare_deployment(
    engine: DeployEngine,
    desired: Desired,
    contents: StackContents,
    images: tuple[ImageFacts, ...],
    *,
    patience: float = 0.0,
    given_up: Callable[[Observed], Collection[str]] = lambda _: (),
    released: Desired | None = None,
    basis: str = "",
) -> Prepared:
    """Compare with what runs, and with the last release, which is read where it isn't given. Nothing is changed.

    For `patience` seconds it is waited until all members that answer are online, as after a change of their leader.
    `given_up` says which members surely run nothing any more.
    """
    notes = tuple(engine.lacks(desired))
    until = time.monotonic() + patience
    observed = engine.observe(desired.stack)
    while any(it.state == UNSURE for it in observed.members) and time.monotonic() < until:
        time.sleep(_SETTLE_SECONDS)
        observed = engine.observe(desired.stack)
    if released is None:
        releases = read_releases(engine, desired.stack)
        released = releases[-1].desired if releases else None
    untold = _untold(engine, desired.stack, observed)
    plan = make_plan(desired, observed, given_up(observed), released, untold)
    unfinished = engine.read_document(desired.stack, DEPLOYING) is not None
    return Prepared(desired, observed, plan, contents, images, notes, unfinished, released, basis)


def check_prepared(prepared: Prepared, stack: Stack | None = None) -> Prepared:
    """`prepared`, where what is asked for can be; a `stack` is the definition that asks.

    Raises BoxwrightError `deploy.subnet-taken`, `deploy.member-away`, `deploy.volume-fixed`. `watch`, for which
    everything else must go on, doesn't ask this; nor is what a volume has become refused to who goes back.
    """
    check_networks(prepared.desired, prepared.observed, prepared.plan, stack)
    if stack is not None:
        check_volumes(prepared.desired, prepared.observed, stack)
    return prepared


def carry_out(
    engine: DeployEngine,
    prepared: Prepared,
    store: Store,
    reason: str,
    tell: Callable[[Progress], None],
    *,
    jobs: int = JOBS,
) -> Release | None:
    """Apply the plan; where it fails, what ran before is made to run again, and the error is raised.

    Returns the new release, None where nothing had to be done.
    """
    _require_places(prepared)
    stack = prepared.desired.stack
    if not prepared.plan.work and not prepared.unfinished:
        if _is_otherwise(prepared):
            return _remember(engine, prepared, store, reason, [])
        _note_basis(engine, prepared)
        return None
    events: list[StackEvent] = []

    def note(progress: Progress) -> None:
        events.append(StackEvent(round(time.time(), 3), progress.what, progress.name, progress.text))
        tell(progress)

    prepared.contents.keep()
    before = _before(prepared)
    given = read_images(engine, stack) | set(_new_images(prepared.plan))
    engine.write_documents(stack, {IMAGES: images_text(given), DEPLOYING: reason.encode()})
    try:
        apply_prepared(engine, prepared, note, Limits(jobs, prepared.unfinished))
    except BoxwrightError as error:
        events.append(StackEvent(round(time.time(), 3), "failed", stack, error.message))
        hint = _go_back(engine, before, prepared, error, note, events, jobs)
        raise BoxwrightError(error.code, error.message, hint=f"{hint}; {error.hint}" if error.hint else hint) from error
    except BaseException:
        add_events(engine, stack, events)
        raise
    return _remember(engine, prepared, store, reason, events)


def _go_back(
    engine: DeployEngine,
    before: Desired,
    prepared: Prepared,
    error: BoxwrightError,
    tell: Callable[[Progress], None],
    events: list[StackEvent],
    jobs: int,
) -> str:
    """See that what ran before runs again; returns what became of it, for a person. Where it fails it is to be done."""
    stack = prepared.desired.stack
    tell(Progress("rollback", "stack", stack, error.message))
    try:
        _roll_back(engine, before, prepared.desired, prepared.contents, tell, jobs)
    except BaseException as failed:
        said = failed.message if isinstance(failed, BoxwrightError) else "it was interrupted"
        events.append(StackEvent(round(time.time(), 3), "failed", stack, f"going back: {said}"))
        add_events(engine, stack, events)
        if not isinstance(failed, BoxwrightError):
            raise
        return f"going back failed too: {said}; 'boxwright rollback' goes on with that"
    engine.write_documents(stack, {EVENTS: with_events(engine, stack, events), DEPLOYING: None})
    files = kept_files(prepared.desired.instances, prepared.desired.backends)
    _forget(engine, stack, read_releases(engine, stack), files)
    return "what ran before runs again" if before.containers else "nothing of it is left but its volumes"


def _remember(engine: DeployEngine, prepared: Prepared, store: Store, reason: str, events: list[StackEvent]) -> Release:
    """The release, its images and what happened; then what no release needs any more is forgotten."""
    stack = prepared.desired.stack
    before = read_releases(engine, stack)
    releases = with_release(before, prepared.desired, reason, int(time.time()), prepared.basis)
    _keep_images(prepared, store, releases)
    events.append(StackEvent(round(time.time(), 3), "release", str(releases[-1].number), reason))
    documents = {RELEASES: releases_text(releases), EVENTS: with_events(engine, stack, events), DEPLOYING: None}
    engine.write_documents(stack, documents)
    _forget(engine, stack, releases, _files(before), images_of(before))
    return releases[-1]


def _note_basis(engine: DeployEngine, prepared: Prepared) -> None:
    """What changes nothing now may do so with other numbers of replicas."""
    releases = read_releases(engine, prepared.desired.stack)
    if releases and prepared.basis not in ("", releases[-1].basis):
        kept = (*releases[:-1], releases[-1]._replace(basis=prepared.basis))
        engine.write_document(prepared.desired.stack, RELEASES, releases_text(kept))


def _forget(
    engine: DeployEngine, stack: str, releases: tuple[Release, ...], files: Iterable[str], images: Iterable[str] = ()
) -> None:
    """Of these files, and of all images that the engine has for the stack, those that no release needs.

    What can't be removed now is tried again with the next release.
    """
    documents: dict[str, bytes | None] = {content_document(it): None for it in set(files) - _files(releases)}
    given = read_images(engine, stack).union(images)
    with suppress(BoxwrightError):
        if stale := given - images_of(releases):
            stale -= images_of_others(engine, stack)
            documents[IMAGES] = images_text(given.difference(engine.drop_images(stack, sorted(stale))))
        if documents:
            engine.write_documents(stack, documents)


def _files(releases: Iterable[Release]) -> set[str]:
    return {file for it in releases for file in kept_files(it.desired.instances, it.desired.backends)}


def _is_otherwise(prepared: Prepared) -> bool:
    """Whether something else is to be done in future, though everything is as it should be: copies, snapshots."""
    return prepared.released is not None and _policy(prepared.released) != _policy(prepared.desired)


def _policy(desired: Desired) -> tuple[object, ...]:
    return desired.volumes, tuple((it.name, it.failover) for it in desired.containers)


def _require_places(prepared: Prepared) -> None:
    """Every new instance has a member that can take it, the load balancers' excepted: each member is to have one.

    Raises BoxwrightError `deploy.no-member`.
    """
    known = {it.logical for it in prepared.observed.instances}
    for change in prepared.plan.of(INSTANCE, WAIT):
        if change.name not in known and change.spec is not None and change.spec.container != BALANCER:
            hint = "'boxwright cluster status' shows the members; `placement: {on: ...}` names those that may be used"
            raise BoxwrightError("deploy.no-member", f"{change.name} can't be started: {change.reason}", hint=hint)


def apply_prepared(engine: DeployEngine, prepared: Prepared, tell: Callable[[Progress], None], limits: Limits) -> None:
    """Provide the images and files that the plan needs, and apply it. Raises BoxwrightError."""
    with ThreadPoolExecutor(limits.jobs) as pool:
        for done in [pool.submit(engine.provide_image, *item) for item in _new_images(prepared.plan).items()]:
            done.result()
    made = (it.spec for it in prepared.plan.work if it.spec is not None)
    for reference in sorted(kept_files(made, prepared.desired.backends)):
        prepared.contents.keep_file(reference)
    away = _note_away(engine, prepared.observed, prepared.desired.stack)
    kept = {it.name: it.kept.name for it in prepared.plan.work if it.kept is not None}
    told: set[str] = set()

    def note(progress: Progress) -> None:
        if progress.kind == INSTANCE and progress.what in _TELLING and progress.name in kept:
            told.add(kept[progress.name])
        tell(progress)

    try:
        apply_plan(engine, prepared.desired, prepared.observed, prepared.plan, prepared.contents, note, limits)
    finally:
        if away.intersection(told):
            _write_untold(engine, prepared.desired.stack, away - told)


def _untold(engine: DeployEngine, stack: str, observed: Observed) -> set[str]:
    """Balancers and resolvers that were out of reach when others of the stack were told something."""
    raw = engine.read_document(stack, UNTOLD) if observed.members else None
    return set(json.loads(raw)) if raw else set()


def _note_away(engine: DeployEngine, observed: Observed, stack: str) -> set[str]:
    """With those that are out of reach now, without those that are gone."""
    before = _untold(engine, stack, observed)
    away = {it.name for it in observed.instances if it.state == ABSENT and it.container in (BALANCER, RESOLVER)}
    untold = away | before.intersection(it.name for it in observed.instances)
    if untold != before:
        _write_untold(engine, stack, untold)
    return untold


def _write_untold(engine: DeployEngine, stack: str, names: set[str]) -> None:
    engine.write_document(stack, UNTOLD, json.dumps(sorted(names)).encode() if names else None)


def _new_images(plan: DeployPlan) -> dict[str, str]:
    """Those that the engine must have, with their names."""
    return {it.spec.image: it.spec.image_name for it in plan.work if it.spec is not None}


def apply_noted(
    engine: DeployEngine, prepared: Prepared, why: str, tell: Callable[[Progress], None], limits: Limits
) -> None:
    """The same, and what was done stands in the stack's events, with `why` before it."""
    events: list[StackEvent] = []

    def note(progress: Progress) -> None:
        events.append(StackEvent(round(time.time(), 3), progress.what, progress.name, f"{why}: {progress.text}"))
        tell(progress)

    try:
        apply_prepared(engine, prepared, note, limits)
    finally:
        add_events(engine, prepared.desired.stack, events)


def _before(prepared: Prepared) -> Desired:
    """What ran, from the labels of the instances: what is gone back to where the deployment fails.

    After an interrupted one, those may be of what was interrupted: then it is the last release.
    """
    if prepared.unfinished and prepared.released is not None:
        return prepared.released
    containers: dict[str, ContainerSpec] = {}
    after = {it.name: it for it in prepared.desired.containers}
    there = () if prepared.unfinished else prepared.observed.instances
    for instance in sorted(there, key=lambda it: (it.container, it.number, it.generation)):
        if instance.spec is None:
            continue
        known = containers.get(instance.container, ContainerSpec(instance.container, ()))
        kept = tuple(it for it in known.instances if it.number != instance.number)
        containers[instance.container] = known._replace(instances=(*kept, instance.spec))
    names = {network for it in containers.values() for spec in it.instances for network in spec.networks}
    known_networks = {it.name: it for it in prepared.desired.networks}
    known_networks |= {it.name: _network_before(prepared, it) for it in prepared.observed.networks}
    networks = tuple(it for name, it in known_networks.items() if name in names)
    ordered = [
        it._replace(after=tuple(x for x in after[it.name].after if x[0] in containers) if it.name in after else ())
        for it in containers.values()
    ]
    told = prepared.released or prepared.desired
    running = prepared.desired._replace(containers=start_order(ordered), networks=networks, volumes=())
    return running._replace(backends=told.backends, services=told.services)


def _network_before(prepared: Prepared, found: Network) -> NetworkSpec:
    """A network as it was made; what its engine doesn't tell is as the last release had it, or as it is to be."""
    specs = (prepared.released or prepared.desired, prepared.desired)
    known = next((it for desired in specs for it in desired.networks if it.name == found.name), NetworkSpec(found.name))
    internal = known.internal if found.internal is None else found.internal
    return known._replace(subnet=found.subnet, across=found.across or known.across, internal=internal)


def _roll_back(
    engine: DeployEngine,
    before: Desired,
    told: Desired,
    contents: StackContents,
    tell: Callable[[Progress], None],
    jobs: int,
) -> None:
    """Balancers may have been `told` of what was to be."""
    observed = engine.observe(before.stack)
    plan = make_plan(before, observed, told=told)
    for identity, name in _new_images(plan).items():
        engine.provide_image(identity, name)
    apply_plan(engine, before, observed, plan, contents, tell, Limits(jobs))


def _keep_images(prepared: Prepared, store: Store, releases: tuple[Release, ...]) -> None:
    """Those of releases that are remembered stay in the store."""
    images = Images(store)
    for name, identity in kept_tags(prepared.desired.stack, prepared.images):
        if images.find(name) is None and (image := images.find(identity)) is not None:
            images.tag(image, name)
    needed = images_of(releases)
    for name, image in images.listing():
        if name.startswith(f"{KEPT}{prepared.desired.stack}:") and image.identity not in needed:
            images.remove(name)


def rolled_back(engine: DeployEngine, stack: str, number: int | None) -> Release:
    """The release that is gone back to: of this number, or the one before the last. Raises `deploy.no-release`.

    Of a deployment that was interrupted, or that could not be gone back from, there is none yet: it is the last one.
    """
    releases = read_releases(engine, stack)
    newest = -1 if engine.read_document(stack, DEPLOYING) is None else len(releases)
    found = [it for it in releases if it.number == number] if number is not None else list(releases[:newest][-1:])
    if not found:
        known = ", ".join(str(it.number) for it in releases) or "none"
        what = f"release {number}" if number is not None else "earlier release"
        raise BoxwrightError("deploy.no-release", f"{stack} has no {what}", hint=f"remembered: {known}")
    return found[0]


def last_release(engine: DeployEngine, stack: str) -> Release:
    """What is to be there now. Raises BoxwrightError `deploy.no-release`."""
    releases = read_releases(engine, stack)
    if not releases:
        raise BoxwrightError("deploy.no-release", f"{stack} was never deployed on {engine.name}")
    return releases[-1]
