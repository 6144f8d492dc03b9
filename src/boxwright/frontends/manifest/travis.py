"""A ``.travis.yml`` as a manifest (docs.travis-ci.com/user/customizing-the-build, "The Job Lifecycle").

There the commands of a job share one machine and run in bash, one after the other: so all of `script` is one branch.
"""

from __future__ import annotations

import itertools
import os
import posixpath
import re
import shlex
import string
from collections.abc import Callable

from boxwright.frontends.manifest.problem import wrong
from boxwright.frontends.manifest.wanted import LanguageDefault, ManifestWorld
from boxwright.frontends.package.document import Mapping, Place, Scalar, Sequence, Value, is_nothing
from boxwright.frontends.package.problem import nearest

VERSIONS = {
    "python": "python",
    "node_js": "node_js",
    "php": "php",
    "ruby": "rvm",
    "go": "go",
    "rust": "rust",
    "java": "jdk",
}
"""The key that holds a language's versions."""

COMPILERS = {"gcc": "CC=gcc CXX=g++", "clang": "CC=clang CXX=clang++"}
"""What `compiler` of C and C++ sets."""

NEWEST = ("stable", "latest", "default", "node", "lts", "lts/*")
"""Versions that mean the usual one."""

LANGUAGES = {"node_js": "node", "cpp": "c", **dict.fromkeys(("shell", "bash", "minimal", "sh"), "generic")}
TAKEN = (
    *("language", "before_install", "install", "before_script", "script"),
    *("env", "matrix", "jobs", "services", "addons", "compiler"),
)
MEANINGLESS = (
    *("os", "dist", "sudo", "cache", "notifications", "branches", "git", "arch", "osx_image", "group", "version"),
    *("after_success", "after_failure", "after_script", "before_deploy", "deploy", "after_deploy", "before_cache"),
    *("if", "stages", "virt", "import", "conditions", "filter_secrets", "vm"),
)


PHASES = ("before_install", "install", "before_script", "script")
SUDO = re.compile(r"(^|[\s;&|(])sudo\s")


def is_travis(file: str) -> bool:
    """Whether a manifest's name says that it is one of Travis CI's."""
    return os.path.basename(file) in (".travis.yml", ".travis.yaml")


def manifest_of(travis: Mapping, world: ManifestWorld, note: Callable[[str], None]) -> Mapping:
    """The same as a manifest. `world` knows the languages, and which files lie beside it.

    `note` is told what has no meaning here. Raises `manifest.unknown-key`.
    """
    known = {*TAKEN, *MEANINGLESS, *VERSIONS.values()}
    for key in travis.items:
        if key not in known:
            raise wrong("unknown-key", f"there is no key {key!r}", travis.keys[key].span, hint=nearest(key, known))
        if key in MEANINGLESS:
            note(f"{travis.keys[key].span}: {key!r} has no meaning here")
    return _Reading(travis, world, note).manifest()


