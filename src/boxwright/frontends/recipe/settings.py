"""Instructions that change the image's configuration and nothing else.

What few recipes hold is imported when it is met.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping

from boxwright.frontends.recipe.arguments import exec_form, pairs, words_or_list
from boxwright.frontends.recipe.parser import parse_trigger
from boxwright.frontends.recipe.problem import nearest, wrong
from boxwright.frontends.recipe.scope import declared
from boxwright.frontends.recipe.state import StageState
from boxwright.frontends.recipe.syntax import Instruction

Setting = Callable[[StageState, Instruction], None]

NO_TRIGGERS = frozenset({"ONBUILD", "FROM", "MAINTAINER"})
HIGHEST_SIGNAL = 64
_NAMES = (
    "HUP INT QUIT ILL TRAP ABRT IOT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CLD CONT STOP TSTP TTIN "
    "TTOU URG XCPU XFSZ VTALRM PROF WINCH IO POLL PWR SYS RTMIN RTMAX"
)
SIGNALS = frozenset(_NAMES.split()) | {f"RTMIN+{n}" for n in range(1, 16)} | {f"RTMAX-{n}" for n in range(1, 15)}


def arg(state: StageState, instruction: Instruction) -> None:
    """ARG: in effect from here on, where it has a value; those beside it see it too."""
    for name, value, hidden in declared(instruction, state.variables, state.scope):
        if value is not None:
            state.set_arg(name, value, hidden=hidden)


def env(state: StageState, instruction: Instruction) -> None:
    """ENV: all its values see the environment before it."""
    for name, value in _expanded_pairs(state, instruction):
        state.set_env(name, value)


def label(state: StageState, instruction: Instruction) -> None:
    """LABEL."""
    for name, value in _expanded_pairs(state, instruction):
        state.set_label(name, value)


def _expanded_pairs(state: StageState, instruction: Instruction) -> list[tuple[str, str]]:
    where = instruction.span
    found = pairs(instruction.keyword, instruction.rest, state.scope.escape, where)
    expanded = [(state.expand(name, where), state.expand(value, where)) for name, value in found]
    if not all(name for name, _ in expanded):
        raise wrong(f"{instruction.keyword}: a name is empty", where)
    return expanded


def cmd(state: StageState, instruction: Instruction) -> None:
    """CMD."""
    state.cmd_given = True
    state.config = state.config._replace(cmd=_command(state, instruction), args_escaped=True)


def entrypoint(state: StageState, instruction: Instruction) -> None:
    """ENTRYPOINT: a CMD from the base doesn't fit it and goes."""
    inherited = state.config.cmd if state.cmd_given else None
    state.config = state.config._replace(entrypoint=_command(state, instruction), cmd=inherited)


def _command(state: StageState, instruction: Instruction) -> tuple[str, ...]:
    listed = exec_form(instruction.rest)
    return (*state.shell, instruction.rest) if listed is None else listed


def expose(state: StageState, instruction: Instruction) -> None:
    """EXPOSE."""
    from boxwright.frontends.recipe.ports import exposed

    words = state.expand_words(instruction.rest, instruction.span)
    for word in words:
        state.exposed.update(dict.fromkeys(exposed(word, instruction.span)))


def port(state: StageState, instruction: Instruction) -> None:
    """PORT, our own."""
    from boxwright.frontends.recipe.ports import published

    words = state.expand_words(instruction.rest, instruction.span)
    state.published.update(dict.fromkeys(published(word, instruction.span) for word in words))


def volume(state: StageState, instruction: Instruction) -> None:
    """VOLUME."""
    paths = [state.expand(word, instruction.span) for word in words_or_list(instruction.rest)]
    if not paths or not all(paths):
        raise wrong("VOLUME: a path is empty", instruction.span)
    state.volumes.update(dict.fromkeys(paths))


def user(state: StageState, instruction: Instruction) -> None:
    """USER."""
    state.config = state.config._replace(user=state.expand(instruction.rest, instruction.span))


def workdir(state: StageState, instruction: Instruction) -> None:
    """WORKDIR: a relative path continues the one before."""
    path = posixpath.join(state.directory, state.expand(instruction.rest, instruction.span))
    state.config = state.config._replace(workdir="/" + posixpath.normpath(path).lstrip("/"))


def stop_signal(state: StageState, instruction: Instruction) -> None:
    """STOPSIGNAL: a number or a name, with or without SIG."""
    signal = state.expand(instruction.rest, instruction.span)
    name = signal.upper().removeprefix("SIG")
    is_number = signal.isascii() and signal.isdigit() and len(signal) < 4 and 0 < int(signal) <= HIGHEST_SIGNAL
    if not is_number and name not in SIGNALS:
        raise wrong(f"{signal!r} is no signal", instruction.span, hint=nearest(name, SIGNALS))
    state.config = state.config._replace(stop_signal=signal)


def health(state: StageState, instruction: Instruction) -> None:
    """HEALTHCHECK."""
    from boxwright.frontends.recipe.healthcheck import healthcheck

    state.config = state.config._replace(healthcheck=healthcheck(instruction))


def shell(state: StageState, instruction: Instruction) -> None:
    """SHELL, in exec form only."""
    listed = exec_form(instruction.rest)
    if not listed:
        raise wrong("SHELL takes a JSON array", instruction.span, hint='SHELL ["/bin/bash", "-c"]')
    state.config = state.config._replace(shell=listed)


def onbuild(state: StageState, instruction: Instruction) -> None:
    """ONBUILD: kept as text, with the documents that belong to it."""
    documents = "".join(f"\n{item.text}{item.name}" for item in instruction.heredocs)
    trigger = parse_trigger(instruction.rest + documents, instruction.span, state.scope.escape)
    if trigger.keyword in NO_TRIGGERS:
        raise wrong(f"ONBUILD can't hold {trigger.keyword}", instruction.span)
    state.onbuild = (*state.onbuild, instruction.rest + documents)


def maintainer(state: StageState, instruction: Instruction) -> None:
    """MAINTAINER."""
    state.config = state.config._replace(author=instruction.rest)


SETTINGS: Mapping[str, Setting] = {
    "ARG": arg,
    "CMD": cmd,
    "ENTRYPOINT": entrypoint,
    "ENV": env,
    "EXPOSE": expose,
    "HEALTHCHECK": health,
    "LABEL": label,
    "MAINTAINER": maintainer,
    "ONBUILD": onbuild,
    "PORT": port,
    "SHELL": shell,
    "STOPSIGNAL": stop_signal,
    "USER": user,
    "VOLUME": volume,
    "WORKDIR": workdir,
}
