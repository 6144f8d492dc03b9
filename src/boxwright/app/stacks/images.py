"""The images of a stack: what must be built, in which order, and what they then are."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from boxwright.app.databases import dump_path
from boxwright.app.definitions import find_definition, read_definition
from boxwright.app.lookup import find_image
from boxwright.app.recipes import own_recipe
from boxwright.deploy.desired import BALANCER, ImageFacts, ServerFacts
from boxwright.deploy.naming import RESOLVER
from boxwright.errors import BoxwrightError
from boxwright.frontends.recipe.dbase import PROGRAM, SERVERS, image_name, server_of
from boxwright.model.image import Database
from boxwright.model.stack import Stack, StackContainer, StackDatabase
from boxwright.store.store import Store

DATA = "/var/lib/dbase"
KEPT = "boxwright/stack/"
"""Before the names by which the images of releases stay in the store."""

EMPTY = "{empty}"
"""In the words of a build: an empty directory."""

_FROM = re.compile(r"(?im)^\s*(?:from|image:|--from=)\s*['\"]?([^\s'\"]+)")


class ImageBuild(NamedTuple):
    """One call of `boxwright build`: its words, and a recipe's text on standard input where there is one.

    `after` are the tags of others that it starts from; `containers` those that want it; `more` other names of the same.
    """

    tag: str
    words: tuple[str, ...]
    containers: tuple[str, ...]
    text: str = ""
    after: tuple[str, ...] = ()
    more: tuple[str, ...] = ()

    @property
    def tags(self) -> tuple[str, ...]:
        """All names."""
        return (self.tag, *self.more)


def image_tag(stack: Stack, container: StackContainer) -> str:
    """What a container's image is called in the store."""
    if container.database is not None:
        return image_name(Database("DB", container.database.kind, container.database.version))
    if container.bundle is not None:
        return f"base/{container.bundle.base}:latest"
    name = container.image if container.build is not None and container.image else f"{stack.name}/{container.name}"
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def planned_builds(stack: Stack, *, balanced: bool) -> tuple[ImageBuild, ...]:
    """Every build, each tag once, those that others start from first."""
    found: dict[str, ImageBuild] = {}
    texts: dict[str, str] = {}
    first: dict[str, str] = {}
    for container in stack.containers:
        own = image_tag(stack, container)
        # Of several that take one image as it is, the first one's build names the others too.
        tag = first.setdefault(container.image, own) if container.build is None and container.image else own
        known = found.get(tag)
        if known is not None:
            more = known.more if own in known.tags else (*known.more, own)
            found[tag] = known._replace(containers=(*known.containers, container.name), more=more)
            continue
        found[tag] = ImageBuild(tag, *_words(container))
        texts[tag] = found[tag].text if container.build is None else _text(container)
    if balanced:
        found[BALANCER_TAG] = balancer_build()
    if stack.resolver:
        file = own_recipe("unbound")[1]
        found[RESOLVER_TAG] = ImageBuild(RESOLVER_TAG, (os.path.dirname(file),), (RESOLVER,))
    for tag, text in texts.items():
        named = {name if ":" in name.rpartition("/")[2] else f"{name}:latest" for name in _FROM.findall(text)}
        found[tag] = found[tag]._replace(after=tuple(sorted(named & (set(found) - {tag}))))
    return tuple(found.values())


BALANCER_TAG = "boxwright/haproxy:latest"
RESOLVER_TAG = "boxwright/unbound:latest"


def _words(container: StackContainer) -> tuple[tuple[str, ...], tuple[str, ...], str]:
    """What `build` is told, for whom, and the text of a recipe."""
    names = (container.name,)
    if container.database is not None:
        server, suite = server_of(Database("DB", container.database.kind, container.database.version))
        file = own_recipe(server.recipe)[1]
        return (os.path.dirname(file), "--build-arg", f"SUITE={suite}"), names, ""
    if container.bundle is not None:
        return (os.path.dirname(own_recipe("base")[1]), "--target", container.bundle.base), names, ""
    if container.build is None:
        return (EMPTY, "-f", "-"), names, f"FROM {container.image}\n"
    build = container.build
    words = [build.context]
    if build.file:
        words += ["-f", build.file]
    if build.target:
        words += ["--target", build.target]
    for name, value in build.args:
        words += ["--build-arg", f"{name}={value}"]
    return tuple(words), names, ""


