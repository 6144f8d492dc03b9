"""The instructions that there are, and the flags that each takes (the reference, "Overview")."""

from __future__ import annotations

from boxwright.errors import DefinitionError
from boxwright.frontends.recipe.problem import nearest, not_yet, wrong
from boxwright.frontends.recipe.syntax import Flag
from boxwright.model.span import Span

_COPY = frozenset({"chown", "chmod", "link", "exclude"})

FLAGS: dict[str, frozenset[str]] = {
    "ADD": _COPY | {"checksum", "keep-git-dir", "unpack"},
    "ARG": frozenset(),
    "CMD": frozenset(),
    "COPY": _COPY | {"from", "parents"},
    "ENTRYPOINT": frozenset(),
    "ENV": frozenset(),
    "EXPOSE": frozenset(),
    "FROM": frozenset({"platform"}),
    "HEALTHCHECK": frozenset({"interval", "timeout", "start-period", "start-interval", "retries"}),
    "LABEL": frozenset(),
    "MAINTAINER": frozenset(),
    "ONBUILD": frozenset(),
    "RUN": frozenset({"mount", "network", "security", "device"}),
    "SHELL": frozenset(),
    "STOPSIGNAL": frozenset(),
    "USER": frozenset(),
    "VOLUME": frozenset(),
    "WORKDIR": frozenset(),
    "DBASE": frozenset(),
    "PORT": frozenset(),
}

OWN = frozenset({"DBASE", "PORT"})
"""Keywords of our own, which a Dockerfile doesn't have."""

LONGEST_SHOWN = 40
REPEATED = frozenset({"mount", "exclude", "device"})
BOOLEAN = frozenset({"link", "parents", "keep-git-dir", "unpack"})
BOOLEANS = {"true": True, "1": True, "t": True, "false": False, "0": False, "f": False}


def check_keyword(keyword: str, where: Span, *, own: bool) -> None:
    """Raise DefinitionError `recipe.unknown-instruction` for what is no keyword here."""
    if keyword in OWN and not own:
        raise DefinitionError(
            "recipe.unknown-instruction",
            f"{keyword} is an instruction of recipes only",
            hint="name the file Recipe or NAME.recipe, or begin it with '# syntax=boxwright'",
            where=where,
        )
    if keyword not in FLAGS:
        keyword = keyword[:LONGEST_SHOWN]
        hint = nearest(keyword, [name for name in FLAGS if own or name not in OWN])
        raise DefinitionError(
            "recipe.unknown-instruction", f"there is no instruction {keyword}", hint=hint, where=where
        )


def check_flags(keyword: str, flags: tuple[Flag, ...], where: Span) -> None:
    """Raise DefinitionError for a flag that `keyword` doesn't take, or that stands twice."""
    seen: set[str] = set()
    for flag in flags:
        if flag.name not in FLAGS[keyword]:
            hint = nearest(flag.name, FLAGS[keyword])
            code = "recipe.unknown-flag"
            raise DefinitionError(code, f"{keyword} takes no --{flag.name}", hint=hint, where=where)
        if flag.name in seen and flag.name not in REPEATED:
            raise wrong(f"--{flag.name} stands twice", where)
        if flag.name == "device":
            raise not_yet("RUN --device", where)
        if flag.name in BOOLEAN:
            if flag.value is not None and flag.value.lower() not in BOOLEANS:
                raise wrong(f"--{flag.name} is true or false, not {flag.value!r}", where)
        elif flag.value is None:
            raise wrong(f"--{flag.name} needs a value", where, hint=f"--{flag.name}=VALUE")
        seen.add(flag.name)


def flag_value(flags: tuple[Flag, ...], name: str) -> str | None:
    """The value of a flag that stands at most once."""
    return next((flag.value for flag in flags if flag.name == name), None)


def flag_values(flags: tuple[Flag, ...], name: str) -> tuple[str, ...]:
    """The values of a flag that may be repeated, in order."""
    return tuple(flag.value for flag in flags if flag.name == name and flag.value is not None)


def flag_is_set(flags: tuple[Flag, ...], name: str, *, default: bool = False) -> bool:
    """Whether a flag that is true or false is true."""
    found = next((flag for flag in flags if flag.name == name), None)
    if found is None:
        return default
    return True if found.value is None else BOOLEANS[found.value.lower()]
