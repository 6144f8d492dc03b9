"""Definitions on the disk: package trees, what lies beside a definition, and what is pinned."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cmp_to_key
from typing import TYPE_CHECKING

from boxwright.app.outside import ANYWHERE, Outside
from boxwright.app.platforms import machine_platform
from boxwright.errors import BoxwrightError, DefinitionError, FetchError
from boxwright.frontends.package.wanted import Found
from boxwright.model.giturl import redacted, without_password
from boxwright.model.span import Span
from boxwright.store.packages import Packages

if TYPE_CHECKING:
    from boxwright.frontends.package.document import Mapping as Document
    from boxwright.sources.pool import PoolFile

FILE = "pkg.yaml"
TREE = "packages"
TREES_VARIABLE = "BOXWRIGHT_PACKAGES"
IMAGE = "\0image "
"""What is looked at beside paths: the image of a platform and a name."""
BOOTSTRAPPED = ("debian", "ubuntu")
_EARLY = re.compile(
    r"[._~-]?(?<![A-Za-z])(?P<word>(?:alpha|beta|dev|nightly|pre|preview|rc|snapshot)(?![A-Za-z])|(?<=[0-9])[ab](?=[0-9]))",
    re.IGNORECASE,
)
"""What upstream writes into versions that come before a release."""


def package_trees(near: str, environment: Mapping[str, str]) -> tuple[str, ...]:
    """The package trees, the nearest first: ``packages/`` above the definition and above the working directory.

    Then those of ``BOXWRIGHT_PACKAGES`` (separated by colons), and this program's own.
    """
    found: dict[str, None] = {}
    for start in (near, os.getcwd()):
        place = os.path.abspath(start)
        while True:
            if os.path.basename(place) == TREE:
                found[place] = None
            if os.path.isdir(f"{place}/{TREE}"):
                found[f"{place}/{TREE}"] = None
            parent = os.path.dirname(place)
            if parent == place:
                break
            place = parent
    for place in filter(None, environment.get(TREES_VARIABLE, "").split(":")):
        found[os.path.abspath(place)] = None
    own = os.path.abspath(f"{__file__}/../../../../{TREE}")
    if os.path.isdir(own):
        found[own] = None
    return tuple(found)


class DefinitionFiles:
    """What definitions ask. `used` are the pins that counted; while `locking`, what has no checksum is given one."""

    def __init__(
        self,
        packages: Packages,
        trees: tuple[str, ...],
        pins: Mapping[str, str],
        *,
        epoch: int | None,
        locked: bool,
        output: Callable[[bytes], None],
        outside: Outside = ANYWHERE,
        platform: str = "",
    ) -> None:
        self._platform = platform or machine_platform()
        self._outside = outside
        self._packages = packages
        self.trees = trees
        self._pins = pins
        self._epoch = epoch
        self._locked = locked
        self._output = output
        self._documents: dict[str, Document] = {}
        self._found: dict[tuple[str, str], tuple[Found, tuple[str, ...]]] = {}
        self._stamps: dict[str, str] = {}
        self._noted: dict[str, str] = {}
        self.used: dict[str, str] = {}
        self.locking = False
        self.pull = False

    def document(self, path: str) -> Document:
        """The document in a file."""
        known = self._documents.get(path)
        if known is None:
            from boxwright.app.definitions import read_definition
            from boxwright.frontends.package.document import parse_document
            from boxwright.frontends.package.merge import anchored

            self.note(path)
            known = anchored(parse_document(read_definition(path), path), os.path.dirname(path))
            self._documents[path] = known
        else:
            self.note(path)
        return known

    @contextmanager
    def noting(self) -> Iterator[dict[str, str]]:
        """Gather the paths that are looked at, each with what it looks like."""
        outer, self._noted = self._noted, {}
        try:
            yield self._noted
        finally:
            outer.update(self._noted)
            self._noted = outer

    def watch(self, into: dict[str, str]) -> None:
        """Note in `into` every path that is looked at from now on."""
        self._noted = into

    def look(self, path: str) -> str:
        """What a path looks like, as of the first time in this run."""
        found = self._stamps.get(path)
        if found is None:
            found = self._stamps[path] = self._image(path) if path.startswith(IMAGE) else stamp(path)
        return found

    def _image(self, question: str) -> str:
        """The exact name of an image that is a toolchain, as of now."""
        from boxwright.app.toolchainimages import exact_image

        platform, _, base = question.removeprefix(IMAGE).partition(" ")
        return exact_image(self._packages.store, base, platform, pull=self.pull)

    def note(self, path: str) -> str:
        """Remember that an answer depends on what a path looks like."""
        found = self._noted[path] = self.look(path)
        return found

    def category(self, path: str) -> str:
        """The category of a definition in a package tree."""
        for tree in self.trees:
            if path.startswith(f"{tree}/"):
                parts = path[len(tree) + 1 :].split("/")
                return parts[0] if len(parts) > 2 else ""
        return ""

    def find(self, reference: str, near: str, where: Span | None) -> Found:
        """The definition that a reference names."""
        key = (reference, near if reference.startswith(".") else "")
        known = self._found.get(key)
        if known is None:
            with self.noting() as noted:
                if reference.startswith((".", "/")):
                    path = os.path.normpath(os.path.join(os.path.dirname(near), reference))
                    found = self._at_path(path, reference, where)
                else:
                    found = self._in_trees(reference, where)
            known = self._found[key] = (found, tuple(noted))
        for path in known[1]:
            self.note(path)
        return known[0]

    def _at_path(self, path: str, reference: str, where: Span | None) -> Found:
        for candidate in (f"{path}/{FILE}", path):
            self.note(candidate)
            if os.path.isfile(candidate):
                return Found(candidate)
        raise DefinitionError("package.not-found", f"there is no definition at {reference}", where=where)

    def _in_trees(self, reference: str, where: Span | None) -> Found:
        if reference.count("/") != 1 or not re.fullmatch(r"[A-Za-z0-9+._~/-]+", reference):
            hint = "CATEGORY/NAME or CATEGORY/NAME-VERSION of a package tree, or a path that begins with ./"
            raise DefinitionError("package.not-found", f"{reference!r} names no package", hint=hint, where=where)
        others: dict[str, str] = {}
        for tree in self.trees:
            for directory, version in _splits(reference):
                path = f"{tree}/{directory}/{FILE}"
                if not self.note(path):
                    continue
                known = self._versions(path) if version else ()
                if known is None or not version or version in known:
                    return Found(path, version)
                if version[0].isdecimal():
                    others.update({f"{directory}-{one}": path for one in known})
            newest = self._newest(tree, reference)
            if newest is not None:
                return newest
        if others:
            from boxwright.frontends.package.problem import nearest, wrong

            where = where or Span(next(iter(others.values())), 1)
            raise wrong("unknown-version", f"no package tree has {reference}", where, hint=nearest(reference, others))
        raise DefinitionError(
            "package.not-found", f"there is no package {reference}", hint=self._hint(reference), where=where
        )

    def _versions(self, path: str) -> tuple[str, ...] | None:
        """The versions that a definition has, with what its bases say; None where they go round in a circle."""
        from boxwright.frontends.package.convert import convert, place_of
        from boxwright.frontends.package.schema import Definition

        own = ""
        versions: dict[str, None] = {}
        seen: set[str] = set()
        here = Found(path)
        while here.path not in seen:
            seen.add(here.path)
            document = self.document(here.path)
            definition = convert(document, Definition)
            own = own or here.version or definition.version
            versions.update(dict.fromkeys(definition.versions))
            if not definition.base:
                return (*([own] if own else ()), *versions)
            here = self.find(definition.base, here.path, place_of(document, "base").span)
        return None

    def _newest(self, tree: str, reference: str) -> Found | None:
        """Of directories NAME-VERSION the one with the highest version."""
        category, _, name = reference.partition("/")
        self.note(f"{tree}/{category}")
        if not os.path.isdir(f"{tree}/{category}"):
            return None
        versions = [
            entry[len(name) + 1 :]
            for entry in os.listdir(f"{tree}/{category}")
            if re.match(rf"{re.escape(name)}-\d", entry) and os.path.isfile(f"{tree}/{category}/{entry}/{FILE}")
        ]
        if not versions:
            return None
        newest = max(versions, key=cmp_to_key(compare_versions))
        return Found(f"{tree}/{category}/{name}-{newest}/{FILE}")

    def _hint(self, reference: str) -> str:
        from boxwright.frontends.package.problem import nearest

        names = [name for tree in self.trees for name in tree_packages(tree)]
        if not names:
            return f"there is no package tree: make a directory {TREE}/, or name one in {TREES_VARIABLE}"
        return nearest(reference, names)

    def local(self, path: str, where: Span | None) -> tuple[str, bool]:
        """A local file's or directory's content, and whether it runs."""
        from boxwright.sources.localtree import digest_local

        self._require_beside(path, where)
        if not (os.path.isfile(path) or os.path.isdir(path)):
            raise DefinitionError("package.no-file", f"there is no file {path}", where=where)
        for parent, directories, files in os.walk(path) if os.path.isdir(path) else ():
            directories[:] = [name for name in directories if name != ".git"]
            for name in (*directories, *(name for name in files if name != ".git")):
                self.note(f"{parent}/{name}")
        self.note(path)
        return f"sha256:{digest_local(path)}", bool(os.stat(path).st_mode & 0o100)

    def _require_beside(self, path: str, where: Span | None) -> None:
        """A definition names files below its own directory, in a package tree also those of the tree."""
        file = os.path.abspath(where.file) if where else ""
        places = [os.path.dirname(file), *(tree for tree in self.trees if file.startswith(f"{tree}/"))]
        real = os.path.realpath(path)
        if not any(f"{real}/".startswith(f"{os.path.realpath(place).rstrip('/')}/") for place in places if place):
            raise DefinitionError(
                "package.outside",
                f"{path} is not below the definition's directory",
                hint="put the file beside the definition",
                where=where,
            )

    def is_directory(self, path: str) -> bool:
        """Whether a local source is a directory."""
        return os.path.isdir(path)

    def checksum(self, urls: tuple[str, ...], where: Span | None, line: str) -> str:
        """The pinned SHA-256 of a URL; without one the line to add is in the error."""
        name = f"url {without_password(urls[0])}"
        pinned = self._pins.get(name)
        if pinned is not None:
            self.used[name] = pinned
            return pinned
        if self._locked:
            raise _unpinned(name.removeprefix("url "), where)
        try:
            found = self.fetch_checksum(urls)
        except FetchError as error:
            error.where = error.where or where
            if self.locking:
                raise
            raise _no_checksum(urls[0], line, "64 DIGITS", where, f" ({error.message})") from error
        if self.locking:
            self.used[name] = found
            return found
        raise _no_checksum(urls[0], line, found, where)

    def fetch_checksum(self, urls: tuple[str, ...]) -> str:
        """What a URL's content is today; it is kept."""
        from boxwright.sources.fetch import SCHEMES, download

        failure: BoxwrightError | None = None
        self._outside.require(redacted(urls[0]))
        for url in urls:
            if url.startswith(SCHEMES):
                with self._packages.adding() as part:
                    try:
                        digest = download(url, part, self._outside.timeout)
                    except BoxwrightError as error:
                        failure = failure or error
                        continue
                    self._packages.add(part, f"sha256:{digest}")
                    return digest
        raise failure or FetchError("source.fetch", f"{redacted(urls[0])} can't be fetched")

    def debian_files(self, package: str, version: str, sha256: str, where: Span | None) -> tuple[tuple[str, str], ...]:
        """The files of a source package: pinned, remembered, or as the archive lists them now."""
        import json

        name = f"debian-source {package}={version}"
        text = self._pins.get(name) or self._packages.pin(_known_as(name))
        if text is None:
            text = self._ask_archive(name, where)
        self.used[name] = text
        files = tuple((file, digest) for file, digest in json.loads(text))
        if sha256 and files[0][1] != f"sha256:{sha256}":
            raise DefinitionError(
                "source.checksum", f"{files[0][0]} has sha256 {files[0][1][7:]}, not {sha256}", where=where
            )
        return files

    def debian_package(self, package: str, where: Span | None) -> str:
        """The digest of a binary package's file: pinned, remembered, or as the archive lists it now.

        A lock is of one platform; what is remembered is so with its architecture.
        """
        name = f"debian-package {package}"
        content = self._pins.get(name) or self._packages.pin(_known_as(name, self._platform))
        if content is None:
            content = self._ask_archive(name, where)
        self.used[name] = content
        return content

    def _ask_archive(self, name: str, where: Span | None) -> str:
        """What the distribution's signed lists say of a package's version; no package is fetched."""
        import json

        from boxwright.sources.debian import debian_architecture, find_binary, find_source

        if self._locked:
            raise _unpinned(name, where)
        kind, _, package = name.partition(" ")
        called, _, version = package.partition("=")
        apt, known_as = self._packages.cache("apt"), _known_as(name)
        try:
            self._outside.require(package)
            if kind == "debian-package":
                known_as = _known_as(name, self._platform)
                own = self._platform == machine_platform()
                architecture = "" if own else debian_architecture(self._platform)
                apt = f"{apt}-{architecture}" if architecture else apt
                files: tuple[PoolFile, ...] = (find_binary(called, version, apt, self._output, architecture),)
                value = f"sha256:{files[0].sha256}"
            else:
                files = find_source(called, version, apt, self._output)
                value = json.dumps([[os.path.basename(file.path), f"sha256:{file.sha256}"] for file in files])
        except BoxwrightError as error:
            error.where = error.where or where
            raise
        for file in files:
            self._packages.keep_pin(f"pool sha256:{file.sha256}", file.path)
        self._packages.keep_pin(known_as, value)
        return value

    def toolchain(self, base: str, packages: tuple[str, ...], platform: str, where: Span | None) -> tuple[str, str]:
        """The exact name of a toolchain, and its pinned content or nothing. Files are beside the definition."""
        exact = base = _beside(base, where)
        if base.startswith("tar:"):
            from boxwright.store.filedigests import file_digest

            path = base.removeprefix("tar:")
            self.note(path)
            try:
                exact = f"tar:{path}@{file_digest(self._packages.store.index, path)}"
            except OSError as error:
                raise DefinitionError("base.not-found", f"{path}: {error.strerror}", where=where) from error
        elif base.split(":", maxsplit=1)[0] not in BOOTSTRAPPED:
            exact = self._exact_image(base, platform, where)
        from boxwright.app.locks import lock_name

        name = " ".join((exact, *packages))
        pin = f"base {lock_name(name)}"
        pinned = self._pins.get(pin, "")
        if not pinned and self._locked:
            raise _unpinned(f"base {lock_name(name).partition(' ')[0]}", where)
        self.used[pin] = pinned
        return name, pinned

    def _exact_image(self, base: str, platform: str, where: Span | None) -> str:
        if self._locked or self.locking:
            from boxwright.app.toolchainimages import IMAGE as PREFIX
            from boxwright.app.toolchainimages import pinned_image

            pinned = pinned_image(base, self._pins)
            if self._locked or (pinned and pinned.startswith(f"{PREFIX}registry:")):
                return pinned or base
        try:
            return self.note(f"{IMAGE}{platform} {base}")
        except BoxwrightError as error:
            error.where = where
            raise

    def epoch(self) -> int | None:
        """SOURCE_DATE_EPOCH where the user gave it."""
        return self._epoch


