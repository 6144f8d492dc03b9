"""DBASE: checked here, built by a later version."""

from __future__ import annotations

import re

from boxwright.frontends.recipe.problem import nearest, not_yet, wrong
from boxwright.frontends.recipe.state import StageState
from boxwright.frontends.recipe.syntax import Instruction

KINDS = ("mysql", "postgresql")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_VERSION = re.compile(r"\d+(?:\.\d+)*")


def dbase(state: StageState, instruction: Instruction) -> None:
    """``DBASE mysql|postgresql [VERSION] [AS NAME] [embedded]``. Always raises DefinitionError."""
    where = instruction.span
    form = "DBASE mysql|postgresql [VERSION] [AS NAME] [embedded]"
    words = state.expand_words(instruction.rest, where)
    kind = words.pop(0) if words else ""
    if kind not in KINDS:
        raise wrong(f"DBASE knows no {kind!r}", where, hint=nearest(kind, KINDS) or form)
    if words and _VERSION.fullmatch(words[0]):
        words.pop(0)
    if words and words[0].lower() == "as":
        if len(words) < 2 or _NAME.fullmatch(words[1]) is None:
            raise wrong("DBASE: a name of letters, digits and '_' follows AS", where, hint=form)
        del words[:2]
    if words and words[0].lower() == "embedded":
        words.pop(0)
    if words:
        raise wrong(f"DBASE: {words[0]!r} is not understood", where, hint=form)
    raise not_yet("DBASE", where)
