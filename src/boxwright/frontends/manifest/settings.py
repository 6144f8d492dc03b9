"""The settings of a manifest: how the image is run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from boxwright.frontends.manifest.problem import wrong
from boxwright.frontends.manifest.schema import Tasks
from boxwright.model.image import Healthcheck, ImageConfig, Port
from boxwright.model.span import Span

_TIME = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_VARIABLE = re.compile(r"\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)\})")
_UNITS = {"ms": 1_000_000, "s": 1_000_000_000, "m": 60_000_000_000, "h": 3_600_000_000_000}


def configured(config: ImageConfig, tasks: Tasks, where: Span) -> ImageConfig:
    """`config` as these settings change it. Raises `manifest.value`."""
    shell = tasks.shell or config.shell
    published = ports(tasks.ports, where)
    exposed = tuple(port._replace(host=0) for port in (*ports(tasks.expose, where), *published))
    config = config._replace(
        env=expanded(config.env, tasks.env),
        published=_joined(config.published, published),
        exposed=_joined(config.exposed, exposed),
        volumes=tuple(dict.fromkeys((*config.volumes, *tasks.volumes))),
        labels=tuple({**dict(config.labels), **tasks.labels}.items()),
        shell=shell,
        stop_signal=tasks.stop_signal or config.stop_signal,
    )
    if tasks.entrypoint is not None:
        config = config._replace(entrypoint=command_words(tasks.entrypoint, config), cmd=None)
    if tasks.command is not None:
        config = config._replace(cmd=command_words(tasks.command, config))
    if tasks.user is not None:
        config = config._replace(user=tasks.user)
    if tasks.directory is not None:
        config = config._replace(workdir=tasks.directory)
    if tasks.healthcheck is not None:
        check = tasks.healthcheck
        test = ("CMD-SHELL", check.command) if isinstance(check.command, str) else ("CMD", *check.command)
        times = [nanoseconds(text, where) for text in (check.interval, check.timeout, check.start_period)]
        health = Healthcheck(test, times[0], times[1], times[2], retries=check.retries)
        config = config._replace(healthcheck=health)
    return config


def expanded(below: tuple[tuple[str, str], ...], given: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Variables with those of `given`, in which ``$NAME`` and ``${NAME}`` mean what was there before."""
    env = dict(below)
    for name, value in given.items():
        env[name] = _VARIABLE.sub(lambda found: env.get(found[1] or found[2], found[0]), value)
    return tuple(env.items())


def _joined(below: tuple[Port, ...], above: Iterable[Port]) -> tuple[Port, ...]:
    return tuple(dict.fromkeys((*below, *above)))


def ports(texts: Iterable[str], where: Span) -> tuple[Port, ...]:
    """``[HOST:]CONTAINER[/tcp|/udp]``."""
    found = []
    for text in texts:
        numbers, _, protocol = text.partition("/")
        host, _, container = numbers.rpartition(":")
        if not 0 < int(container) < 65536 or int(host or 0) > 65535:
            raise wrong("value", f"{text!r} names no port", where)
        found.append(Port(int(container), protocol or "tcp", int(host or 0)))
    return tuple(found)


def nanoseconds(text: str, where: Span) -> int:
    """``30s``, ``1m``."""
    if not text:
        return 0
    found = _TIME.fullmatch(text)
    if found is None:
        raise wrong("value", f"{text!r} is no time", where, hint="such as 500ms, 30s, 1m")
    return int(float(found[1]) * _UNITS[found[2]])


def shell_of(config: ImageConfig) -> tuple[str, ...]:
    """The shell of commands."""
    return config.shell or ("/bin/sh", "-c")


def command_words(command: str | tuple[str, ...], config: ImageConfig) -> tuple[str, ...]:
    """A command as a program and its arguments: text is given to the shell."""
    return (*shell_of(config), command) if isinstance(command, str) else command