def _known_as(name: str, platform: str = "") -> str:
    """Under which name the store remembers what the distribution's archive says of a package's version."""
    from boxwright.app.poolfiles import own_distribution

    return " ".join(filter(None, (name, own_distribution(), platform)))


def _beside(base: str, where: Span | None) -> str:
    """A toolchain's base; where it is a file or a directory, with its path from the definition that names it."""
    kind, _, path = base.partition(":")
    if kind not in ("tar", "oci", "oci-archive", "docker-archive") or not path:
        return base
    return f"{kind}:{os.path.abspath(os.path.join(os.path.dirname(where.file) if where else '', path))}"


def _no_checksum(url: str, line: str, sha256: str, where: Span | None, why: str = "") -> DefinitionError:
    """The error for a URL without a checksum; `why` says that it isn't known what is there."""
    return DefinitionError(
        "package.no-checksum",
        f"{redacted(url)} has no sha256{why}",
        hint=f"add the line `{redacted(line.replace('{}', sha256))}`, or run `boxwright lock`",
        where=where,
    )


def _unpinned(name: str, where: Span | None) -> DefinitionError:
    from boxwright.app.locks import unpinned

    return unpinned(name, where)


def stamp(path: str) -> str:
    """What a path looks like: empty where there is nothing."""
    try:
        status = os.stat(path)
    except OSError:
        return ""
    return f"{status.st_mtime_ns} {status.st_ctime_ns} {status.st_size} {status.st_ino} {status.st_mode}"


