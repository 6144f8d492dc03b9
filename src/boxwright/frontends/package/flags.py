"""Use flags: what is switched on, whether that can be, and what it changes."""

from __future__ import annotations

import re
from typing import NamedTuple

from boxwright.frontends.package.convert import key_place, part_of, place_of
from boxwright.frontends.package.document import Mapping, Place, is_nothing
from boxwright.frontends.package.merge import no_reason
from boxwright.frontends.package.problem import nearest, wrong
from boxwright.frontends.package.schema import Changes, Effect, Flag, Patch, PhaseArguments, Use

ON = frozenset({"true", "yes", "on"})


class Additions(NamedTuple):
    """What the flags add to a definition. `options` are all flags with their values, sorted by name."""

    options: tuple[tuple[str, str], ...]
    arguments: dict[str, tuple[str, ...]]
    build_depends: tuple[str, ...]
    depends: tuple[str, ...]
    environment: dict[str, str]
    patches: dict[str, str | Patch]
    files: dict[str, str]


def apply_flags(definition: Changes, document: Mapping) -> Additions:
    """The effects of every flag. Raises `package.unknown-flag`, `package.flag-value`, `package.flag-conflict`."""
    use = definition.use
    _check_names(use, document)
    _check_patches(use, document)
    options = {name: _setting(name, flag, use, document) for name, flag in sorted(use.flags.items())}
    for name, flag in use.flags.items():
        if options[name] != "off":
            _check_relations(name, flag, options, key_place(document, "use", "flags", name))
    arguments: dict[str, list[str]] = {}
    found = Additions(tuple(options.items()), {}, (), (), {}, {}, {})
    for name, value in options.items():
        flag = use.flags[name]
        effect = flag.without if value == "off" else flag.with_
        for phase, words in phase_arguments(effect.arguments).items():
            arguments.setdefault(phase, []).extend(word.replace("{value}", value) for word in words)
        found = _with(found, effect, value)
    return found._replace(arguments={phase: tuple(words) for phase, words in arguments.items()})


def _with(found: Additions, effect: Effect, value: str) -> Additions:
    environment = {name: text.replace("{value}", value) for name, text in effect.environment.items()}
    return found._replace(
        build_depends=found.build_depends + effect.build_depends,
        depends=found.depends + effect.depends,
        environment={**found.environment, **environment},
        patches={**found.patches, **effect.patches},
        files={**found.files, **effect.files},
    )


def phase_arguments(given: PhaseArguments | tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Arguments by phase; a plain list is that of `configure`."""
    if isinstance(given, tuple):
        return {"configure": given} if given else {}
    phases = ("prepare", "configure", "build", "check", "install")
    return {phase: words for phase in phases if (words := getattr(given, phase))}


def _check_names(use: Use, document: Mapping) -> None:
    for key, names in (("with", use.with_), ("without", use.without), ("set", tuple(use.set))):
        for number, name in enumerate(names):
            place = key_place(document, "use", "set", name) if key == "set" else place_of(document, "use", key, number)
            flag = use.flags.get(name)
            if flag is None:
                hint = nearest(name, use.flags) or "this definition declares no flags"
                raise wrong("unknown-flag", f"there is no flag {name!r}", place.span, hint=hint)
            if key == "with" and flag.type != "flag":
                hint = f"set it: use: {{set: {{{name}: VALUE}}}}"
                raise wrong("flag-value", f"{name} is an option with a value ({flag.type})", place.span, hint=hint)
            if key == "set" and flag.type == "flag":
                hint = "name it in `with` or `without`"
                raise wrong("flag-value", f"{name} is on or off and takes no value", place.span, hint=hint)
            if key == "without" and name in use.with_:
                raise wrong("flag-conflict", f"{name} stands in `with` and in `without`", place.span)


def _check_patches(use: Use, document: Mapping) -> None:
    """Flags add patches; they take none away."""
    for name in use.flags:
        for side in ("with", "without"):
            patches = part_of(document, "use", "flags", name, side, "patches")
            if not isinstance(patches, Mapping):
                continue
            for key, value in patches.items.items():
                if is_nothing(value):
                    raise no_reason(key, patches)


def _setting(name: str, flag: Flag, use: Use, document: Mapping) -> str:
    place = key_place(document, "use", "flags", name)
    if name in use.without:
        return "off"
    if flag.type == "flag":
        if flag.default.lower() not in {*ON, "", "false", "no", "off"}:
            raise wrong("flag-value", f"the default of {name} is on or off, not {flag.default!r}", place.span)
        return "on" if name in use.with_ or flag.default.lower() in ON else "off"
    if name not in use.set:
        return _checked(name, flag, flag.default, place) if flag.default else "off"
    return _checked(name, flag, use.set[name], place_of(document, "use", "set", name))


def _checked(name: str, flag: Flag, value: str, place: Place) -> str:
    if flag.type == "choice" and value not in flag.values:
        raise wrong("flag-value", f"{value!r} is no value of {name}", place.span, hint=nearest(value, flag.values))
    if flag.type == "int":
        if not re.fullmatch(r"-?[0-9]{1,18}", value):
            raise wrong("flag-value", f"{name} is a whole number, not {value!r}", place.span)
        low, high = flag.minimum, flag.maximum
        if (low is not None and int(value) < low) or (high is not None and int(value) > high):
            raise wrong("flag-value", f"{name} is {value}, which is not between {low} and {high}", place.span)
        return str(int(value))
    if flag.pattern and not _matches(name, flag.pattern, value, place):
        raise wrong("flag-value", f"{name}: {value!r} does not match {flag.pattern}", place.span)
    return value


def _matches(name: str, pattern: str, value: str, place: Place) -> bool:
    try:
        return re.fullmatch(pattern, value) is not None
    except (re.error, RecursionError, OverflowError) as error:
        raise wrong("flag-value", f"{name}: {pattern!r} is no regular expression: {error}", place.span) from error


def _check_relations(name: str, flag: Flag, options: dict[str, str], place: Place) -> None:
    for other in (*flag.requires, *flag.conflicts):
        if other not in options:
            hint = nearest(other, options)
            raise wrong("unknown-flag", f"{name} speaks of a flag {other!r} that is not there", place.span, hint=hint)
    for other in flag.requires:
        if options[other] == "off":
            hint = f"switch {other} on, or {name} off"
            raise wrong("flag-conflict", f"{name} needs the flag {other}", place.span, hint=hint)
    for other in flag.conflicts:
        if options[other] != "off":
            hint = f"switch one of them off: use: {{without: [{other}]}}"
            raise wrong("flag-conflict", f"{name} and {other} can't both be on", place.span, hint=hint)
