"""Carries a plan out: in the order of dependencies, a limited number of things at a time, each waited for.

Whatever is interrupted, what is there afterwards says by its labels what it is, and the next plan goes on from there.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import NamedTuple, Protocol

from boxwright.deploy.addresses import CUT, PLAIN, choose_subnet
from boxwright.deploy.balancing import MOVING
from boxwright.deploy.engine import DeployEngine
from boxwright.deploy.guarding import rules_text
from boxwright.deploy.health import await_end, await_well, last_words
from boxwright.deploy.live import BALANCER, Live
from boxwright.deploy.naming import NAMES, RECORDS, RESOLVER, resolv_conf
from boxwright.deploy.placing import mounted, share_port, written
from boxwright.deploy.planning import (
    CREATE,
    INSTANCE,
    KEEP,
    MOVE,
    NETWORK,
    REMOVE,
    REPLACE,
    RESTART,
    START,
    UPDATE,
    VOLUME,
    WAIT,
    Change,
    DeployPlan,
)
from boxwright.errors import BoxwrightError
from boxwright.model.deployment import (
    ABSENT,
    ENVIRONMENT_PROGRAM,
    RUNNING,
    SECRETS,
    ContainerSpec,
    Desired,
    Instance,
    InstanceSpec,
    NewInstance,
    Observed,
    instance_labels,
    with_secrets,
)

SECRET = "secret:"  # noqa: S105  the beginning of a reference
ONE_BY_ONE = (REPLACE, MOVE, RESTART)
_NETWORKS = 4
DEPLOYING = "deploying"
"""The document that is there while a plan is being applied."""


class Contents(Protocol):
    """What instances are given that does not stand in their specification."""

    def content(self, reference: str) -> bytes:
        """The bytes of a digest or of ``secret:NAME``. Raises BoxwrightError `deploy.content-gone`."""
        ...

    def secret_program(self) -> bytes:
        """What starts a program with secrets in its environment."""
        ...


class Progress(NamedTuple):
    """Something was begun, done or failed. `what` is an action of the plan, or: healthy, drained, failed, removed."""

    what: str
    kind: str
    name: str
    text: str = ""
    seconds: float = 0.0


class Limits(NamedTuple):
    """How many instances are worked on at a time. With `verify` those that are kept are asked too.

    `each`: a container that fails does not stop those that don't wait for it. `wait`: for how many seconds it is waited
    until what is started is well, where nothing else does its work meanwhile.
    """

    jobs: int = 8
    verify: bool = False
    each: bool = False
    wait: float = math.inf


def apply_plan(
    engine: DeployEngine,
    desired: Desired,
    observed: Observed,
    plan: DeployPlan,
    contents: Contents,
    tell: Callable[[Progress], None],
    limits: Limits = Limits(),  # noqa: B008  a constant
) -> None:
    """Do everything that the plan says.

    Raises BoxwrightError for the first thing that failed; the rest is stopped, or done with `Limits.each`.
    """
    _Application(engine, desired, observed, plan, contents, tell, limits).run()


class _Application:
    """One plan on its way."""

    def __init__(
        self,
        engine: DeployEngine,
        desired: Desired,
        observed: Observed,
        plan: DeployPlan,
        contents: Contents,
        tell: Callable[[Progress], None],
        limits: Limits,
    ) -> None:
        self._engine = engine
        self._desired = desired
        self._observed = observed
        self._plan = plan
        self._contents = contents
        self._tell = tell
        self._limits = limits
        self._failed = threading.Event()
        self._slots = threading.BoundedSemaphore(limits.jobs)
        self._subnets = _subnets(desired, observed, plan)
        self._live = Live(engine, desired, observed, self._subnets, contents.content)
        self._gone: set[str] = set()
        self._lock = threading.Lock()
        self._started: dict[str, Future[None]] = {it.name: Future() for it in desired.containers}
        self._linked: list[Future[None]] = []

    def run(self) -> None:
        """Networks and volumes, containers after those that they need, then what is not wanted any more.

        What an engine may refuse with nothing changed yet comes first.
        """
        for change in self._plan.of(VOLUME, UPDATE):
            spec = next(it for it in self._desired.volumes if it.name == change.name)
            self._report(change, partial(self._engine.grow_volume, self._desired.stack, spec))
        with ThreadPoolExecutor(max_workers=_NETWORKS, thread_name_prefix="network") as pool:
            self._networks(pool)
            self._rest()

    def _rest(self) -> None:
        for change in self._plan.of(VOLUME, CREATE):
            spec = next(it for it in self._desired.volumes if it.name == change.name)
            spec = spec._replace(member=self._member_of(spec.name))
            self._report(change, lambda spec=spec: self._engine.create_volume(self._desired.stack, spec))  # type: ignore[misc]
        self._live.expect(self._alone())
        if self._plan.work or self._limits.verify:
            self._live.publish()
        failed: BoxwrightError | None = None
        try:
            self._containers()
        except BoxwrightError as error:
            self._live.expect_nothing()
            if not self._limits.each:
                raise
            failed = error
        self._await_networks()
        for change in self._plan.of(INSTANCE, REMOVE):
            self._report(change, lambda change=change: self._retire(change.old, drain=True))  # type: ignore[misc]
        for change in self._plan.of(VOLUME, REMOVE):
            self._report(change, lambda it=change: self._engine.delete_stale(self._desired.stack, it.name, it.member))  # type: ignore[misc]
        for change in self._plan.of(NETWORK, REMOVE):
            self._report(change, lambda name=change.name: self._engine.delete_network(self._desired.stack, name))  # type: ignore[misc]
        if failed is not None:
            raise failed

    def _alone(self) -> list[InstanceSpec]:
        """New instances of containers that have one, whose names lead to no other container."""
        specs = [it.instances[0] for it in self._desired.containers if len(it.instances) == 1]
        names = [alias for it in self._desired.containers for spec in it.instances[:1] for alias in spec.aliases]
        created = {change.name for change in self._plan.of(INSTANCE, CREATE)}
        return [it for it in specs if it.logical in created and all(names.count(name) == 1 for name in it.aliases)]

    def _member_of(self, volume: str) -> str:
        """Where the first instance that uses it will be."""
        users = (it for it in self._plan.of(INSTANCE, CREATE, REPLACE, MOVE) if it.spec and volume in mounted(it.spec))
        return next((it.member for it in users), "")

    def _report(self, change: Change, work: Callable[[], None]) -> None:
        began = time.monotonic()
        work()
        self._tell(Progress(change.action, change.kind, change.name, change.reason, time.monotonic() - began))

    def _networks(self, pool: ThreadPoolExecutor) -> None:
        """New ones may be made beside what follows; `_await_networks` waits for them.

        All that are replaced go first: one may get the subnet of another.
        """
        for change in self._plan.of(NETWORK, REPLACE):
            self._unmake_network(change.name)
        for change in self._plan.of(NETWORK, CREATE, REPLACE):
            work = partial(self._report, change, partial(self._make_network, change))
            spec = next(it for it in self._desired.networks if it.name == change.name)
            subnet = self._subnets[change.name]
            if change.action == CREATE and self._engine.makes_beside(spec._replace(subnet=subnet)):
                self._linked.append(pool.submit(work))
            else:
                work()

    def _await_networks(self) -> None:
        for made in self._linked:
            made.result()

    def _unmake_network(self, name: str) -> None:
        """One that is made anew takes its instances' interfaces along: the plan replaces them."""
        for instance in self._observed.instances:
            if instance.state == ABSENT:
                continue
            if instance.spec is None or name in instance.spec.networks:
                self._engine.stop(instance.name, instance.spec.stop_seconds if instance.spec else 0.0)
                self._engine.delete(instance.name)
                self._live.lose(instance)
        self._engine.delete_network(self._desired.stack, name)

    def _make_network(self, change: Change) -> None:
        spec = next(it for it in self._desired.networks if it.name == change.name)
        self._engine.create_network(self._desired.stack, spec._replace(subnet=self._subnets[change.name]))

    # Containers -------------------------------------------------------------------------------------------------------

    def _containers(self) -> None:
        """A thread for each container; it waits for those that come before it."""
        containers = self._desired.containers
        if not containers:
            return
        done: dict[str, Future[None]] = {}
        errors: list[BaseException] = []
        with ThreadPoolExecutor(max_workers=len(containers), thread_name_prefix="deploy") as pool:
            try:
                for container in containers:
                    done[container.name] = pool.submit(self._container, container, done)
                errors += [error for future in done.values() if (error := future.exception()) is not None]
            except BaseException:
                self._failed.set()  # Ctrl-C: the threads end at their next look
                raise
        real = [error for error in errors if not isinstance(error, _StoppedError)]
        if real or errors:
            raise (real or errors)[0]

    def _container(self, container: ContainerSpec, done: dict[str, Future[None]]) -> None:
        """All instances of one container."""
        try:
            self._await_others(container, done)
            changes = [it for it in self._plan.changes if it.kind == INSTANCE and _is_of(it, container)]
            self._many([it for it in changes if not _is_exchange(it)], self._instance, self._limits.jobs)
            self._replace(container, [it for it in changes if _is_exchange(it)])
        except BaseException as error:
            if not self._limits.each:
                self._failed.set()
            started = self._started[container.name]
            if not started.done():
                started.set_exception(error)
            raise
        started = self._started[container.name]
        if not started.done():
            started.set_result(None)

    def _await_others(self, container: ContainerSpec, done: dict[str, Future[None]]) -> None:
        for name, condition in container.after:
            waited = self._started.get(name) if condition == "started" else done.get(name)
            while waited is not None and not waited.done():
                self._check_stopped()
                time.sleep(0.005)
            if waited is not None and waited.exception() is not None:
                raise _StoppedError
            if condition == "completed":
                self._await_completed(name)

    def _await_completed(self, name: str) -> None:
        for instance in self._engine.observe(self._desired.stack).instances:
            if instance.container == name and instance.spec is not None:
                await_end(self._engine, instance.name, instance.spec, self._failed.is_set)

    def _check_stopped(self) -> None:
        if self._failed.is_set():
            raise _StoppedError

    def _many(self, changes: Sequence[Change], work: Callable[[Change], None], at_once: int) -> None:
        """Do several at a time; the first error stops the others and is raised."""
        if len(changes) < 2:
            for change in changes:
                work(change)
            return
        with ThreadPoolExecutor(max_workers=min(at_once, len(changes))) as pool:
            futures = [pool.submit(work, change) for change in changes]
            errors = [error for future in futures if (error := future.exception()) is not None]
        real = [error for error in errors if not isinstance(error, _StoppedError)]
        if errors:
            raise (real or errors)[0]

    def _replace(self, container: ContainerSpec, changes: list[Change]) -> None:
        """In batches; the canaries first, which must stay well for a while."""
        update = container.update
        canaries, rest = changes[: update.canary], changes[update.canary :]
        self._many(canaries, self._instance, max(1, update.canary))
        if canaries:
            self._watch_canaries(canaries, update.wait)
        for start in range(0, len(rest), update.parallel):
            self._many(rest[start : start + update.parallel], self._instance, update.parallel)
            last = start + update.parallel >= len(rest)
            if update.wait and not update.canary and not last:
                self._pause(update.wait)

    def _watch_canaries(self, canaries: Iterable[Change], seconds: float) -> None:
        """They must be well all the time. Raises BoxwrightError `deploy.ended` or `deploy.unhealthy`."""
        watched = [change for change in canaries if change.spec is not None]
        deadline = time.monotonic() + seconds
        while True:
            for change in watched:
                spec = change.spec
                assert spec is not None  # noqa: S101  for the type checker
                strict = spec._replace(health=spec.health._replace(start_period=0.0))
                newest = max(
                    (it for it in self._engine.observe(self._desired.stack).instances if it.logical == change.name),
                    key=lambda it: it.generation,
                )
                await_well(self._engine, newest.name, strict, self._failed.is_set)
            left = deadline - time.monotonic()
            if left <= 0:
                return
            self._pause(min(left, 1.0))

    def _pause(self, seconds: float) -> None:
        if self._failed.wait(seconds):
            raise _StoppedError

    # One instance -----------------------------------------------------------------------------------------------------

    def _instance(self, change: Change) -> None:
        if change.action in (WAIT, REMOVE) or (change.action == KEEP and not self._limits.verify):
            return
        self._check_stopped()
        with self._slots:
            self._check_stopped()
            began = time.monotonic()
            try:
                self._do(change)
            except BoxwrightError as error:
                self._tell(Progress("failed", INSTANCE, change.name, error.message, time.monotonic() - began))
                raise
            if change.action != KEEP:
                seconds = time.monotonic() - began
                self._tell(Progress(change.action, INSTANCE, change.name, change.reason, seconds))

    def _do(self, change: Change) -> None:
        spec = change.spec
        assert spec is not None  # noqa: S101  for the type checker: a change of an instance that is wanted has one
        if change.action in (KEEP, UPDATE, START):
            kept = change.kept
            assert kept is not None  # noqa: S101  likewise
            if change.action == START:
                self._engine.start(kept.name)
            self._well(kept.name, spec, kept.addresses, change)
            self._retire(change.old, drain=True)
        elif change.action == RESTART and change.kept is not None:
            self._stop_gently(change.kept, spec)
            self._engine.start(change.kept.name)
            self._well(change.kept.name, spec, change.kept.addresses, change)
        elif change.action in (CREATE, REPLACE, MOVE):
            self._exchange(change, spec, (*change.old, *self._holders(change, spec, REMOVE)))

    def _holders(self, change: Change, spec: InstanceSpec, *actions: str) -> Iterable[Instance]:
        """Others that have a port or a volume which it wants, and which what takes their place does not want."""
        for other in self._plan.of(INSTANCE, *actions):
            if other is change:
                continue
            after = None if other.action == REMOVE else other.spec
            for it in other.old:
                near = it.member == change.member
                if it.spec is not None and (
                    (near and _lends_port(it.spec, after, spec)) or _lends(it.spec, after, spec)
                ):
                    yield it

    def _exchange(self, change: Change, spec: InstanceSpec, old: Sequence[Instance]) -> None:
        """A new one in place of old ones: beside them first where that can be, else after them.

        Others that hold a port or a volume of its are stopped too; what becomes of them their own changes say.
        """
        lenders = tuple(self._holders(change, spec, REPLACE, MOVE))
        container = next(it for it in self._desired.containers if it.name == spec.container)
        gone = {change.name for change in self._plan.of(NETWORK, REPLACE)}
        if gone.intersection(spec.networks):
            self._bring_up(change)
        elif lenders or (old and (container.update.strategy == "recreate" or _shares(change, spec, old))):
            self._after(change, spec, old, lenders)
        else:
            self._bring_up(change)
            self._retire(old, drain=True)

    def _after(self, change: Change, spec: InstanceSpec, old: Sequence[Instance], lenders: Sequence[Instance]) -> None:
        """The old ones are stopped, and started again where the new one does not become well.

        One on another member than its volume has an older generation of that: it is not started again.
        """
        running = [it for it in (*old, *lenders) if it.state == RUNNING and it.name not in self._gone]
        tied = set(dict(self._observed.places)).intersection(written(spec))
        for instance in running:
            self._stop_gently(instance, spec)
        try:
            self._bring_up(change)
        except BaseException:
            for instance in (it for it in running if not tied or it.member == change.member):
                with suppress(BoxwrightError):  # gone meanwhile, or its port is: what ran before is made again later
                    self._engine.start(instance.name)
                    if instance.spec is not None:
                        self._live.appear(instance.spec, instance.addresses, instance.name)
            raise
        self._retire(old, drain=False)

    def _stop_gently(self, instance: Instance, spec: InstanceSpec) -> None:
        """Lead nothing to it any more, let requests end, stop it."""
        self._live.disappear(instance.logical, instance.container, instance.name, instance.addresses)
        if self._live.balances(instance.container):
            self._live.drain(instance.container)
        self._engine.stop(instance.name, instance.spec.stop_seconds if instance.spec else spec.stop_seconds)

    def _bring_up(self, change: Change) -> None:
        """Make it, start it, wait until it is well. Nothing is left of it where that fails."""
        spec = change.spec
        assert spec is not None  # noqa: S101  for the type checker
        stack = self._desired.stack
        for volume in change.promoted:
            self._engine.promote_copy(stack, volume, change.lost, change.member)
        name = f"{stack}-{spec.logical}-g{change.generation}"
        addresses = self._live.allocate(spec)
        new = NewInstance(
            name=name,
            stack=stack,
            spec=spec._replace(argv=with_secrets(spec, spec.argv)),
            labels=instance_labels(stack, spec, change.generation, addresses),
            env=tuple(it for it in spec.env if it[0] not in dict(spec.secret_env)),
            addresses=addresses,
            files=tuple(self._files(name, spec, addresses)),
            hosts=self._live.first_hosts(name),
            member=change.member,
            rules=rules_text(spec, self._subnets),
            subnets=tuple((network, self._subnets[network]) for network, _ in addresses),
        )
        try:
            self._engine.create(new)
            self._await_networks()
            self._start(name)
            self._note_started(spec.container)
            self._well(name, spec, addresses, change)
        except BoxwrightError as error:
            if error.code != "deploy.taken":
                with suppress(BoxwrightError):  # where its member has died, the next plan sees what is left of it
                    self._engine.delete(name)
            self._live.release(addresses)
            raise

    def _start(self, name: str) -> None:
        """Start it; where that fails, what it wrote may say why."""
        try:
            self._engine.start(name)
        except BoxwrightError as error:
            message = f"{error.message}{last_words(self._engine, name)}"
            raise BoxwrightError(error.code, message, hint=error.hint) from error

    def _well(self, name: str, spec: InstanceSpec, addresses: tuple[tuple[str, str], ...], change: Change) -> None:
        """Until it is; what is in place of one that runs must be, other work need not wait for."""
        patience = math.inf if any(it.state == RUNNING for it in change.old) else self._limits.wait
        try:
            await_well(self._engine, name, spec, self._failed.is_set, patience)
        except KeyboardInterrupt:
            raise _StoppedError from None
        self._live.appear(spec, addresses, name)

    def _note_started(self, container: str) -> None:
        started = self._started[container]
        if not started.done():
            started.set_result(None)

    def _files(
        self, name: str, spec: InstanceSpec, addresses: Sequence[tuple[str, str]]
    ) -> Iterable[tuple[str, bytes, int]]:
        balancing: dict[str, bytes] = {}
        if spec.container == BALANCER and self._desired.backends:
            balancing = self._live.first_balancing(name, spec)
        modes = {file.path: file.mode for file in spec.files}
        yield from ((path, data, modes.get(path, 0o444)) for path, data in balancing.items())
        for file in spec.files:
            if file.path in balancing:
                continue
            if file.content == NAMES:
                yield file.path, resolv_conf(self._subnets[spec.networks[0]]).encode(), file.mode
                continue
            yield file.path, self._contents.content(file.content), file.mode
        given = {file.path for file in spec.files}
        for variable, secret in spec.secret_env:
            if f"{SECRETS}/{variable}" not in given:  # of a release that an older boxwright made
                yield f"{SECRETS}/{variable}", self._contents.content(f"{SECRET}{secret}"), 0o444
        if spec.secret_env:
            yield ENVIRONMENT_PROGRAM, self._contents.secret_program(), 0o555
        if balancing and spec.uplink:
            yield MOVING, self._live.first_share(name, spec.number, addresses[0][1]), 0o444
        if spec.container == RESOLVER and self._desired.services is not None:
            yield RECORDS, self._live.first_records(name), 0o444

    def _retire(self, instances: Iterable[Instance], *, drain: bool) -> None:
        """Lead nothing to them any more, let requests end, stop and remove them."""
        for instance in instances:
            with self._lock:
                if instance.name in self._gone:
                    continue
                self._gone.add(instance.name)
            self._live.disappear(instance.logical, instance.container, instance.name, instance.addresses)
            if drain and instance.state == RUNNING and self._live.balances(instance.container):
                self._live.drain(instance.container)
            self._engine.stop(instance.name, instance.spec.stop_seconds if instance.spec else 10.0)
            self._engine.delete(instance.name)
            self._live.release(instance.addresses)
            self._tell(Progress("removed", INSTANCE, instance.name))


