"""Rules on capitals."""

from __future__ import annotations

from collections.abc import Iterator

from boxwright.frontends.recipe.checks.facts import Facts
from boxwright.frontends.recipe.checks.finding import Found


def stage_name(facts: Facts) -> Iterator[Found]:
    """Names of stages in small letters."""
    for stage in facts.stages:
        if stage.written_name != stage.name:
            yield Found(stage.start.span, f"stage name '{stage.written_name}' has capitals", f"AS {stage.name}")


def from_as(facts: Facts) -> Iterator[Found]:
    """FROM and AS alike."""
    for stage in facts.stages:
        written, word = _written(stage.start.text), stage.written_as
        if word and (written.isupper(), written.islower()) != (word.isupper(), word.islower()):
            yield Found(stage.start.span, f"'{word}' and '{written}' are written differently", "FROM ... AS ...")


def instruction(facts: Facts) -> Iterator[Found]:
    """Keywords all in capitals, or all in small letters."""
    words = [(_written(item.text), item.span) for item in facts.recipe.instructions]
    capitals = sum(word.isupper() for word, _ in words)
    wants_capitals = capitals >= sum(word.islower() for word, _ in words)
    for word, span in words:
        wanted = word.upper() if wants_capitals else word.lower()
        if word == wanted:
            continue
        if word.isupper() or word.islower():
            yield Found(span, f"'{word}' is not written as most keywords here are", wanted)
        else:
            yield Found(span, f"'{word}' mixes capitals and small letters", wanted)


def expose_protocol(facts: Facts) -> Iterator[Found]:
    """Protocols of EXPOSE in small letters."""
    for item in facts.recipe.instructions:
        if item.keyword == "EXPOSE":
            for word in item.rest.split():
                protocol = word.partition("/")[2]
                if protocol != protocol.lower() and "$" not in protocol:
                    yield Found(item.span, f"the protocol of '{word}' has capitals", f"EXPOSE {word.lower()}")


def _written(text: str) -> str:
    return text.split(maxsplit=1)[0] if text.strip() else ""
