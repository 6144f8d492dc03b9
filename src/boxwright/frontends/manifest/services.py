"""`services:`: containers that run beside the commands of a build (the general form of DBASE, docs/manifests.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from boxwright.frontends.manifest.problem import wrong
from boxwright.frontends.manifest.schema import Ready, ServiceUse
from boxwright.frontends.manifest.settings import command_words
from boxwright.frontends.package.problem import nearest
from boxwright.model.image import Database, ImageConfig
from boxwright.model.span import Span
from boxwright.model.step import Service

READY = "boxwright: the service answers"

# Runs "$@" until the standard input ends; says READY when the port $1 (in hexadecimal; /proc/net/tcp, proc(5)) is
# listened on and the command $2 succeeds. Needs nothing of the image but a shell.
WRAPPER = f"""\
exec 3<&0
hex=$1 check=$2; shift 2
asked=
"$@" </dev/null 3<&- &
child=$!
trap 'asked=1; kill -TERM "$child" 2>/dev/null' USR1
( while read -r _; do :; done; kill -USR1 $$ ) <&3 &
listens() {{
    [ -z "$hex" ] && return 0
    for file in /proc/net/tcp /proc/net/tcp6; do
        [ -r "$file" ] || continue
        while read -r _ local _ state _; do
            [ "$state" = 0A ] && [ "${{local##*:}}" = "$hex" ] && return 0
        done <"$file"
    done
    return 1
}}
( until listens && {{ [ -z "$check" ] || sh -c "$check" >/dev/null 2>&1; }}; do
    sleep 0.1 2>/dev/null || sleep 1
done; echo; echo '{READY}' ) 3<&- &
wait "$child"
status=$?
if [ -n "$asked" ]; then
    wait "$child"
    exit 0
fi
echo "the service ended by itself with status $status"
exit 1
"""


class KnownService(NamedTuple):
    """A kind of service that has a name: the image by version (the first is the default), and how it is run."""

    images: Mapping[str, str]
    command: tuple[str, ...]
    port: int
    user: str = ""


KNOWN: Mapping[str, KnownService] = {
    "redis": KnownService(
        {
            "7.0": "bootstrap:debian:bookworm?packages=redis-server",
            "8.0": "bootstrap:debian:trixie?packages=redis-server",
        },
        ("/usr/bin/redis-server", "--dir", "/tmp", "--bind", "127.0.0.1"),  # noqa: S108 - inside the container
        6379,
        "redis",
    ),
    "memcached": KnownService(
        {
            "1.6.18": "bootstrap:debian:bookworm?packages=memcached",
            "1.6.38": "bootstrap:debian:trixie?packages=memcached",
        },
        ("/usr/bin/memcached", "-l", "127.0.0.1"),
        11211,
        "memcache",
    ),
}
DATABASES = {"mysql": "mysql", "mariadb": "mysql", "postgresql": "postgresql", "postgres": "postgresql"}
LONGER = {"redis-server": "redis"}


class Planned(NamedTuple):
    """A service as it will run: `image` names its tree; of a database it is empty, and `database` says which."""

    name: str
    image: str
    use: ServiceUse
    known: KnownService | None
    database: Database | None
    where: Span


def planned(
    services: Mapping[str, str | ServiceUse] | tuple[str, ...], where: Mapping[str, Span], default: Span
) -> tuple[Planned, ...]:
    """The services in their order. Raises `manifest.service`."""
    uses = services.items() if isinstance(services, Mapping) else [(_plain_name(it), it) for it in services]
    found = [_planned(name, use, where.get(name, default)) for name, use in uses]
    ports: dict[int, str] = {}
    for it in found:
        port = port_of(it)
        if port in ports:
            message = f"{ports[port]} and {it.name} both listen on port {port}, and services share one network"
            raise wrong("service", message, it.where, hint="let one of them listen elsewhere: `command` and `port`")
        if port:
            ports[port] = it.name
    return tuple(found)


def _plain_name(text: str) -> str:
    return LONGER.get(text, text).replace("-", "_")


def _planned(name: str, given: str | ServiceUse, where: Span) -> Planned:
    use = ServiceUse(type=given) if isinstance(given, str) else given
    kind = LONGER.get(use.type, use.type)
    if bool(kind) == bool(use.image):
        raise wrong("service", f"the service {name} needs one of `type` and `image`", where)
    if use.image:
        return Planned(name, use.image, use, None, None, where)
    if kind in DATABASES:
        from boxwright.frontends.recipe.dbase import SERVERS

        suites = SERVERS[DATABASES[kind]].suites
        version = next((it for it in suites if not use.version or f"{it}.".startswith(f"{use.version}.")), "")
        if not version:
            raise wrong("service", f"there is no {kind} {use.version}", where, hint=f"one of {', '.join(suites)}")
        return Planned(name, "", use, None, Database(name.upper(), DATABASES[kind], version), where)
    known = KNOWN.get(kind)
    if known is None:
        hint = nearest(kind, [*KNOWN, *DATABASES]) + "; any other with `image:`"
        raise wrong("service", f"there is no service {kind!r}", where, hint=hint)
    image = next((it for v, it in known.images.items() if not use.version or v.startswith(use.version)), "")
    if not image:
        raise wrong("service", f"there is no {kind} {use.version}", where, hint=f"one of {', '.join(known.images)}")
    return Planned(name, image, use, known, None, where)


def port_of(service: Planned) -> int:
    """The port that it listens on, 0 where nobody says."""
    if service.database is not None:
        from boxwright.frontends.recipe.dbase import SERVERS

        return SERVERS[service.database.kind].port
    return service.use.port or (service.known.port if service.known else 0)


def plain_service(it: Planned, config: ImageConfig, position: int, *, keep: bool, told: bool = False) -> Service:
    """A service of any image, whose tree is the node's input `position`. Raises `manifest.service`."""
    own = (*(config.entrypoint or ()), *(config.cmd or ()))
    argv = command_words(it.use.command, config) if it.use.command else (it.known.command if it.known else own)
    if not argv:
        raise wrong("service", f"nothing says what {it.name} runs: its image has no command", it.where)
    user = it.use.user if it.use.user is not None else (it.known.user if it.known else config.user)
    env = tuple({**dict(config.env), **it.use.environment}.items())
    exposed = config.exposed[0].container if config.exposed else 0
    port = port_of(it) or exposed
    name = it.name.upper()
    return Service(
        name=name,
        position=position,
        argv=wrapped(argv, it.use.ready, config, port),
        env=env,
        user=user,
        ready=READY,
        port=port,
        port_variable=f"{name}_PORT",
        given=((f"{name}_HOST", "127.0.0.1"),),
        keep=keep,
        told=told,
        cwd=config.workdir or "/",
    )


def wrapped(argv: tuple[str, ...], ready: Ready, config: ImageConfig, port: int) -> tuple[str, ...]:
    """The command that runs `argv` as a service is run (model.step.Service)."""
    watched = ready.port or port
    check = ready.command
    if not check and not ready.port and config.healthcheck and config.healthcheck.test[:1] == ("CMD-SHELL",):
        check = config.healthcheck.test[1]
    return ("/bin/sh", "-c", WRAPPER, "sh", f"{watched:04X}" if watched else "", check, *argv)
