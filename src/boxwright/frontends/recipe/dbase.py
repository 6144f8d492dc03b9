"""DBASE: what it says, and the steps and services that it stands for (docs/dbase.md)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from boxwright.errors import DefinitionError
from boxwright.frontends.recipe.problem import nearest, wrong
from boxwright.frontends.recipe.state import DEFAULT_PATH, StageDatabase, StageState
from boxwright.frontends.recipe.syntax import Instruction
from boxwright.model.image import Database, ImageConfig
from boxwright.model.step import Copy, Mount, Run, Service, SnapshotSource, Source

TOOLS = "/usr/local/lib/boxwright"
PROGRAM = f"{TOOLS}/database"
DUMP = "var/lib/dbase/dump.sql"
RUNTIME = "/run/dbase"
OWN_NAME = "app"
"""The name of each server's one database and of its role."""

FORM = "DBASE mysql|postgresql [VERSION] [AS NAME] [embedded]"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_VERSION = re.compile(r"\d+(?:\.\d+)*")


class Server(NamedTuple):
    """A kind of server: its recipe below ``images/``, its user, its port, and which suite of Debian has a version."""

    recipe: str
    user: str
    port: int
    suites: Mapping[str, str]


SERVERS: Mapping[str, Server] = {
    "mysql": Server("mariadb", "mysql", 3306, {"10.11": "bookworm", "11.8": "trixie"}),
    "postgresql": Server("postgresql", "postgres", 5432, {"15": "bookworm", "17": "trixie"}),
}


def read_dbase(state: StageState, instruction: Instruction) -> Database:
    """``DBASE mysql|postgresql [VERSION] [AS NAME] [embedded]``. Raises DefinitionError."""
    where = instruction.span
    words = state.expand_words(instruction.rest, where)
    kind = words.pop(0) if words else ""
    if kind not in SERVERS:
        raise wrong(f"DBASE knows no {kind!r}", where, hint=nearest(kind, SERVERS) or FORM)
    version = _version(kind, words.pop(0) if words and _VERSION.fullmatch(words[0]) else "", instruction)
    name = "DB"
    if words and words[0].lower() == "as":
        if len(words) < 2 or _NAME.fullmatch(words[1]) is None:
            raise wrong("DBASE: a name of letters, digits and '_' follows AS", where, hint=FORM)
        name = words[1].upper()
        del words[:2]
    embedded = bool(words) and words[0].lower() == "embedded"
    if words[embedded:]:
        raise wrong(f"DBASE: {words[embedded]!r} is not understood", where, hint=FORM)
    if any(it.database.name == name for it in state.databases):
        raise wrong(f"there is a database {name} already", where, hint="give it another name with AS")
    if embedded and any(it.database.embedded for it in state.databases):
        raise wrong("an image holds one embedded database", where, hint="leave 'embedded' out of one of them")
    return Database(name, kind, version, embedded=embedded)


def _version(kind: str, wanted: str, instruction: Instruction) -> str:
    """The version that is meant, the first one where none is named. Raises `dbase.unknown-version`."""
    known = SERVERS[kind].suites
    found = next((it for it in known if not wanted or f"{it}.".startswith(f"{wanted}.")), None)
    if found is None:
        shown = ", ".join(f"{version} (Debian {suite})" for version, suite in known.items())
        message = f"DBASE {kind}: there is no version {wanted} among Debian's packages"
        raise DefinitionError("dbase.unknown-version", message, hint=f"one of {shown}", where=instruction.span)
    return found


def image_name(database: Database) -> str:
    """What the image of a database's server is called in the store."""
    return f"boxwright/{SERVERS[database.kind].recipe}:{database.version}"


def server_of(database: Database) -> tuple[Server, str]:
    """The kind of server, and the suite of Debian that has this version."""
    server = SERVERS[database.kind]
    return server, server.suites[database.version]


def initial_data(database: Database) -> Run:
    """In a server's image: the data before the first step."""
    return _run_tool("init", user=SERVERS[database.kind].user)


def _run_tool(command: str, user: str = "") -> Run:
    mounts = (Mount("tmpfs", RUNTIME),)
    return Run((PROGRAM, command), (("PATH", DEFAULT_PATH),), user=user, network="none", mounts=mounts)


def services(databases: list[StageDatabase], first: int) -> tuple[Service, ...]:
    """The servers beside a RUN step whose inputs from the position `first` on are their data."""
    return tuple(_service(it.database, first + number, number) for number, it in enumerate(databases))


def _service(database: Database, position: int, number: int) -> Service:
    server, name = SERVERS[database.kind], database.name
    given = (
        (f"{name}_TYPE", database.kind),
        (f"{name}_HOST", "127.0.0.1"),
        (f"{name}_NAME", OWN_NAME),
        (f"{name}_USER", OWN_NAME),
    )
    return Service(
        name=name,
        position=position,
        argv=(PROGRAM, "serve"),
        env=(("PATH", DEFAULT_PATH),),
        user=server.user,
        ready="ready",
        port=server.port + number,  # several servers share the step's loopback
        port_variable=f"{name}_PORT",
        given=given,
        password_variable=f"{name}_PASSWORD",
        temporary=(RUNTIME,),
    )


def tools() -> Copy:
    """In an image that embeds a server, whose image is the second input: what installs and starts it."""
    sources: tuple[Source, ...] = (SnapshotSource((TOOLS,), 1),)
    return Copy(sources, f"{TOOLS}/")


def install(network: str) -> Run:
    """Install the server in the image."""
    return Run((f"{TOOLS}/install",), (("PATH", DEFAULT_PATH),), network=network)


def content() -> Copy:
    """The dump, from the data in the second input."""
    sources: tuple[Source, ...] = (SnapshotSource((f"/{DUMP}",), 1),)
    return Copy(sources, f"/{DUMP}")


def load() -> Run:
    """Make the image's own data from the dump."""
    return _run_tool("load")


def started_inside(config: ImageConfig, database: Database) -> ImageConfig:
    """A configuration whose first process starts the server, then what the image starts, as its user."""
    entrypoint = (PROGRAM, "embedded", database.name, config.user, *(config.entrypoint or ()))
    return config._replace(entrypoint=entrypoint, user="")
