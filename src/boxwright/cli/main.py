"""Entry: finds the subcommand, runs it, turns errors into words and exit statuses."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from functools import cache

from boxwright import __version__
from boxwright.cli.console import complain, note
from boxwright.errors import BoxwrightError

GROUPS = {
    "definitions": {
        "init": "write a first definition for a project",
        "convert": "turn a recipe into a manifest, or the other way",
        "check": "check a recipe for what is seldom meant",
        "schema": "print the JSON Schema of a kind of definition",
        "module": "search, add, publish or begin modules of manifests",
        "lock": "pin what a definition takes from outside, in boxwright.lock",
        "update": "report newer upstream versions, and move boxwright.lock",
    },
    "builds": {
        "build": "build what a definition says: images, packages, containers",
        "graph": "print a build's graph as text, DOT, Mermaid or SVG",
        "why": "say for each step which input changed since the last build, or why something is in an image",
        "why-rebuild": "say in which fields the identities of two packages differ",
        "shell": "open a shell in a state, such as the one before a failed step",
        "cache": "list, export, seed and clear cache mounts",
        "bundle": "make a ZIP of a revision, which base containers fetch when they start",
        "bundle serve": "serve bundles to them",
    },
    "containers": {
        "run": "run an image, or a command in it",
        "ps": "list containers",
        "logs": "show what a container wrote",
        "exec": "run a command in a running container",
        "stop": "stop containers",
        "commit": "keep a container's layer as a new image",
        "volume": "named volumes: list and remove them; snapshots, copies and backups of stacks' volumes",
    },
    "stacks": {
        "deploy": "deploy a stack of linked containers: build, plan, apply",
        "status": "show the instances of a stack",
        "scale": "run more or fewer replicas",
        "restart": "restart instances of a stack, one after the other",
        "rollback": "go back to an earlier release",
        "destroy": "remove a stack",
        "events": "show what happened to a stack",
        "watch": "keep what runs equal to a stack",
        "db": "back up and restore a stack's databases",
        "cluster": "make, join and look after a cluster of LXD servers",
    },
    "images": {
        "images": "list images",
        "inspect": "show an image or a container as JSON",
        "tag": "give an image another name",
        "rm": "remove containers or images",
        "export": "write an image in some format",
        "facts": "print what is found out about an image in a container of it",
        "list": "list the packages in an image",
        "owns": "say whose a file of an image is",
        "diff": "say what is different between two images",
        "sbom": "print an image's bill of materials (SPDX, CycloneDX)",
    },
    "registries and repositories": {
        "push": "upload an image to registries, or anything to repositories",
        "pull": "bring an image from a registry, or anything from repositories",
        "copy": "copy an image between registries, layouts, archives and the store",
        "index": "put images of several platforms under one name of a registry",
        "login": "log in to a registry",
        "logout": "log out of a registry",
        "search": "list what repositories have",
        "repo": "keep a repository: keys, init, verify, gc, stats",
        "serve": "serve a directory repository on this machine, for trying out",
    },
    "this machine": {
        "gc": "remove what was not used for longest",
        "fsck": "verify the store",
        "doctor": "say what this machine can do, and how to mend what it can't",
        "completion": "print a completion script for a shell",
    },
}
COMMANDS = {name: text for group in GROUPS.values() for name, text in group.items()}

INTERRUPTED = 130


def module_of(name: str) -> str:
    """The module of a subcommand."""
    return f"boxwright.cli.{name.replace('-', '_').replace(' ', '_')}"


def parser_for(name: str) -> argparse.ArgumentParser:
    """The parser of one subcommand."""
    module = importlib.import_module(module_of(name))
    parser = argparse.ArgumentParser(prog=f"boxwright {name}", description=module.__doc__, formatter_class=_Formatter)
    parser.add_argument("--traceback", action="store_true", help="show a Python traceback with an error")
    module.configure(parser)
    return parser


class _Formatter(argparse.HelpFormatter):
    """argparse makes one for each option that is added, and asks shutil, a slow import, how wide the terminal is."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_width())


@cache
def _width() -> int:
    try:
        return int(os.environ.get("COLUMNS") or os.get_terminal_size(1).columns) - 2
    except (OSError, ValueError):
        return 78


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help", "help"):
        print(_usage())
        return 0 if given else 2
    if given[0] == "--version":
        print(f"boxwright {__version__}")
        return 0
    second = " ".join(given[:2])
    if len(given) > 1 and second in COMMANDS:
        return _run(second, given[2:])
    name = given[0]
    if name not in COMMANDS:
        complain(_unknown(name))
        return 2
    return _run(name, given[1:])


def _run(name: str, given: list[str]) -> int:
    try:
        parser = parser_for(name)
        module = importlib.import_module(module_of(name))
        own_words = getattr(module, "own_words", None)
        options = parser.parse_args(given if own_words is None else own_words(given, parser))
    except (BoxwrightError, KeyboardInterrupt) as error:
        return _report(error)
    try:
        status: int = module.run(options)
        sys.stdout.flush()
    except BrokenPipeError:
        # Nobody reads one of them any more; Python would complain about what is left in its buffers.
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        return 1
    except (BoxwrightError, KeyboardInterrupt, OSError) as error:
        if options.traceback:
            raise
        return _report(error)
    return status


def _show_place(error: BoxwrightError) -> None:
    if error.where is not None:
        from boxwright.cli.excerpt import source_lines

        for line in source_lines(error.where):
            note(line)


def _report(error: BoxwrightError | KeyboardInterrupt | OSError) -> int:
    """Say it in words; returns the exit status."""
    if isinstance(error, BoxwrightError):
        _show_place(error)
        complain(error)
        return error.exit_status
    if isinstance(error, KeyboardInterrupt):
        complain(BoxwrightError("interrupted", "interrupted"))
        return INTERRUPTED
    complain(BoxwrightError("system", f"{error.strerror or error}: {error.filename or ''}".rstrip(": ")))
    return 1


def _usage() -> str:
    lines = ["usage: boxwright COMMAND [OPTIONS]", ""]
    for title, group in GROUPS.items():
        lines += [f"{title}:", *(f"  {name:<12} {text}" for name, text in group.items()), ""]
    return "\n".join([*lines, "'boxwright COMMAND --help' says more."])


def _unknown(name: str) -> BoxwrightError:
    import difflib

    near = difflib.get_close_matches(name, COMMANDS, n=1)
    hint = f"did you mean '{near[0]}'?" if near else "'boxwright --help' lists the commands"
    return BoxwrightError("usage.command", f"there is no command {name!r}", hint=hint)


if __name__ == "__main__":
    sys.exit(main())