class _StoppedError(BoxwrightError):
    """Something else failed, so this was not gone on with."""

    def __init__(self) -> None:
        super().__init__("deploy.stopped", "stopped, since something else failed")


def _is_of(change: Change, container: ContainerSpec) -> bool:
    return change.spec is not None and change.spec.container == container.name


def _is_exchange(change: Change) -> bool:
    """Whether something that does its work is to be replaced, so that the container's `update` counts."""
    return change.action in ONE_BY_ONE and not change.lost


def _lends_port(before: InstanceSpec, after: InstanceSpec | None, wanted: InstanceSpec) -> bool:
    return share_port(before, wanted) and not (after is not None and share_port(after, wanted))


def _lends(before: InstanceSpec, after: InstanceSpec | None, wanted: InstanceSpec) -> bool:
    """Whether one had a volume which another wants, and which what comes after it does not."""
    kept = written(after) if after is not None else ()
    return not set(written(before)).intersection(written(wanted)).issubset(kept)


def _shares(change: Change, spec: InstanceSpec, old: Iterable[Instance]) -> bool:
    """Whether an old one may hold something that the new one wants for itself: a volume, or a port of its member."""
    elsewhere = bool(change.member) and all(it.member != change.member for it in old)
    return bool(written(spec)) or (spec.exclusive and not elsewhere)


def _subnets(desired: Desired, observed: Observed, plan: DeployPlan) -> dict[str, str]:
    """The subnet of each network: as it is there, as it is written, or a free one."""
    anew = {change.name for change in plan.of(NETWORK, REPLACE)}
    there = {it.name: it.subnet for it in observed.networks if it.name not in anew}
    found: dict[str, str] = {}
    for spec in desired.networks:
        taken = (*observed.taken, *there.values(), *found.values())
        prefix = CUT if spec.allow or spec.deny else PLAIN
        found[spec.name] = there.get(spec.name) or spec.subnet or choose_subnet(desired.stack, spec.name, taken, prefix)
    return found