def _splits(reference: str) -> Iterator[tuple[str, str]]:
    """The directories that a reference may mean, each with the version that it then asks for."""
    yield reference, ""
    category, _, name = reference.partition("/")
    for found in reversed(list(re.finditer("-", name))):
        yield f"{category}/{name[: found.start()]}", name[found.end() :]


def tree_packages(tree: str) -> list[str]:
    """The packages of a tree, as CATEGORY/NAME."""
    return sorted(
        f"{category}/{name}"
        for category in (os.listdir(tree) if os.path.isdir(tree) else ())
        if os.path.isdir(f"{tree}/{category}")
        for name in os.listdir(f"{tree}/{category}")
        if os.path.isfile(f"{tree}/{category}/{name}/{FILE}")
    )


def compare_versions(left: str, right: str) -> int:
    """Order of versions: numbers as numbers, ``~`` before the end, letters before other characters (deb-version(7)).

    Before what upstream calls not yet released (``2.0rc1``, ``2.0-beta2``, ``2.0b2``) ``~`` is taken to stand.
    """
    pairs = (re.findall(r"(\D*)(\d*)", _EARLY.sub(r"~\g<word>", text)) for text in (left, right))
    for (left_text, left_number), (right_text, right_number) in zip(*_padded(*pairs), strict=True):
        if left_text != right_text:
            return -1 if _order(left_text) < _order(right_text) else 1
        difference = int(left_number or 0) - int(right_number or 0)
        if difference:
            return difference
    return 0


def _padded(
    left: list[tuple[str, str]], right: list[tuple[str, str]]
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    length = max(len(left), len(right))
    return left + [("", "")] * (length - len(left)), right + [("", "")] * (length - len(right))


def _order(text: str) -> list[int]:
    return [-1 if char == "~" else ord(char) if char.isalpha() else ord(char) + 256 for char in text] + [0]
