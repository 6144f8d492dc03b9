"""Run an image, or a command in it, under a copy-on-write layer."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, NoReturn

from boxwright.cli.arguments import pair
from boxwright.cli.console import note, say

if TYPE_CHECKING:
    from boxwright.engines.native import NativeEngine
    from boxwright.engines.options import RunOptions
    from boxwright.engines.records import Container
    from boxwright.engines.volumes import VolumeOption

TOOLBOX = "/toolbox"


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `run`."""
    add = parser.add_argument
    add("-d", "--detach", action="store_true", help="leave it running, and print its name")
    add("-i", "--interactive", action="store_true", help="give it standard input")
    add("-t", "--tty", action="store_true", help="give it a terminal where standard input is one")
    add("--name", default="", help="its name; made up where none is given")
    add("-e", "--env", action="append", default=[], metavar="NAME[=VALUE]")
    add("--env-file", action="append", default=[], metavar="FILE", help="a line for each, as -e takes them; -e wins")
    add("-p", "--publish", action="append", default=[], metavar="[[ADDRESS:]HOST:]CONTAINER[/udp]")
    add("-P", "--publish-all", action="store_true", help="publish every port that the image exposes")
    add("-v", "--volume", action="append", default=[], metavar="[HOST|NAME:]TARGET[:ro]")
    add("--volumes-from", action="append", default=[], metavar="CONTAINER", help="mount what that container mounts")
    add("--entrypoint", help="what to run instead of the image's entrypoint; empty for none")
    add("-w", "--workdir", default="", help="the working directory")
    add("-u", "--user", default="", help="the user, as USER takes it")
    add("--hostname", default="", help="the host name inside; default: its id")
    add("--network", default="default", choices=("none", "default", "host"))
    add("--toolbox", action="store_true", help="mount the program `facts` at /toolbox, read-only")
    add("--read-only", action="store_true", help="no layer: only volumes can be written")
    add("--init", action="store_true", help="a first process that forwards signals and reaps orphans")
    add("--rm", action="store_true", help="remove it when it ends")
    add("--bundle", default="", metavar="DIR", help="bundle this directory for a base image, such as base/php")
    add("--watch", action="store_true", help="with --bundle: again at each change")
    add("image", metavar="IMAGE")
    add("command", nargs=argparse.REMAINDER, metavar="COMMAND")


def own_words(given: list[str], parser: argparse.ArgumentParser) -> list[str]:
    """After a base image's name options are still ours: its programs come from bundles, and none begins with a dash."""
    found = parser.parse_args(given)
    after: list[str] = found.command
    if not found.image.startswith("base/") or not after or not after[0].startswith("-") or "--" in given:
        return given
    place = len(given) - len(after) - 1
    end = "\0"
    again = parser.parse_args([*given[:place], *after, end])
    command = [it for it in (again.image, *again.command) if it != end]
    options = after[: len(after) - len(command)]
    return [*given[:place], *options, found.image, *command]


def run(options: argparse.Namespace) -> int:
    """Run it; in the foreground its exit status is ours."""
    asked = _options(options)
    if options.image.startswith("base/"):
        from boxwright.app.bundlerun import provide_base

        provide_base(options.image, os.environ, note)
    if options.bundle or options.watch:
        return _run_bundle(options, asked)
    if not options.detach:
        from boxwright.app.containers import run_attached

        return run_attached(os.environ, asked, _guard)
    from boxwright.app.containers import start

    engine, container, _ = start(os.environ, asked, None)
    if asked.auto_remove or container.config.linked:
        _guard(engine, container, -1)
    for forward in container.config.ports:
        note(f"port {forward}")
    say(container.name)
    return 0


def _run_bundle(options: argparse.Namespace, asked: RunOptions) -> int:
    """In the foreground, with a process beside it that watches where that is asked for."""
    from boxwright.app.bundlerun import bundled
    from boxwright.app.containers import open_engine, run_attached
    from boxwright.errors import UsageError

    if not options.bundle:
        raise UsageError("usage.watch", "--watch says what to do with --bundle DIR")
    if options.detach:
        raise UsageError("usage.bundle", "--bundle is for the foreground", hint="boxwright bundle makes one that stays")
    with bundled(asked, options.bundle, os.environ, note) as complete:
        if not options.watch:
            return run_attached(os.environ, complete, _guard)
        named = complete._replace(name=complete.name or f"bundle-{os.getpid()}")
        watcher = _fork_watcher(options.bundle, named, open_engine(os.environ))
        try:
            return run_attached(os.environ, named, _guard)
        finally:
            _end_watcher(watcher)


def _fork_watcher(directory: str, asked: RunOptions, engine: NativeEngine) -> int:
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    from boxwright.app.bundlerun import watch

    try:
        os.setsid()
        watch(directory, asked.volumes[-1].source, asked.name, engine, os.environ, note)
    finally:
        os._exit(0)


def _end_watcher(pid: int) -> None:
    import signal

    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def _options(options: argparse.Namespace) -> RunOptions:
    from boxwright.engines.forward import parse_forward
    from boxwright.engines.names import check_name
    from boxwright.engines.options import RunOptions
    from boxwright.engines.volumes import parse_volume

    terminal = options.tty and not options.detach and sys.stdin.isatty()
    return RunOptions(
        image=options.image,
        command=tuple(options.command[1:] if options.command[:1] == ["--"] else options.command),
        name=check_name(options.name) if options.name else "",
        env=environment([*(line for file in options.env_file for line in env_lines(file)), *options.env]),
        ports=tuple(parse_forward(text) for text in options.publish),
        publish_all=options.publish_all,
        volumes=(*(parse_volume(text) for text in options.volume), *(_toolbox() if options.toolbox else ())),
        volumes_from=tuple(options.volumes_from),
        entrypoint=options.entrypoint,
        workdir=options.workdir,
        user=options.user,
        hostname=options.hostname,
        network=options.network,
        read_only=options.read_only,
        init=options.init,
        auto_remove=options.rm,
        terminal=terminal,
        interactive=options.interactive,
    )


def _toolbox() -> tuple[VolumeOption]:
    from boxwright.app.manifest.facts import toolbox
    from boxwright.engines.volumes import VolumeOption

    return (VolumeOption(str(toolbox()), TOOLBOX, read_only=True),)


def environment(given: list[str]) -> tuple[tuple[str, str], ...]:
    """``-e``: a name alone takes its value from this process's environment, where it is there."""
    values: list[tuple[str, str]] = []
    for item in given:
        if "=" in item:
            values.append(pair(item, "-e"))
        elif item in os.environ:
            values.append((item, os.environ[item]))
    return tuple(values)


def env_lines(path: str) -> list[str]:
    """The lines of a file of variables, without comments; values are taken as they stand. Raises `usage.env-file`."""
    from boxwright.errors import UsageError

    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError("usage.env-file", f"--env-file {path}: {error}") from error
    return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


def _guard(engine: NativeEngine, container: Container, lifeline: int) -> int:
    """Fork the small process that stays beside a container; returns its id."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _be_guard(engine, container, lifeline)
    return pid


def _be_guard(engine: NativeEngine, container: Container, lifeline: int) -> NoReturn:
    from boxwright.engines.guard import attend_until_end
    from boxwright.files import close_others

    try:
        os.setsid()
        os.chdir("/")
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        close_others(lifeline)
        attend_until_end(engine, container, lifeline)
    finally:
        os._exit(0)
