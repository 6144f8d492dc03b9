"""HEALTHCHECK (the reference, HEALTHCHECK)."""

from __future__ import annotations

from boxwright.frontends.recipe.arguments import duration, exec_form
from boxwright.frontends.recipe.keywords import flag_value
from boxwright.frontends.recipe.problem import wrong
from boxwright.frontends.recipe.syntax import Instruction
from boxwright.model.image import Healthcheck

MILLISECOND = 10**6


def healthcheck(instruction: Instruction) -> Healthcheck:
    """The check that an instruction describes."""
    where = instruction.span
    kind, _, command = instruction.rest.partition(" ")
    kind, command = kind.strip().upper(), command.strip()
    if kind == "NONE":
        if command:
            raise wrong("HEALTHCHECK NONE takes nothing else", where)
        return Healthcheck(("NONE",))
    if kind != "CMD":
        raise wrong(f"HEALTHCHECK takes CMD or NONE, not {kind!r}", where, hint="HEALTHCHECK [OPTIONS] CMD COMMAND")
    if not command:
        raise wrong("HEALTHCHECK CMD needs a command", where)
    listed = exec_form(command)
    if listed == ():
        raise wrong("HEALTHCHECK CMD needs a command", where)
    test = ("CMD-SHELL", command) if listed is None else ("CMD", *listed)
    return Healthcheck(
        test,
        interval=_time(instruction, "interval"),
        timeout=_time(instruction, "timeout"),
        start_period=_time(instruction, "start-period"),
        start_interval=_time(instruction, "start-interval"),
        retries=_retries(instruction),
    )


def _time(instruction: Instruction, name: str) -> int:
    text = flag_value(instruction.flags, name)
    value = duration(text, instruction.span) if text else 0
    if 0 < value < MILLISECOND:
        raise wrong(f"--{name} is at least 1ms", instruction.span)
    return value


def _retries(instruction: Instruction) -> int:
    text = flag_value(instruction.flags, "retries")
    if not text:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise wrong(f"--retries={text} is no number", instruction.span)
    return int(text)
