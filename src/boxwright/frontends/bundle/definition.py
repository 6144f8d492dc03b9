"""bundle.yaml: what goes into a bundle, what is done first, how its program is started. All of it may be left out."""

from __future__ import annotations

import shlex
from typing import Annotated

import msgspec
from msgspec import Meta

from boxwright.frontends.package.convert import convert
from boxwright.frontends.package.document import parse_document

Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$", description="lower case letters, digits, . _ -")]
Command = str | tuple[str, ...]


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all: no other keys than these."""


class BuildSteps(Part, frozen=True, kw_only=True):
    """Commands that are run first in a container of `image`, where the files lie; what they leave is bundled."""

    image: str
    run: tuple[str, ...]


class BundleDefinition(Part, frozen=True, kw_only=True):
    """A bundle.yaml. `include` and `exclude` are patterns as in .dockerignore; they count before `build` runs."""

    name: Name | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    build: BuildSteps | None = None
    install: Command = ""
    """Run when the bundle was unpacked, before it is switched to; the last revision stays where it fails."""
    start: Command = ""
    """The program; without it, the base image's own way of starting what it finds."""
    compress: bool = True


def parse_bundle(text: str, file: str) -> BundleDefinition:
    """Read a bundle.yaml. Raises DefinitionError `package.yaml`, `.unknown-key`, `.type`, `.value` with the place."""
    return convert(parse_document(text, file), BundleDefinition)


def script(command: Command) -> bytes:
    """A command as a shell script: words are executed as they are, text is the shell's."""
    text = command if isinstance(command, str) else f"exec {shlex.join(command)}"
    return f"#!/bin/sh\n{text.rstrip()}\n".encode()