class _Reading:
    def __init__(self, travis: Mapping, world: ManifestWorld, note: Callable[[str], None]) -> None:
        self._travis = travis
        self._note = note
        self._world = world
        self._place = travis.place
        language = travis.items.get("language")
        self._language = language.text if isinstance(language, Scalar) else "ruby"
        self._name = LANGUAGES.get(self._language, self._language)
        self._spec = world.language(self._name)
        self._items: dict[str, Value] = {}

    def manifest(self) -> Mapping:
        entries, common = self._entries()
        language: dict[str, Value] = {"name": self._scalar(self._name)}
        if entries[0]["version"]:
            language["version"] = self._scalar(entries[0]["version"])
        self._items["language"] = self._mapping(language)
        if len(entries) > 1:
            self._matrix(entries)
        env = {"CI": "true", "TRAVIS": "true", "TRAVIS_BUILD_DIR": "/srv/app", **common}
        if len(entries) == 1:
            env |= _variables(entries[0]["env"])
        self._items["env"] = self._mapping({key: self._scalar(value) for key, value in env.items()})
        self._items["shell"] = self._sequence([self._scalar("/bin/bash"), self._scalar("-c")])
        self._items["source"] = self._scalar("/srv/app")
        before = [*self._packages(entries), *self._commands("before_install")]
        if "install" in self._travis.items or before:
            own = self._spec.install if self._spec else ()
            self._items["install"] = self._sequence([*before, *self._commands("install", own)])
        before = self._commands("before_script")
        if "script" in self._travis.items or before:
            own = self._spec.script if self._spec else ()
            script = [*before, *self._commands("script", own)]
            task: dict[str, Value] = {"name": self._scalar("script"), "run": self._sequence(script)}
            self._items["script"] = self._sequence([self._mapping(task)])
        if "services" in self._travis.items:
            services = self._travis.items["services"]
            self._items["services"] = services if isinstance(services, Sequence) else self._sequence([services])
        keys = {key: self._travis.keys.get(key, self._place) for key in self._items}
        return Mapping(self._items, self._place, keys)

    def _entries(self) -> tuple[list[dict[str, str]], dict[str, str]]:
        """What jobs there are (a version and variables each), and the variables that all of them have."""
        versions = self._versions(self._travis) or [""]
        lines, common = self._env()
        lines = [" ".join(filter(None, pair)) for pair in itertools.product(self._compilers(), lines or [""])]
        expanded = [{"version": v, "env": e} for v, e in itertools.product(versions, lines)]
        for key in ("matrix", "jobs"):
            value = self._travis.items.get(key)
            if isinstance(value, Mapping) and isinstance(included := value.items.get("include"), Sequence):
                # One job of the top alone says what those that are listed have in common, and is none itself.
                jobs = [self._job(item, expanded[0]) for item in included.items if isinstance(item, Mapping)]
                expanded = jobs if len(expanded) == 1 and jobs else [*expanded, *jobs]
        return expanded, common

    def _job(self, item: Mapping, first: dict[str, str]) -> dict[str, str]:
        for key in item.items:
            if key not in ("env", "compiler", VERSIONS.get(self._language)):
                self._note(f"{item.keys[key].span}: {key!r} of a job has no meaning here")
        env = item.items.get("env")
        compiler = "".join(_texts(item.items.get("compiler"))[:1])
        texts = [COMPILERS.get(compiler, ""), *_texts(env)]
        version = "".join(self._versions(item)[:1])
        return {"version": version or first["version"], "env": " ".join(filter(None, texts)) or first["env"]}

    def _versions(self, item: Mapping) -> list[str]:
        """As images are named: ``lts/*`` is the usual one, ``1.19.x`` is 1.19, ``openjdk17`` is 17."""
        usual = next(iter(self._spec.images), "") if self._spec else ""
        found = []
        for text in _texts(item.items.get(VERSIONS.get(self._language, ""))):
            number = text.lstrip(string.ascii_letters) if self._language == "java" else text.lower().removesuffix(".x")
            found.append(usual if text in NEWEST else number)
        return list(dict.fromkeys(found))

    def _compilers(self) -> list[str]:
        given = _texts(self._travis.items.get("compiler"))
        return [COMPILERS.get(name, f"CC={name}") for name in given] or [""]

    def _env(self) -> tuple[list[str], dict[str, str]]:
        value = self._travis.items.get("env")
        if isinstance(value, Mapping) and ("global" in value.items or "jobs" in value.items or "matrix" in value.items):
            common: dict[str, str] = {}
            for line in _texts(value.items.get("global")):
                common |= _variables(line)
            return _texts(value.items.get("jobs")) or _texts(value.items.get("matrix")), common
        if isinstance(value, Mapping):
            return [], {key: it.text for key, it in value.items.items() if isinstance(it, Scalar)}
        return _texts(value), {}

    def _matrix(self, entries: list[dict[str, str]]) -> None:
        rows: list[Value] = []
        for entry in entries:
            row = {key: text for key, text in entry.items() if text}
            rows.append(self._mapping({key: self._scalar(text) for key, text in row.items()}))
        self._items["matrix"] = self._sequence(rows)

    def _packages(self, entries: list[dict[str, str]]) -> list[Value]:
        addons = self._travis.items.get("addons")
        apt = addons.items.get("apt") if isinstance(addons, Mapping) else None
        if isinstance(apt, Mapping):
            apt = apt.items.get("packages")
        names = _texts(apt)
        if any("CC=clang" in entry["env"] for entry in entries):
            names.append("clang")
        if any(SUDO.search(text) for key in PHASES for text in _texts(self._travis.items.get(key))):
            names.append("sudo")  # commands run as root here, and say it all the same
        return [self._mapping({"apt": self._sequence([self._scalar(name) for name in names])})] if names else []

    def _commands(self, key: str, defaults: tuple[LanguageDefault, ...] = ()) -> list[Value]:
        value = self._travis.items.get(key)
        if value is None:
            directory = posixpath.dirname(self._place.span.file)
            there = (it for it in defaults if self._world.kind(posixpath.join(directory, it.needs)))
            return [self._scalar(it.run) for it in itertools.islice(there, 1)]
        if is_nothing(value) or (isinstance(value, Scalar) and value.text in ("true", "skip", "false")):
            return []
        return list(value.items) if isinstance(value, Sequence) else [value]

    def _scalar(self, text: str) -> Scalar:
        return Scalar(text, self._place)

    def _sequence(self, items: list[Value]) -> Sequence:
        return Sequence(tuple(items), items[0].place if items else self._place)

    def _mapping(self, items: dict[str, Value]) -> Mapping:
        place: Place = next(iter(items.values())).place if items else self._place
        return Mapping(items, place, dict.fromkeys(items, place))


def chosen(document: Mapping, choice: object) -> Mapping:
    """The manifest of a ``.travis.yml`` for one of its jobs."""
    if not isinstance(choice, dict) or not choice:
        return document
    items = dict(document.items)
    language, env = items.get("language"), items.get("env")
    if "version" in choice and isinstance(language, Mapping):
        version = Scalar(choice["version"], language.place)
        keys = {**language.keys, "version": language.place}
        items["language"] = Mapping({**language.items, "version": version}, language.place, keys)
    if "env" in choice and isinstance(env, Mapping):
        added = {key: Scalar(text, env.place) for key, text in _variables(choice["env"]).items()}
        items["env"] = Mapping({**env.items, **added}, env.place, {**env.keys, **dict.fromkeys(added, env.place)})
    return Mapping(items, document.place, document.keys)


def _variables(line: str) -> dict[str, str]:
    """``A=1 B="two words"``, as a shell would read it."""
    try:
        words = shlex.split(line)
    except ValueError:
        words = line.split()
    return {name: value for name, equals, value in (word.partition("=") for word in words) if equals}


def _texts(value: Value | None) -> list[str]:
    if isinstance(value, Scalar):
        return [value.text] if value.text else []
    if isinstance(value, Sequence):
        return [text for item in value.items for text in _texts(item)]
    return []
