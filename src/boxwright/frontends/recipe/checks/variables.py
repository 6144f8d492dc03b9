"""Rules on variables and what they hold."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from difflib import get_close_matches

from boxwright.errors import DefinitionError
from boxwright.frontends.recipe.checks.facts import Facts, StageFacts, arg_names, pair_names
from boxwright.frontends.recipe.checks.finding import Found
from boxwright.frontends.recipe.keywords import flag_value
from boxwright.frontends.recipe.options import RecipeOptions
from boxwright.frontends.recipe.predefined import PLATFORM, PROXIES
from boxwright.frontends.recipe.scope import global_scope
from boxwright.frontends.recipe.words import expand

AUTOMATIC = frozenset(f"{side}{part}" for side in ("TARGET", "BUILD") for part in PLATFORM)
EXPANDED = frozenset(
    {"ADD", "COPY", "ENV", "EXPOSE", "LABEL", "PORT", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR", "ARG"}
)
_WORDS = "apikey|auth|credentials?|key|password|passwd|pword|secret|token"
_SECRET = re.compile(rf"(?:^|_)(?:{_WORDS})(?:_|$)", re.IGNORECASE)
_PUBLIC = re.compile(r"(?:^|_)public(?:_|$)", re.IGNORECASE)
_REFERENCE = re.compile(r"\$(?:\{([A-Za-z_]\w*)([^}])?|([A-Za-z_]\w*))", re.ASCII)
_BAD_BASE = re.compile(r"(?:.*[:@/]|[:@/].*|.*//.*|)")


def references(text: str, escape: str) -> Iterator[str]:
    """The variables in a text that have no default."""
    position = 0
    quoted = ""
    while position < len(text):
        char = text[position]
        if char == escape and quoted != "'":
            position += 1
        elif char in "'\"" and quoted in {"", char}:
            quoted = "" if quoted else char
        elif char == "$" and quoted != "'" and (match := _REFERENCE.match(text, position)):
            if match[3] or not match[2] or match[2] in "#%/":
                yield match[1] or match[3]
            position = match.end(1) if match[1] else match.end()
            continue
        position += 1


def undefined_in_from(facts: Facts) -> Iterator[Found]:
    """FROM sees the ARGs before the first FROM only."""
    known = facts.declared_globally | AUTOMATIC
    for stage in facts.stages:
        texts = (stage.written_base, flag_value(stage.start.flags, "platform") or "")
        for text in texts:
            for name in references(text, facts.recipe.escape):
                if name not in known:
                    message = f"FROM uses '{name}', which no ARG before the first FROM declares"
                    hint = _near(name, known) or f"ARG {name}=... before the first FROM"
                    yield Found(stage.start.span, message, hint, is_error=text is texts[0] and not stage.base)


def invalid_default(facts: Facts) -> Iterator[Found]:
    """FROM must be right with the ARGs' defaults alone."""
    args = [item for item in facts.before if item.keyword == "ARG"]
    try:
        values = global_scope(args, RecipeOptions(), facts.recipe.escape).globals
    except DefinitionError:
        return
    for stage in facts.stages:
        used = set(references(stage.written_base, facts.recipe.escape))
        if not used or not used <= facts.declared_globally | AUTOMATIC:
            continue
        try:
            base = expand(stage.written_base, values, stage.start.span, facts.recipe.escape)
        except DefinitionError:
            base = ""
        if _BAD_BASE.fullmatch(base):
            message = f"with its defaults {stage.written_base} is '{base}', which is no base"
            yield Found(stage.start.span, message, f"give {', '.join(sorted(used))} a default")


def undefined(facts: Facts) -> Iterator[Found]:
    """Variables that nothing defines."""
    known_after: dict[int, set[str]] = {}
    for stage in facts.stages:
        names, open_ended = _names_at_start(facts, stage, known_after)
        for item in stage.instructions:
            if item.keyword in EXPANDED:
                text = item.rest if item.keyword not in {"COPY", "ADD"} else f"{item.rest} {_flag_text(item.flags)}"
                for name in dict.fromkeys(references(text, facts.recipe.escape)):
                    near = "" if name in names else _near(name, names)
                    if name not in names and (near or not open_ended):
                        hint = near or f"ARG {name} or ENV {name}=... above it"
                        yield Found(item.span, f"nothing defines the variable '{name}'", hint)
            if item.keyword == "ARG":
                names.update(arg_names(item, facts))
            elif item.keyword == "ENV":
                names.update(pair_names(item, facts))
        known_after[stage.number] = names


def _flag_text(flags: Collection[tuple[str, str | None]]) -> str:
    return " ".join(value for name, value in flags if value and name != "from")


def _names_at_start(facts: Facts, stage: StageFacts, known: dict[int, set[str]]) -> tuple[set[str], bool]:
    """The names that a stage begins with, and whether its base may have more."""
    outside = stage.ancestors()[-1].base
    base = facts.base_names(outside) if outside else None
    names = set(known.get(stage.parent.number, ())) if stage.parent is not None else {"PATH", *PROXIES, *(base or ())}
    return names, base is None


def _near(name: str, known: Collection[str]) -> str:
    close = get_close_matches(name, [other for other in known if other not in PROXIES], n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else ""


def secrets(facts: Facts) -> Iterator[Found]:
    """Secrets don't belong into ARG and ENV, which stay in the image or its history."""
    for item in facts.recipe.instructions:
        if item.keyword in {"ARG", "ENV"}:
            names = arg_names(item, facts) if item.keyword == "ARG" else pair_names(item, facts)
            for name in names:
                if _SECRET.search(name) and not _PUBLIC.search(name):
                    message = f"{item.keyword} '{name}' looks like a secret, and stays in the image or its history"
                    yield Found(item.span, message, "RUN --mount=type=secret gives it to one step alone")
