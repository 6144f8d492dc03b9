"""Rules on stages and their platforms."""

from __future__ import annotations

from collections.abc import Iterator

from boxwright.frontends.recipe.checks.facts import Facts, StageFacts
from boxwright.frontends.recipe.checks.finding import Found
from boxwright.frontends.recipe.keywords import flag_value
from boxwright.frontends.recipe.predefined import split_platform
from boxwright.frontends.recipe.stages import references

RESERVED = frozenset({"scratch", "context"})
TARGET_PLATFORM = frozenset({"$TARGETPLATFORM", "${TARGETPLATFORM}"})


def duplicate_name(facts: Facts) -> Iterator[Found]:
    """A name for one stage."""
    first: dict[str, StageFacts] = {}
    for stage in facts.stages:
        if stage.name and stage.name in first:
            line = first[stage.name].start.span.line
            yield Found(stage.start.span, f"the stage in line {line} is named '{stage.name}' too")
        first.setdefault(stage.name, stage)


def reserved_name(facts: Facts) -> Iterator[Found]:
    """Names that mean something else."""
    for stage in facts.stages:
        if stage.name in RESERVED:
            yield Found(stage.start.span, f"'{stage.written_name}' means something else and can't be referred to")


def unused(facts: Facts) -> Iterator[Found]:
    """Stages that neither the image nor a validation needs."""
    needed: set[int] = set()
    built = [stage for stage in facts.stages if not stage.is_validation] or facts.stages
    waiting = [*built[-1:], *(stage for stage in facts.stages if stage.is_validation)]
    while waiting:
        stage = waiting.pop()
        if stage.number not in needed:
            needed.add(stage.number)
            waiting.extend(_needs(facts, stage))
    for stage in facts.stages:
        if stage.number not in needed:
            shown = stage.written_name or str(stage.number)
            hint = f"it is built with --target {shown} only; put '# validate' above it where it is a test"
            yield Found(stage.start.span, f"nothing needs stage '{shown}'", hint)


def _needs(facts: Facts, stage: StageFacts) -> Iterator[StageFacts]:
    if stage.parent is not None:
        yield stage.parent
    for item in stage.instructions:
        for name in references(item):
            number = int(name) if name.isascii() and name.isdigit() and len(name) < 9 else -1
            yield from (
                other for other in facts.stages if other.number == number or (other.name and other.name == name.lower())
            )


def redundant_platform(facts: Facts) -> Iterator[Found]:
    """The platform that FROM takes anyway."""
    for stage in facts.stages:
        if flag_value(stage.start.flags, "platform") in TARGET_PLATFORM:
            yield Found(stage.start.span, "--platform=$TARGETPLATFORM says what is so anyway", "leave it out")


def constant_platform(facts: Facts) -> Iterator[Found]:
    """A platform that can't be chosen."""
    for stage in facts.stages:
        platform = flag_value(stage.start.flags, "platform") or ""
        if (
            platform
            and "$" not in platform
            and not any(part in stage.name for part in split_platform(platform) if part)
        ):
            hint = "leave it out and give --platform when building, or use $BUILDPLATFORM"
            yield Found(stage.start.span, f"--platform={platform} builds for one platform only", hint)
