"""From what an image says of running it, and what the user asks for, to what is run. Pure: nothing is looked up."""

from __future__ import annotations

from typing import NamedTuple

from boxwright.engines.forward import Forward
from boxwright.engines.volumes import VolumeOption
from boxwright.errors import BoxwrightError, UsageError
from boxwright.model.image import ImageConfig

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class RunOptions(NamedTuple):
    """What the user asks for. `entrypoint` None keeps the image's, ``""`` removes it."""

    image: str
    command: tuple[str, ...] = ()
    name: str = ""
    env: tuple[tuple[str, str], ...] = ()
    ports: tuple[Forward, ...] = ()
    publish_all: bool = False
    volumes: tuple[VolumeOption, ...] = ()
    volumes_from: tuple[str, ...] = ()
    entrypoint: str | None = None
    workdir: str = ""
    user: str = ""
    hostname: str = ""
    network: str = "default"
    read_only: bool = False
    init: bool = False
    auto_remove: bool = False
    terminal: bool = False
    interactive: bool = False


class Invocation(NamedTuple):
    """The process: its arguments, environment, working directory and user."""

    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    cwd: str
    user: str


def invocation(config: ImageConfig, options: RunOptions, terminal_kind: str = "") -> Invocation:
    """What is run. Raises BoxwrightError `run.no-command` where neither the image nor the user says so.

    As the OCI image specification has it (config.md, `Entrypoint`, `Cmd`): a command replaces Cmd, an entrypoint of the
    user's both. `terminal_kind` is TERM of the user's terminal.
    """
    if options.entrypoint is not None:
        entrypoint: tuple[str, ...] = (options.entrypoint,) if options.entrypoint else ()
        argv = entrypoint + options.command
    else:
        argv = (config.entrypoint or ()) + (options.command or config.cmd or ())
    if not argv:
        hint = "say what to run: boxwright run IMAGE COMMAND"
        raise BoxwrightError("run.no-command", f"the image {options.image} has no command of its own", hint=hint)
    env = {"PATH": DEFAULT_PATH, **dict(config.env)}
    if terminal_kind:
        env.setdefault("TERM", terminal_kind)
    env.update(options.env)
    return Invocation(argv, tuple(env.items()), options.workdir or config.workdir or "/", options.user or config.user)


def check(options: RunOptions) -> RunOptions:
    """`options`, where they fit together. Raises UsageError."""
    if options.ports and options.network != "default":
        raise UsageError("usage.port", f"-p needs --network default, not {options.network}")
    if options.workdir and not options.workdir.startswith("/"):
        raise UsageError("usage.workdir", f"--workdir {options.workdir}: an absolute path is expected")
    return options
