"""What a build of a recipe is told beside its text."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class RecipeOptions(NamedTuple):
    """`target` is a stage's name or number, empty for the last; `contexts` names the build contexts given by name.

    `build_args` are values of ARG; `labels` are added to the image; `network` is that of a RUN without ``--network``.
    `validate` names stages that gate the image, beside those that the recipe marks unless `marked` is off.
    """

    build_args: Mapping[str, str] = MappingProxyType({})
    target: str = ""
    platform: str = "linux/amd64"
    labels: tuple[tuple[str, str], ...] = ()
    network: str = "default"
    contexts: frozenset[str] = frozenset()
    validate: tuple[str, ...] = ()
    marked: bool = True
