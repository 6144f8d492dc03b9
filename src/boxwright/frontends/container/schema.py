"""What a container.yaml may say: the description that checks it, and that editors get as JSON Schema."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from boxwright.frontends.package.schema import AccountText, Group, Mode, Name, Part, Texts, Variable

Owner = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]+(:[A-Za-z0-9_.-]+)?$", description="USER or USER:GROUP")]
Absolute = Annotated[str, Meta(pattern=r"^/", description="paths from the root, such as /etc/app.conf")]
Id = Annotated[int, Meta(ge=1, le=4_294_967_293)]


class PackageTask(Part, frozen=True, kw_only=True):
    """A package. `path` is a directory beside this file (embedded) or a name in a package tree (repository)."""

    type: Literal["embedded", "repository", "debian"]
    path: str = ""
    name: str = ""
    version: str = ""
    parts: Texts = ()
    replaces: Texts = ()


class SyncTask(Part, frozen=True, kw_only=True):
    """Copy files from beside this file."""

    src: str
    dest: Absolute
    recursive: bool = False
    chmod: Mode = ""
    chown: Owner = ""
    templates: bool | Texts = False


class RunTask(Part, frozen=True, kw_only=True):
    """Run a command. Text is given to /bin/sh."""

    command: str | Texts
    environment: dict[Variable, str] = msgspec.field(default_factory=dict)
    directory: Absolute = "/"
    user: str = ""
    network: Literal["none", "default", "host"] = "default"


class UserTask(Part, frozen=True, kw_only=True):
    """A user that must be there."""

    name: Name
    uid: Id
    gid: Id | None = None
    group: Group = ""
    home: AccountText = "/"
    shell: AccountText = "/usr/sbin/nologin"


class ImageTask(Part, frozen=True, kw_only=True):
    """The image: in which format it is written, and how it is run."""

    type: Literal["aci", "oci", "lxc", "lxd", "rootfs", "squashfs"]
    content: str = ""
    output: str = ""


class Task(Part, frozen=True, kw_only=True):
    """One of these."""

    vars: dict[str, str | Texts] | None = None
    base: str | None = None
    package: PackageTask | Literal["one-per-container"] | None = None
    sync: SyncTask | None = None
    run: RunTask | str | None = None
    user: UserTask | str | None = None
    image: ImageTask | None = None


def json_schema() -> dict[str, object]:
    """The JSON Schema of container.yaml (draft 2020-12)."""
    schema = msgspec.json.schema(tuple[Task, ...])
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "container.yaml", **schema}
