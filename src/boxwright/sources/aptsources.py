"""What this machine's own apt configuration says of where a distribution comes from (sources.list(5), both forms)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_POCKETS = ("", "-updates", "-security")
_ROLLING = frozenset({"sid", "unstable", "experimental", "testing"})
_OPTION = re.compile(r"\[([^\]]*)\]")


@dataclass(frozen=True, slots=True)
class AptSource:
    """One place: a URI, a suite there, its components, and who signs it (empty: not said)."""

    uri: str
    suite: str
    components: tuple[str, ...]
    signed_by: str = ""


def read_sources(directory: Path) -> tuple[AptSource, ...]:
    """The sources of ``/etc/apt``: sources.list and the parts, in apt's order."""
    found: list[AptSource] = []
    parts = directory / "sources.list.d"
    files = [directory / "sources.list", *(sorted(parts.iterdir()) if parts.is_dir() else ())]
    for path in files:
        if not path.is_file() or path.suffix not in (".list", ".sources"):
            continue
        text = path.read_text("utf-8", "replace")
        found += parse_deb822(text) if path.suffix == ".sources" else parse_one_line(text)
    return tuple(found)


def parse_one_line(text: str) -> Iterator[AptSource]:
    """``deb [options] uri suite components``."""
    for written in text.splitlines():
        line = written.partition("#")[0].strip()
        if not re.match(r"deb\s", line):
            continue
        option = _OPTION.search(line)
        words = _OPTION.sub(" ", line, count=1).split()
        signed = [word[10:] for word in (option[1].split() if option else ()) if word.lower().startswith("signed-by=")]
        if len(words) >= 3:
            yield AptSource(words[1].rstrip("/"), words[2], tuple(words[3:]), signed[0] if signed else "")


def parse_deb822(text: str) -> Iterator[AptSource]:
    """Stanzas of fields; a line that begins with a blank continues the field above."""
    plain = "\n".join([line for line in text.splitlines() if not line.startswith("#")])
    for stanza in re.split(r"\n\s*\n", plain):
        fields = {
            name.lower(): " ".join(value.split())
            for name, _, value in (part.partition(":") for part in re.split(r"\n(?=\S)", stanza.strip()))
        }
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() in ("no", "false"):
            continue
        components = tuple(fields.get("components", "").split())
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                yield AptSource(uri.rstrip("/"), suite, components, fields.get("signed-by", ""))


def sources_for(
    configured: Iterable[AptSource], codename: str, suite: str, keyring: str, own_keyrings: str
) -> tuple[AptSource, ...]:
    """The places for `suite` of the machine's own distribution, whose release here is `codename`.

    A foreign archive says who signs it: what names another key than `own_keyrings` begin with is left out. Updates and
    security follow the suite; those that never were (of sid) are left out. All are checked with `keyring`.
    """
    wanted: dict[AptSource, None] = {}
    for source in configured:
        pocket = next((pocket for pocket in _POCKETS if source.suite == codename + pocket), None)
        foreign = source.signed_by and not source.signed_by.startswith(own_keyrings)
        if pocket is None or foreign or "main" not in source.components:
            continue
        if pocket and suite in _ROLLING:
            continue
        wanted[AptSource(source.uri, suite + pocket, source.components, keyring)] = None
    return tuple(wanted)


def one_line(source: AptSource) -> str:
    """As sources.list has it."""
    return f"deb [signed-by={source.signed_by}] {source.uri} {source.suite} {' '.join(source.components)}"
