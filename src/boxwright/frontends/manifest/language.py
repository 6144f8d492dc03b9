"""Languages: what they stand for, from languages.toml and the configuration."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from boxwright.frontends.manifest.wanted import ANY, LanguageDefault, LanguageSpec


class DefaultTask(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A default command."""

    run: str
    needs: str = ""
    reads: tuple[str, ...] = ()


class LanguageEntry(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A language. A configuration may give `image` alone, for any version."""

    image: str = ""
    images: dict[str, str] = {}
    prepare: tuple[str, ...] = ()
    env: dict[str, str] = {}
    install: tuple[DefaultTask, ...] = ()
    script: tuple[DefaultTask, ...] = ()


@cache
def own_languages() -> Mapping[str, LanguageEntry]:
    """Those that come with the program."""
    text = Path(__file__).with_name("languages.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), dict[str, LanguageEntry])


def all_languages(configured: Mapping[str, Any]) -> Mapping[str, LanguageEntry]:
    """With those of the configuration: what it says of a language takes the place of what is said here."""
    found = dict(own_languages())
    for name, given in configured.items():
        below = found.get(name)
        base = msgspec.structs.asdict(below) if below is not None else {}
        if "image" in given:
            base["images"] = {}
        found[name] = LanguageEntry(**{**base, **given})
    return found


def language_spec(entry: LanguageEntry) -> LanguageSpec:
    """As the frontend wants it."""
    images = entry.images or {ANY: entry.image}
    install, script = (
        tuple(LanguageDefault(it.run, it.needs, it.reads) for it in tasks) for tasks in (entry.install, entry.script)
    )
    return LanguageSpec(images, entry.prepare, tuple(entry.env.items()), install, script)