def _text(container: StackContainer) -> str:
    """The definition of a container, to see which images it starts from; empty where it can't be read yet."""
    assert container.build is not None  # noqa: S101  for the type checker
    try:
        file = find_definition(container.build.context, container.build.file or None)
        return read_definition(file)
    except BoxwrightError:
        return ""


def in_waves(builds: Sequence[ImageBuild]) -> tuple[tuple[ImageBuild, ...], ...]:
    """Builds that can be done at the same time, in order. Raises BoxwrightError `deploy.build-cycle`."""
    left = list(builds)
    done: set[str] = set()
    waves: list[tuple[ImageBuild, ...]] = []
    while left:
        ready = tuple(it for it in left if done.issuperset(it.after))
        if not ready:
            names = ", ".join(it.tag for it in left)
            raise BoxwrightError("deploy.build-cycle", f"these images start from each other: {names}")
        waves.append(ready)
        done.update(it.tag for it in ready)
        left = [it for it in left if it not in ready]
    return tuple(waves)


def image_facts(stack: Stack, store: Store, *, balanced: bool) -> dict[str, ImageFacts]:
    """What each container's image is, now that it is built."""
    found = {it.name: _facts(store, image_tag(stack, it)) for it in stack.containers}
    if balanced:
        found[BALANCER] = balancer_facts(store)
    if stack.resolver:
        found[RESOLVER] = _facts(store, RESOLVER_TAG)
    return found


def balancer_facts(store: Store) -> ImageFacts:
    """The load balancer's, which is built."""
    return _facts(store, BALANCER_TAG)


def balancer_build() -> ImageBuild:
    """Of the load balancer's image."""
    file = own_recipe("haproxy")[1]
    return ImageBuild(BALANCER_TAG, (os.path.dirname(file),), (BALANCER,))


def _facts(store: Store, tag: str) -> ImageFacts:
    image = find_image(store, tag)
    return ImageFacts(image.identity, tag, image.config)


def with_databases(stack: Stack, images: Mapping[str, ImageFacts], store: Store) -> tuple[Stack, dict[str, str]]:
    """The stack with a server for each DBASE of an image; and for those servers where their first content lies."""
    containers: list[StackContainer] = []
    dumps: dict[str, str] = {}
    for container in stack.containers:
        facts = images[container.name]
        links = list(container.links)
        for database in facts.config.databases:
            if database.embedded:
                continue
            name = f"{container.name}-{database.name.lower().replace('_', '-')}"
            server = StackDatabase(database.kind, database.version)
            networks = container.networks
            containers.append(StackContainer(name, container.where, database=server, networks=networks))
            links.append((name, database.name.lower()))
            if database.dump:
                dumps[name] = dump_path(store, database)
        after = container.after + tuple((name, "healthy") for name, _ in links[len(container.links) :])
        containers.append(container._replace(links=tuple(links), after=after))
    return stack._replace(containers=tuple(containers)), dumps


def server_facts(stack: Stack, dumps: Mapping[str, str], password: Callable[[str], str]) -> dict[str, ServerFacts]:
    """The database servers of a stack. `dumps` are digests by container; `password` names the secret of a server."""
    return {
        it.name: ServerFacts(
            it.database.kind,
            DATA,
            PROGRAM,
            SERVERS[it.database.kind].port,
            password(it.name),
            dumps.get(it.name, ""),
        )
        for it in stack.containers
        if it.database is not None
    }


def bundle_environment(container: StackContainer) -> tuple[tuple[str, str], ...]:
    """What a base container is told of its bundle."""
    if container.bundle is None:
        return ()
    checked = (("PACKAGE_ZIP_SHA256", container.bundle.sha256),) if container.bundle.sha256 else ()
    return (("PACKAGE_ZIP_URL", container.bundle.url), *checked)


def wants_balancer(stack: Stack, replicas: Mapping[str, int]) -> bool:
    """Whether a load balancer's image is needed: one is declared, or replicas share a port of the host."""
    shared = any(
        replicas.get(it.name, it.replicas) > 1 and any(p.port.host and p.port.protocol == "tcp" for p in it.ports)
        for it in stack.containers
    )
    return bool(stack.balancers) or shared


def kept_tags(stack: str, images: Iterable[ImageFacts]) -> tuple[tuple[str, str], ...]:
    """Names under which the images of a release stay in the store, so that it can be gone back to."""
    return tuple((f"{KEPT}{stack}:{it.identity.removeprefix('sha256:')[:12]}", it.identity) for it in images)
