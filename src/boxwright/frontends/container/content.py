"""`content` of an image: how it is run. An ACI's is its manifest, all others' an OCI image configuration.

App Container Specification 0.8.11, "Image Manifest Schema"; OCI image-spec, config.md.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from boxwright.errors import DefinitionError
from boxwright.frontends.container.problem import wrong
from boxwright.frontends.package.problem import nearest
from boxwright.model.image import ImageConfig, Port
from boxwright.model.span import Span

T = TypeVar("T", bound=Struct)
Identifier = Annotated[str, Meta(pattern=r"^[a-z0-9]+([-._~/][a-z0-9]+)*\Z", description="an AC Identifier")]
AcName = Annotated[str, Meta(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*\Z", description="an AC Name")]
SemVer = Annotated[str, Meta(pattern=r"^\d+\.\d+\.\d+([-+][0-9A-Za-z.+-]+)?\Z", description="a semantic version")]
ARCHITECTURES = {"amd64": "amd64", "386": "i386", "arm64": "aarch64", "arm": "armv7l"}
"""ACI's names of architectures, by OCI's (App Container Specification, "Image Manifest Schema", arch)."""


class Object(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Base of all of ACI's."""


class NameValue(Object, frozen=True):
    """A variable."""

    name: Annotated[str, Meta(pattern=r"^[^=\x00-\x1f\x7f]+\Z")]
    value: str


class Label(Object, frozen=True):
    """A label of an image."""

    name: Identifier
    value: str


class EventHandler(Object, frozen=True):
    """What is run before the program starts, or after it stopped."""

    name: Literal["pre-start", "post-stop"]
    exec: tuple[str, ...]


class MountPoint(Object, frozen=True):
    """Where a volume is expected."""

    name: AcName
    path: str
    read_only: bool = False


class AciPort(Object, frozen=True):
    """A port that the program listens on."""

    name: AcName
    protocol: Literal["tcp", "udp"]
    port: Annotated[int, Meta(ge=1, le=65535)]
    count: Annotated[int, Meta(ge=1)] = 1
    socket_activated: bool = False


class Isolator(Object, frozen=True):
    """A limit."""

    name: Identifier
    value: Any = None


class App(Object, frozen=True):
    """How the program is run."""

    user: str
    group: str
    exec: tuple[str, ...] = ()
    supplementary_gids: tuple[int, ...] = msgspec.field(default=(), name="supplementaryGIDs")
    event_handlers: tuple[EventHandler, ...] = ()
    working_directory: str = ""
    environment: tuple[NameValue, ...] = ()
    mount_points: tuple[MountPoint, ...] = ()
    ports: tuple[AciPort, ...] = ()
    isolators: tuple[Isolator, ...] = ()
    user_annotations: dict[str, str] = {}
    user_labels: dict[str, str] = {}


class Dependency(Object, frozen=True):
    """Another image below this one."""

    image_name: Identifier
    image_id: str = msgspec.field(default="", name="imageID")
    labels: tuple[Label, ...] = ()
    size: int = 0


class ImageManifest(Object, frozen=True):
    """An ACI's manifest."""

    ac_kind: Literal["ImageManifest"]
    ac_version: SemVer
    name: Identifier
    labels: tuple[Label, ...] = ()
    app: App | None = None
    dependencies: tuple[Dependency, ...] = ()
    path_whitelist: tuple[str, ...] = ()
    annotations: tuple[Label, ...] = ()


class Execution(Struct, frozen=True, forbid_unknown_fields=True, rename="pascal"):
    """``config`` of an OCI image configuration."""

    user: str = ""
    exposed_ports: dict[Annotated[str, Meta(pattern=r"^\d{1,5}(/(tcp|udp|sctp))?\Z")], dict[str, Any]] = {}
    env: tuple[Annotated[str, Meta(pattern=r"^[^=\x00-\x1f\x7f]+=[^\x00]*\Z")], ...] = ()
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    volumes: dict[str, dict[str, Any]] = {}
    working_dir: str = ""
    labels: dict[str, str] = {}
    stop_signal: str = ""


class OciConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """An OCI image configuration, as far as it is the user's."""

    config: Execution = Execution()
    author: str = ""
    architecture: str = ""
    os: str = ""
    variant: str = ""


def aci_config(content: str, start: ImageConfig, where: Span) -> tuple[ImageConfig, str]:
    """The configuration that an ACI's manifest means, and the manifest itself as JSON."""
    manifest = _decoded(content, ImageManifest, where)
    labels = {label.name: label.value for label in manifest.labels}
    if len(labels) != len(manifest.labels) or "name" in labels:
        raise wrong("content", "labels of an ACI have different names, and none is `name`", where)
    platform = {"os": start.os, "arch": ARCHITECTURES.get(start.architecture, start.architecture)}
    for name, value in platform.items():
        if labels.get(name, value) != value:
            raise wrong("content", f"the label {name} is {labels[name]}, but the image is for {value}", where)
    config = start._replace(labels=tuple(sorted(dict(start.labels).items())))
    if manifest.app is None:
        return config, content
    app = manifest.app
    user = app.user if app.group in ("", app.user) else f"{app.user}:{app.group}"
    ports = tuple(Port(port.port + number, port.protocol) for port in app.ports for number in range(port.count))
    given = {variable.name: variable.value for variable in app.environment}
    return config._replace(
        entrypoint=app.exec or None,
        cmd=None,
        user="" if user == "0" else user,
        workdir=app.working_directory,
        env=tuple({**dict(start.env), **given}.items()),
        exposed=ports,
        volumes=tuple(point.path for point in app.mount_points if not point.read_only),
    ), content


def oci_config(content: str, start: ImageConfig, where: Span) -> ImageConfig:
    """The configuration that an OCI image configuration means, over what tasks said."""
    whole = _decoded(content, OciConfig, where)
    for name, wanted in (("architecture", start.architecture), ("os", start.os)):
        if getattr(whole, name) not in ("", wanted):
            raise wrong("content", f"{name} is {getattr(whole, name)}, but the image is for {wanted}", where)
    given = whole.config
    ports = [text.partition("/") for text in given.exposed_ports]
    variables = dict(item.split("=", 1) for item in given.env)
    return start._replace(
        author=whole.author or start.author,
        user=given.user or start.user,
        env=tuple({**dict(start.env), **variables}.items()),
        entrypoint=given.entrypoint if given.entrypoint is not None else start.entrypoint,
        cmd=given.cmd if given.cmd is not None else start.cmd,
        workdir=given.working_dir or start.workdir,
        exposed=start.exposed + tuple(Port(int(number), protocol or "tcp") for number, _, protocol in ports),
        volumes=start.volumes + tuple(given.volumes),
        labels=tuple(sorted({**dict(start.labels), **given.labels}.items())),
        stop_signal=given.stop_signal or start.stop_signal,
    )


def _decoded(content: str, kind: type[T], where: Span) -> T:
    try:
        json.loads(content)
        return msgspec.json.decode(content.encode(), type=kind)
    except json.JSONDecodeError as error:
        at = Span(where.file, where.line + error.lineno, error.colno)
        raise wrong("content", f"`content` is no JSON: {error}", at) from error
    except (msgspec.DecodeError, ValueError) as error:
        raise _invalid(str(error), kind, where) from error
    except RecursionError as error:
        raise wrong("content", "`content` holds too many values inside of each other", where) from error


def _invalid(said: str, kind: type[Struct], where: Span) -> DefinitionError:
    """The error for what msgspec found, which says the path to it."""
    hint = ""
    if "unknown field" in said:
        name = said.partition("`")[2].partition("`")[0]
        hint = nearest(name, _names(kind))
    return wrong("content", f"`content`: {said}", where, hint=hint)


def _names(kind: type[Struct]) -> list[str]:
    own = [field.encode_name for field in msgspec.structs.fields(kind)]
    below: dict[type[Struct], type[Struct]] = {ImageManifest: App, OciConfig: Execution}
    return own + (_names(below[kind]) if kind in below else [])
