"""What the NAME of a FROM can mean, from its spelling alone."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import NamedTuple

from boxwright.errors import DefinitionError

BASES = ("debian", "ubuntu", "alpine")
TRANSPORTS = ("oci", "oci-archive", "docker-archive", "tar", "registry", "bootstrap")
_SUITE = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")
_PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._:~=/<>@-]*")
_PLAIN = re.compile(r"[A-Za-z0-9/.~][^\x00-\x1f\x7f\[\]]*")
_TAR = re.compile(r"\.(tar|tgz|txz|tar\.(gz|xz|zst|bz2))$")
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9-]+)*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?")
_TAG = re.compile(r"[\w][\w.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_DEFAULT_REGISTRY = "docker.io"
_LOOPBACK = re.compile(r"(localhost|127\.\d+\.\d+\.\d+|\[::1\])(:\d+)?$")


class BaseName(NamedTuple):
    """A distribution's base: ``debian:bookworm/system``.

    A configured one may say more: a mirror, further packages, mmdebstrap's variant (empty: minbase), and a keyring
    (of Alpine: a directory of keys) instead of the distribution's own. As text these follow as ``?mirror=...&...``.
    """

    distribution: str
    suite: str
    system: bool = False
    mirror: str = ""
    packages: tuple[str, ...] = ()
    variant: str = ""
    keyring: str = ""

    def __str__(self) -> str:
        name = f"{self.distribution}:{self.suite}" + "/system" * self.system
        more = [("mirror", self.mirror), ("packages", ",".join(self.packages)), ("variant", self.variant)]
        given = [(key, value) for key, value in (*more, ("keyring", self.keyring)) if value]
        if not given:
            return name
        from urllib.parse import quote, urlencode

        return f"{name}?{urlencode(given, safe=':/,+', quote_via=quote)}"


class RegistryName(NamedTuple):
    """A registry's image, spelt out as Docker does (distribution/reference). `digest` has the last word."""

    registry: str
    repository: str
    tag: str
    digest: str = ""

    @property
    def on_loopback(self) -> bool:
        """Whether plain HTTP is taken, as Docker does there."""
        return _LOOPBACK.match(self.registry) is not None

    def __str__(self) -> str:
        return f"{self.registry}/{self.repository}" + (f"@{self.digest}" if self.digest else f":{self.tag}")


class Meaning(NamedTuple):
    """`source` as `model.step.Base` has it, or ``scratch``, or ``context``; `name` is what is asked for there."""

    source: str
    name: str


def parse_base_name(name: str) -> BaseName:
    """Take ``DISTRIBUTION:SUITE[/system][?...]`` apart; numbers and tags of releases become suites."""
    from boxwright.sources.releases import canonical_suite

    distribution, _, rest = name.partition(":")
    rest, _, query = rest.partition("?")
    suite, slash, flavour = rest.partition("/")
    more = _parse_query(query) if query else {}
    if not _SUITE.fullmatch(suite) or (slash and flavour != "system") or more is None:
        raise DefinitionError(
            "base.bad-name", f"{name!r} names no base", hint="DISTRIBUTION:SUITE or DISTRIBUTION:SUITE/system"
        )
    packages = tuple(filter(None, more.pop("packages", "").split(",")))
    _check_words(name, packages, more)
    return BaseName(distribution, canonical_suite(distribution, suite), system=bool(slash), packages=packages, **more)


def _check_words(name: str, packages: tuple[str, ...], more: Mapping[str, str]) -> None:
    """What becomes words of mmdebstrap and apt is no option there, and no further line of a list of sources."""
    bad = [word for word in packages if not _PACKAGE.fullmatch(word)]
    bad += [word for key, word in more.items() if not _PLAIN.fullmatch(word) or (key != "keyring" and " " in word)]
    if bad:
        raise DefinitionError("base.bad-name", f"{name!r} names no base: {bad[0]!r} can't be")


def _parse_query(query: str) -> dict[str, str] | None:
    from urllib.parse import parse_qsl

    found = dict(parse_qsl(query.replace("+", "%2B")))  # of packages such as g++
    return found if found.keys() <= {"mirror", "packages", "variant", "keyring"} else None


def parse_registry_name(name: str) -> RegistryName:
    """Spell out a registry reference: a first component with a dot, a colon or ``localhost`` is the registry."""
    rest, _, digest = name.partition("@")
    first, slash, tail = rest.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        registry, path = first, tail
    else:
        registry, path = _DEFAULT_REGISTRY, rest
    repository, colon, tag = path.partition(":")
    if registry == f"index.{_DEFAULT_REGISTRY}":
        registry = _DEFAULT_REGISTRY
    if registry == _DEFAULT_REGISTRY and "/" not in repository:
        repository = f"library/{repository}"
    wrong = not _HOST.fullmatch(registry) or not _PATH.fullmatch(repository) or len(repository) > 255
    if wrong or (colon and not _TAG.fullmatch(tag)) or ("@" in name and not _DIGEST.fullmatch(digest)):
        raise DefinitionError(
            "registry.bad-name",
            f"{name!r} is no image's name",
            hint="[REGISTRY/]REPOSITORY[:TAG][@sha256:DIGEST], the repository in lower case",
        )
    return RegistryName(registry, repository, tag or "latest", digest)


def classify(
    name: str,
    *,
    contexts: Collection[str] = (),
    tags: Mapping[str, str] | None = None,
    bases: Mapping[str, str] | None = None,
) -> Meaning:
    """What `name` means: scratch, a build context, a local tag, a configured base, a file, or a registry's image.

    `tags` are the local tags and their images' identities; `bases` are configured names and what they stand for
    (``debian:SUITE``, ``ubuntu:SUITE`` and ``alpine:VERSION`` are known without).
    """
    if name == "scratch":
        return Meaning("scratch", "")
    if name in contexts:
        return Meaning("context", name)
    local = tags or {}
    for spelling in (name, f"{name}:latest"):
        if spelling in local:
            return Meaning("image", local[spelling])
    return _spelt(_configured(name, bases or {}))


def _configured(name: str, bases: Mapping[str, str]) -> str:
    """What a configured name stands for, be it through others."""
    seen = [name]
    while seen[-1] in bases and bases[seen[-1]] != seen[-1]:
        seen.append(bases[seen[-1]])
        if seen[-1] in seen[:-1]:
            raise DefinitionError("base.cycle", f"configured bases stand for each other: {' -> '.join(seen)}")
    return seen[-1]


def _spelt(name: str) -> Meaning:
    transport, colon, rest = name.partition(":")
    if colon and rest and transport in TRANSPORTS and not _is_tag(name, transport, rest):
        return Meaning(transport, str(parse_base_name(rest)) if transport == "bootstrap" else rest)
    if _TAR.search(name) and ("/" in name or ":" not in name):
        return Meaning("tar", name)
    if transport in BASES and _SUITE.fullmatch(rest.removesuffix("/system")) and "@" not in rest:
        return Meaning("bootstrap", str(parse_base_name(name)))
    if name.startswith(("/", "./", "../")):
        raise DefinitionError(
            "base.bad-name", f"{name!r} is a path, but of what?", hint="say oci:DIRECTORY, oci-archive:FILE or tar:FILE"
        )
    return Meaning("registry", str(parse_registry_name(name)))


def _is_tag(name: str, transport: str, rest: str) -> bool:  # noqa: ARG001 - said by name where it is called
    """An image that is called `registry` or so, with a plain version: ``registry:2``."""
    return transport == "registry" and re.fullmatch(r"[0-9][\w.-]*|latest", rest) is not None
