"""What is to be done so that what runs becomes what is wanted, and why. Pure."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterable
from typing import NamedTuple

from boxwright.deploy.live import BALANCER
from boxwright.deploy.naming import RESOLVER
from boxwright.deploy.placing import Placing
from boxwright.deploy.replicas import REPLICA
from boxwright.model.deployment import (
    ABSENT,
    OFFLINE,
    RUNNING,
    UNSURE,
    Backend,
    ContainerSpec,
    Desired,
    Instance,
    InstanceSpec,
    Network,
    NetworkSpec,
    Observed,
    is_done,
    spec_fields,
    spec_hash,
)
from boxwright.model.stack import HOSTS
from boxwright.model.volumes import size_text

CREATE, START, REPLACE, MOVE, REMOVE, KEEP, UPDATE = "create", "start", "replace", "move", "remove", "keep", "update"
RESTART, WAIT = "restart", "wait"
NETWORK, VOLUME, INSTANCE = "network", "volume", "instance"


class Change(NamedTuple):
    """One thing to do. `old` are instances that go once the new one, or the one that is kept, is well.

    A new one gets this `generation`, on this `member` of a cluster. `lost` is a member that does not answer, where that
    is why; `promoted` are volumes of that one whose copies here take their place. Nothing is done for what has the
    action wait: it can't be now.
    """

    action: str
    kind: str
    name: str
    reason: str
    spec: InstanceSpec | None = None
    kept: Instance | None = None
    old: tuple[Instance, ...] = ()
    generation: int = 1
    member: str = ""
    lost: str = ""
    promoted: tuple[str, ...] = ()


class DeployPlan(NamedTuple):
    """All changes; those of kind instance with the action keep need nothing."""

    changes: tuple[Change, ...]

    @property
    def work(self) -> tuple[Change, ...]:
        """Those that do something."""
        return tuple(change for change in self.changes if change.action not in (KEEP, WAIT))

    def of(self, kind: str, *actions: str) -> tuple[Change, ...]:
        """Those of a kind with one of these actions."""
        return tuple(it for it in self.changes if it.kind == kind and it.action in actions)


def make_plan(
    desired: Desired,
    observed: Observed,
    given_up: Collection[str] = (),
    told: Desired | None = None,
    untold: Collection[str] = (),
) -> DeployPlan:
    """Compare. Volumes that nobody uses any more stay; `destroy --volumes` removes them.

    Copies take the place of volumes on members that are `given_up`: those that surely run nothing any more. `told` is
    the stack of which balancers and resolvers that run were told: that of the last release; `untold` are instances that
    could not be reached then.
    """
    return DeployPlan(
        (
            *_networks(desired, observed),
            *_volumes(desired, observed),
            *_told(_instances(desired, observed, given_up), desired, told or desired, untold),
            *_unwanted(desired, observed),
        )
    )


def restart_plan(desired: Desired, observed: Observed, chosen: Iterable[str]) -> DeployPlan:
    """A plan that restarts these instances, by their logical names; everything else stays as it is."""
    wanted = set(chosen)
    specs = {spec.logical: spec for spec in desired.instances}
    return DeployPlan(
        tuple(
            Change(RESTART, INSTANCE, it.logical, "it was asked for", specs[it.logical], it)
            for it in observed.instances
            if it.logical in wanted and it.logical in specs and it.state != ABSENT
        )
    )


def _networks(desired: Desired, observed: Observed) -> Iterable[Change]:
    """Engines make a network on all members, or not at all: one that is made otherwise waits for them."""
    away = sorted(it.name for it in observed.members if it.state in (OFFLINE, UNSURE))
    there = {network.name: network for network in observed.networks}
    for spec in desired.networks:
        found = there.get(spec.name)
        if found is None:
            yield Change(CREATE, NETWORK, spec.name, "it is not there")
        elif (reason := _made_otherwise(spec, found)) and away:
            yield Change(WAIT, NETWORK, spec.name, f"{reason}; {', '.join(away)} does not answer")
        elif reason:
            yield Change(REPLACE, NETWORK, spec.name, reason)
        elif not found.whole:
            yield Change(REPLACE, NETWORK, spec.name, "it is damaged, or the machine was restarted")
        else:
            yield Change(KEEP, NETWORK, spec.name, "")


def _made_otherwise(spec: NetworkSpec, found: Network) -> str:
    """What an engine fixed when it made a network, and the stack has otherwise; empty where that is nothing."""
    if spec.subnet and found.subnet != spec.subnet:
        return f"its subnet is {found.subnet}, not {spec.subnet}"
    if found.internal not in (None, spec.internal):
        return "it leads out, and is to be internal" if spec.internal else "it is internal, and is to lead out"
    across = spec.across or HOSTS
    if found.across and found.across != across:
        one = "it is one network over all hosts, and is to be a bridge on each"
        return "it is a bridge on each host, and is to be one network over all" if across == HOSTS else one
    return ""


def _volumes(desired: Desired, observed: Observed) -> Iterable[Change]:
    """Those that are to be larger grow; nothing is ever made smaller."""
    states = {it.name: it for it in observed.states}
    for spec in desired.volumes:
        state = states.get(spec.name)
        if spec.name not in observed.volumes:
            yield Change(CREATE, VOLUME, spec.name, "it is not there")
        elif state is None or not spec.size or spec.size == state.size or 0 < spec.size < state.size:
            yield Change(KEEP, VOLUME, spec.name, "")
        elif state.member and not _answers(observed, state.member):
            yield Change(WAIT, VOLUME, spec.name, f"it is to grow, and {state.member} does not answer")
        else:
            reason = f"its size is {size_text(state.size)}, not {size_text(spec.size)}"
            yield Change(UPDATE, VOLUME, spec.name, reason)


def _answers(observed: Observed, member: str) -> bool:
    """The only host, without a name, does."""
    there = {it.name for it in observed.members if it.state not in (OFFLINE, UNSURE)}
    return member in there if observed.members else not member


def _instances(desired: Desired, observed: Observed, given_up: Collection[str]) -> Iterable[Change]:
    """Each with the member that it goes to; those that stay are counted first."""
    broken = {change.name for change in _networks(desired, observed) if change.action == REPLACE}
    there: dict[str, list[Instance]] = {}
    for instance in observed.instances:
        there.setdefault(instance.logical, []).append(instance)
    placing = Placing(observed)
    changes = [_instance(spec, there.get(spec.logical, []), broken, placing) for spec in desired.instances]
    for change in changes:
        if change.kept is not None and change.spec is not None:
            placing.stays(change.kept, change.spec)
    replicas = {it.name for it in desired.containers if it.failover == REPLICA}
    return [_placed(change, placing, replicas, given_up) for change in changes]


def _told(changes: Iterable[Change], desired: Desired, before: Desired, untold: Collection[str]) -> Iterable[Change]:
    """Balancers and resolvers that stay, but are to know something else, are told so."""
    news = {}
    if desired.backends != before.backends:
        news[BALANCER] = f"balancing: {', '.join(_balancing(before.backends, desired.backends))}"
    if desired.services != before.services:
        news[RESOLVER] = "other services"
    for change in changes:
        reason = news.get(change.spec.container) if change.spec is not None else None
        if change.kept is not None and change.kept.name in untold:
            reason = reason or "it was out of reach when others were told what changed"
        yield change._replace(action=UPDATE, reason=reason) if reason and change.action == KEEP else change


def _balancing(before: Iterable[Backend], after: Iterable[Backend]) -> Iterable[str]:
    old = {it.container: it for it in before}
    new = {it.container: it for it in after}
    for name in sorted(old.keys() | new.keys()):
        if name not in old:
            yield f"{name} too"
        elif name not in new:
            yield f"{name} no longer"
        elif old[name] != new[name]:
            fields = (it for it in Backend._fields if getattr(old[name], it) != getattr(new[name], it))
            yield f"{', '.join(fields)} of {name}"


def _instance(spec: InstanceSpec, all_of_it: list[Instance], broken: set[str], placing: Placing) -> Change:
    """What happens to one logical instance, of which several generations may be there."""
    name = spec.logical
    there = [it for it in all_of_it if it.state != ABSENT]
    absent = [it for it in all_of_it if it.state == ABSENT]
    generation = 1 + max((it.generation for it in all_of_it), default=0)
    if not there:
        lost = max(absent, key=lambda it: it.generation).member if absent else ""
        if lost and not placing.is_lost(lost):
            return Change(WAIT, INSTANCE, name, f"{lost} answers, but not to its cluster", spec)
        reason = f"{lost} does not answer" if lost else "it is not there"
        return Change(MOVE if lost else CREATE, INSTANCE, name, reason, spec, generation=generation, lost=lost)
    unreachable = broken.intersection(spec.networks)
    matching = [it for it in there if it.hash == spec_hash(spec)]
    where_it_may = [it for it in matching if placing.may_stay(it, spec)]
    kept = max(
        where_it_may or matching or there, key=lambda it: (it.state == RUNNING and bool(matching), it.generation)
    )
    if matching and not unreachable and placing.may_stay(kept, spec):
        return _kept(spec, kept, tuple(it for it in there if it is not kept), placing)
    if not matching:
        action, reason = REPLACE, difference(kept.spec, spec)
    elif unreachable:
        action, reason = REPLACE, f"its network {min(unreachable)} is made anew"
    else:
        action, reason = MOVE, f"it may not be on {kept.member}"
    return Change(action, INSTANCE, name, reason, spec, old=tuple(there), generation=generation)


def _kept(spec: InstanceSpec, kept: Instance, others: tuple[Instance, ...], placing: Placing) -> Change:
    """One that is as it should be, and where it may be."""
    name = spec.logical
    if kept.state != RUNNING and not is_done(spec, kept.exit_code):
        if not placing.takes(kept.member):
            return Change(WAIT, INSTANCE, name, f"{kept.member} takes no instances now", spec, kept)
        return Change(START, INSTANCE, name, f"it is {kept.state}", spec, kept, others)
    if others:
        return Change(UPDATE, INSTANCE, name, "an older one is still there", spec, kept, others)
    return Change(KEEP, INSTANCE, name, "", spec, kept)


def _placed(change: Change, placing: Placing, replicas: Collection[str], given_up: Collection[str]) -> Change:
    """With a member, where a new instance is to be made; where no member can take it, it waits."""
    spec = change.spec
    if change.action not in (CREATE, REPLACE, MOVE) or spec is None or not placing.clustered:
        return change
    if placing.comes_later(spec):
        return change._replace(action=WAIT, reason="another instance takes its volume over first", old=())
    before = max(change.old, key=lambda it: it.generation).member if change.old else ""
    member = placing.choose(spec, before)
    if member is not None:
        return change._replace(member=member)
    if spec.container in replicas and placing.lost_volumes(spec):
        return _taken_over(change, spec, placing, given_up)
    return _waiting(change, placing.home(spec))


def _waiting(change: Change, home: str) -> Change:
    """No member can take it."""
    where = f"its volume is on {home}, which takes no instances now" if home else "no other member can take it"
    if change.lost:
        return change._replace(action=WAIT, reason=f"{change.reason}, and {where}")
    if change.action == CREATE:
        return change._replace(action=WAIT, reason=where)
    if change.action == MOVE:
        return change._replace(action=REMOVE, reason=f"{change.reason}, and {where}")
    return change._replace(action=WAIT, reason=f"{change.reason}; {where}", old=())


def _taken_over(change: Change, spec: InstanceSpec, placing: Placing, given_up: Collection[str]) -> Change:
    """Started from copies of its volumes, once their member surely runs it no more."""
    home, volumes = placing.home(spec), placing.lost_volumes(spec)
    found = placing.take_over(spec)
    if found is None:
        reason = f"its volume is on {home}, which does not answer, and no other member has a copy"
        return change._replace(action=WAIT, reason=reason, old=())
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(found.time))
    if home not in given_up:
        reason = f"{home} does not answer; 'boxwright watch' starts it on {found.member} from the copy of {when}"
        return change._replace(action=WAIT, reason=reason, old=())
    reason = f"{home} does not answer; it starts from the copy of {when}"
    return change._replace(action=MOVE, reason=reason, member=found.member, lost=home, promoted=volumes)


def _unwanted(desired: Desired, observed: Observed) -> Iterable[Change]:
    wanted = {spec.logical for spec in desired.instances}
    containers = {container.name for container in desired.containers}
    for instance in observed.instances:
        if instance.logical not in wanted and instance.state != ABSENT:
            known = instance.container in containers
            reason = "there are fewer replicas" if known else "the stack no longer has it"
            yield Change(REMOVE, INSTANCE, instance.logical, reason, old=(instance,))
    for state in observed.states:
        for member in (it for it in state.stale if _answers(observed, it)):
            reason = f"{member or 'the engine'} has an older one, in whose place another was put"
            yield Change(REMOVE, VOLUME, state.name, reason, member=member)
    networks = {spec.name for spec in desired.networks}
    for network in observed.networks:
        if network.name not in networks:
            yield Change(REMOVE, NETWORK, network.name, "the stack no longer has it")


def difference(before: InstanceSpec | None, after: InstanceSpec) -> str:
    """In words what differs between two specifications."""
    if before is None:
        return "what it was made of is not known"
    old, new = spec_fields(before), spec_fields(after)
    said: list[str] = []
    for name in InstanceSpec._fields:
        if old.get(name) == new.get(name) or name == "image_name":
            continue
        said.append(_in_words(name, before, after))
    return "; ".join(said) or "its image is called otherwise"


def _in_words(name: str, before: InstanceSpec, after: InstanceSpec) -> str:
    old, new = getattr(before, name), getattr(after, name)
    if name == "image":
        return f"the image is {_short(new)}, not {_short(old)}"
    if name in ("env", "secret_env"):
        changed = sorted(set(dict(old).items()) ^ set(dict(new).items()))
        return f"environment: {', '.join(dict.fromkeys(key for key, _ in changed))}"
    if name == "files":
        paths = sorted({it[0] for it in set(old) ^ set(new)})
        return f"files: {', '.join(paths)}"
    return name.replace("_", " ")


def _short(identity: str) -> str:
    return re.sub(r"^sha256:", "", identity)[:12]


def start_order(containers: Iterable[ContainerSpec]) -> tuple[ContainerSpec, ...]:
    """Containers so that each comes after those that it waits for; else in the given order."""
    left = list(containers)
    known = {container.name for container in left}
    done: list[ContainerSpec] = []
    names: set[str] = set()
    while left:
        ready = [it for it in left if all(name in names or name not in known for name, _ in it.after)]
        for container in ready or left[:1]:
            done.append(container)
            names.add(container.name)
            left.remove(container)
    return tuple(done)
