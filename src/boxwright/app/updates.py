"""What is newer: upstream's versions of what definitions say, and what a lock would pin today (docs/lock.md)."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cmp_to_key
from typing import Any, NamedTuple

from boxwright.app.locking import Locked, LockPlan, LockRequest, make_lock, plan_lock
from boxwright.app.locks import parse_lock
from boxwright.app.outside import Outside
from boxwright.app.packagefiles import compare_versions
from boxwright.errors import BoxwrightError
from boxwright.frontends.package.wanted import Resolved, definition_name
from boxwright.model.giturl import redacted, without_password
from boxwright.model.step import Base, BuildPackage
from boxwright.sources.upstream import Watch, is_finished, listed_versions, watch_for
from boxwright.store.packages import Packages
from boxwright.store.store import Store

AT_ONCE = 8


class Upstream(NamedTuple):
    """What a definition says, and what there is. `newest` is empty where `error` says why it is not known.

    `kind`: ``url``, ``git``, ``debian-source``, ``debian-package``. `place` is where versions are listed, `file` what
    says the version.
    """

    kind: str
    name: str
    current: str
    newest: str
    place: str
    file: str
    error: str = ""

    @property
    def is_newer(self) -> bool:
        """Whether there is something newer."""
        return bool(self.newest) and compare_versions(self.newest, self.current) > 0


class Moved(NamedTuple):
    """An item of a lock that changes; `old` or `new` is empty where it is added or removed."""

    section: str
    name: str
    old: str
    new: str


class Update(NamedTuple):
    """`lock` is what the lock would be, None where there is none."""

    upstream: tuple[Upstream, ...]
    moved: tuple[Moved, ...]
    lock: Locked | None


def look_for_updates(request: LockRequest, store: Store, environment: Mapping[str, str]) -> Update:
    """Ask upstream for newer versions, and make the lock anew where there is one; nothing is written."""
    plan = plan_lock(request, store, environment)
    upstream = tuple(_upstream(plan, store, request.output))
    old = plan.path
    if not os.path.isfile(old):
        return Update(upstream, (), None)
    with open(old, encoding="utf-8") as file:
        text = file.read()
    parse_lock(old, text)  # a lock that is damaged is said to be
    before = json.loads(text)
    locked = make_lock(request, plan, store)
    return Update(upstream, tuple(_differences(before, locked.data)), locked)


class _Question(NamedTuple):
    """`place` may hold a password."""

    kind: str
    name: str
    current: str
    place: str
    file: str
    ask: Callable[[], str]


def _upstream(plan: LockPlan, store: Store, output: Callable[[bytes], None]) -> Iterator[Upstream]:
    questions = {(one.kind, one.name, one.file): one for one in _questions(plan, store, output)}
    with ThreadPoolExecutor(AT_ONCE) as threads:
        yield from threads.map(_answer, questions.values())


def _answer(question: _Question) -> Upstream:
    known, place = question[:3], without_password(question.place)
    try:
        return Upstream(*known, question.ask(), place, question.file)
    except BoxwrightError as error:
        return Upstream(*known, "", place, question.file, error.message)


def _questions(plan: LockPlan, store: Store, output: Callable[[bytes], None]) -> Iterator[_Question]:
    apt = Packages(store).cache("apt")
    for position, node in enumerate(plan.graph.nodes):
        if isinstance(node.step, BuildPackage):
            resolved = plan.packages.resolved(position) if plan.packages else None
            if resolved is not None:
                yield from _of_package(resolved, plan.outside, apt, output)
        elif isinstance(node.step, Base) and node.step.source == "debian-package":
            name, _, version = node.step.name.partition("=")
            yield _Question(
                "debian-package", name, version, "the distribution", "", _ask_debian(name, apt, output, source=False)
            )


def _of_package(resolved: Resolved, outside: Outside, apt: str, output: Callable[[bytes], None]) -> Iterator[_Question]:
    step = resolved.step
    name = definition_name(step).removesuffix(f"-{step.version}")
    own = Watch(*resolved.watch)
    if own.pattern:
        kind = "git" if own.git else "url"
        ask = _ask_watch(own, step.version, outside)
        yield _Question(kind, name, step.version, own.git or own.url, resolved.path, ask)
    for source in step.sources:
        kind, _, place = (source.origins or ("",))[0].partition(":")
        if kind == "debian":
            package, _, version = place.partition("=")
            ask = _ask_debian(package, apt, output, source=True)
            yield _Question("debian-source", package, version, "the distribution", resolved.path, ask)
        elif own.pattern or source.kind == "patch":
            continue
        elif kind == "git":
            watch = Watch(git=place, pattern=r"\D*{version}")
            yield _Question("git", name, step.version, place, resolved.path, _ask_watch(watch, step.version, outside))
        elif kind in ("http", "https"):
            found = watch_for(f"{kind}:{place}", step.version)
            if found is not None:
                ask = _ask_watch(found, step.version, outside)
                yield _Question("url", name, step.version, found.git or found.url, resolved.path, ask)


def _ask_watch(watch: Watch, current: str, outside: Outside) -> Callable[[], str]:
    def ask() -> str:
        from boxwright.sources.git import tags

        outside.require(redacted(watch.url or watch.git))
        found = listed_versions(watch, outside.timeout, tags)
        finished = [version for version in found if is_finished(version) or not is_finished(current)]
        return max((*finished, current), key=cmp_to_key(compare_versions))

    return ask


def _ask_debian(name: str, apt: str, output: Callable[[bytes], None], *, source: bool) -> Callable[[], str]:
    def ask() -> str:
        from boxwright.sources.debian import find_binary, find_source

        return find_source(name, "", apt, output)[0].version if source else find_binary(name, "", apt, output).version

    return ask


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Moved]:
    for section in sorted({*before, *after} - {"format", "platform"}):
        old, new = before.get(section, {}), after.get(section, {})
        for name in sorted({*old, *new}):
            left, right = old.get(name, ""), new.get(name, "")
            if left == right:
                continue
            if section in ("bases", "images"):
                yield from _base_differences(section, name, left or {}, right or {})
            else:
                yield Moved(section, name, _text(left), _text(right))


def _base_differences(section: str, name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Moved]:
    if old.get("content") != new.get("content"):
        yield Moved(section, name, old.get("content", ""), new.get("content", ""))
    versions = [{(item[0], item[2]): item[1] for item in side.get("packages", ())} for side in (old, new)]
    for package in sorted({*versions[0], *versions[1]}):
        left, right = (side.get(package, "") for side in versions)
        if left != right:
            yield Moved(section, f"{name} {package[0]}", left, right)


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
