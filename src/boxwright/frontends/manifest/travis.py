"""A ``.travis.yml`` as a manifest (docs.travis-ci.com/user/customizing-the-build, "The Job Lifecycle").

There the commands of a job share one machine and run in bash, one after the other: so all of `script` is one branch.
"""

from __future__ import annotations

import itertools
import os
import shlex
from collections.abc import Callable

from boxwright.frontends.manifest.problem import wrong
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
    "c": "compiler",
    "cpp": "compiler",
}
"""The key that holds a language's versions."""

LANGUAGES = {"node_js": "node", "cpp": "c", **dict.fromkeys(("shell", "bash", "minimal", "sh"), "generic")}
TAKEN = (
    *("language", "before_install", "install", "before_script", "script"),
    *("env", "matrix", "jobs", "services", "addons"),
)
MEANINGLESS = (
    *("os", "dist", "sudo", "cache", "notifications", "branches", "git", "arch", "osx_image", "group", "version"),
    *("after_success", "after_failure", "after_script", "before_deploy", "deploy", "after_deploy", "before_cache"),
    *("if", "stages", "virt", "import", "conditions", "filter_secrets", "vm"),
)


def is_travis(file: str) -> bool:
    """Whether a manifest's name says that it is one of Travis CI's."""
    return os.path.basename(file) in (".travis.yml", ".travis.yaml")


def manifest_of(travis: Mapping, note: Callable[[str], None]) -> Mapping:
    """The same as a manifest. `note` is told what has no meaning here. Raises `manifest.unknown-key`."""
    known = {*TAKEN, *MEANINGLESS, *VERSIONS.values()}
    for key in travis.items:
        if key not in known:
            raise wrong("unknown-key", f"there is no key {key!r}", travis.keys[key].span, hint=nearest(key, known))
        if key in MEANINGLESS:
            note(f"{travis.keys[key].span}: {key!r} has no meaning here")
    return _Reading(travis).manifest()


class _Reading:
    def __init__(self, travis: Mapping) -> None:
        self._travis = travis
        self._place = travis.place
        language = travis.items.get("language")
        self._language = language.text if isinstance(language, Scalar) else "ruby"
        self._items: dict[str, Value] = {}

    def manifest(self) -> Mapping:
        name = LANGUAGES.get(self._language, self._language)
        entries, common = self._entries()
        language: dict[str, Value] = {"name": self._scalar(name)}
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
        install = [*self._packages(), *self._commands("before_install"), *self._commands("install")]
        if "install" in self._travis.items or install:
            self._items["install"] = self._sequence(install)
        script = [*self._commands("before_script"), *self._commands("script")]
        if script:
            task: dict[str, Value] = {"name": self._scalar("script"), "run": self._sequence(script)}
            self._items["script"] = self._sequence([self._mapping(task)])
        if "services" in self._travis.items:
            services = self._travis.items["services"]
            self._items["services"] = services if isinstance(services, Sequence) else self._sequence([services])
        keys = {key: self._travis.keys.get(key, self._place) for key in self._items}
        return Mapping(self._items, self._place, keys)

    def _entries(self) -> tuple[list[dict[str, str]], dict[str, str]]:
        """What jobs there are (a version and variables each), and the variables that all of them have."""
        versions = _texts(self._travis.items.get(VERSIONS.get(self._language, ""))) or [""]
        lines, common = self._env()
        expanded = [{"version": v, "env": e} for v, e in itertools.product(versions, lines or [""])]
        for key in ("matrix", "jobs"):
            value = self._travis.items.get(key)
            if isinstance(value, Mapping) and isinstance(included := value.items.get("include"), Sequence):
                plain = versions == [""] and not lines
                jobs = [self._job(item) for item in included.items if isinstance(item, Mapping)]
                expanded = jobs if plain and jobs else [*expanded, *jobs]
        return expanded, common

    def _job(self, item: Mapping) -> dict[str, str]:
        key = VERSIONS.get(self._language, "")
        env = item.items.get("env")
        return {"version": "".join(_texts(item.items.get(key))[:1]), "env": " ".join(_texts(env))}

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

    def _packages(self) -> list[Value]:
        addons = self._travis.items.get("addons")
        apt = addons.items.get("apt") if isinstance(addons, Mapping) else None
        if isinstance(apt, Mapping):
            apt = apt.items.get("packages")
        names = _texts(apt)
        return [self._mapping({"apt": self._sequence([self._scalar(name) for name in names])})] if names else []

    def _commands(self, key: str) -> list[Value]:
        value = self._travis.items.get(key)
        if value is None or is_nothing(value):
            return []
        if isinstance(value, Scalar) and value.text in ("true", "skip", "false"):
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
