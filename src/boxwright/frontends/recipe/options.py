"""What a build of a recipe is told beside its text."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class RecipeOptions(NamedTuple):
    """`target` is a stage's name or number, empty for the last.

    `contexts` names the build contexts that are trees; `images` says which bases other given names stand for, and
    `aliases` which stages. All three are named as `context_name` has it, and come before stages and bases.
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
    images: Mapping[str, str] = MappingProxyType({})
    aliases: Mapping[str, str] = MappingProxyType({})

    def replaces(self, name: str) -> bool:
        """Whether ``--build-context`` gives `name` a meaning of its own."""
        given = self.contexts or self.images or self.aliases
        return bool(given) and any(context_name(name) in names for names in (self.contexts, self.images, self.aliases))


def context_name(name: str) -> str:
    """A build context's name, which may be that of an image: ``docker.io/library/alpine:latest`` is ``alpine``."""
    short = name.lower().removeprefix("docker.io/").removeprefix("index.docker.io/").removeprefix("library/")
    return short.removesuffix(":latest")
