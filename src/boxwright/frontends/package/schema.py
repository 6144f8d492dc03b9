"""What a pkg.yaml may say: the one description that checks definitions, and that editors get as JSON Schema."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from boxwright.model.debianname import NAME, VERSION

Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9+._-]*$", description="lower case letters, digits, + . _ -")]
Version = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9+.~_-]*$")]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$", description="64 hexadecimal digits")]
Commit = Annotated[str, Meta(pattern=r"^[0-9a-f]{40}([0-9a-f]{24})?$", description="a full commit id")]
Mode = Annotated[str, Meta(pattern=r"^[0-7]{3,4}$", description="octal, such as 0644")]
Variable = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*$", description="letters, digits, _ . -")]
AccountText = Annotated[
    str,
    Meta(pattern=r"^/[^:\x00-\x1f\x7f-\x9f\u2028\u2029]*$", description="paths from the root, without : (passwd(5))"),
]
Group = Annotated[str, Meta(pattern=r"^([A-Za-z0-9_][A-Za-z0-9_.-]*)?$", description="letters, digits, _ . -")]
Exact = Annotated[str, Meta(pattern=r"^[A-Za-z0-9{][A-Za-z0-9.+:~{}-]*$", description="a version (deb-version(7))")]
Installed = Annotated[
    str, Meta(pattern=rf"^{NAME}([=/]{VERSION})?$", description="names of the distribution's packages, such as g++")
]
Texts = tuple[str, ...]

SYSTEMS = ("autotools", "cmake", "meson", "make", "python", "perl", "go", "rust", "none")
PHASES = ("prepare", "configure", "build", "check", "install")


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """Base of all: no other keys than these."""


class DebianSource(Part, frozen=True, kw_only=True):
    """A source package of the distribution; apt checks its signature."""

    package: Name
    version: Exact
    sha256: Sha256 = ""
    """Of its .dsc, which names the SHA-256 of the others."""
    patched: bool = True
    """Whether the distribution's own patches are applied."""


class Source(Part, frozen=True, kw_only=True):
    """One of `url`, `git`, `local` and `debian`."""

    url: str = ""
    sha256: Sha256 = ""
    mirrors: Texts = ()
    git: str = ""
    commit: Commit = ""
    local: str = ""
    debian: DebianSource | None = None
    into: str = "."
    strip: Annotated[int, Meta(ge=0, le=16)] = 1
    unpack: bool = True


class Patch(Part, frozen=True, kw_only=True):
    """A patch with more than its reason."""

    reason: str
    strip: Annotated[int, Meta(ge=0, le=16)] | None = None
    sha256: Sha256 = ""
    into: str = "."


class PhaseArguments(Part, frozen=True, kw_only=True):
    """Arguments of each phase; the phase's script has them as ``"$@"``."""

    prepare: Texts = ()
    configure: Texts = ()
    build: Texts = ()
    check: Texts = ()
    install: Texts = ()


class Phases(Part, frozen=True, kw_only=True):
    """Shell scripts (POSIX sh, each with ``set -eu``) run in the source directory."""

    before_prepare: str = ""
    prepare: str | None = None
    after_prepare: str = ""
    before_configure: str = ""
    configure: str | None = None
    after_configure: str = ""
    before_build: str = ""
    build: str | None = None
    after_build: str = ""
    before_check: str = ""
    check: str | None = None
    after_check: str = ""
    before_install: str = ""
    install: str | None = None
    after_install: str = ""


class Effect(Part, frozen=True, kw_only=True):
    """What a flag does. ``{value}`` in arguments and environment is the option's value."""

    arguments: PhaseArguments | Texts = ()
    build_depends: Texts = ()
    depends: Texts = ()
    environment: dict[Variable, str] = {}
    patches: dict[str, str | Patch] = {}
    files: dict[str, str] = {}


class Flag(Part, frozen=True, kw_only=True):
    """A use flag. Without `type` it is on or off; else an option with a value."""

    summary: str = ""
    type: Literal["flag", "int", "text", "choice"] = "flag"
    default: str = ""
    values: Texts = ()
    minimum: int | None = None
    maximum: int | None = None
    pattern: str = ""
    requires: Texts = ()
    conflicts: Texts = ()
    with_: Effect = msgspec.field(default=Effect(), name="with")
    without: Effect = Effect()


class Use(Part, frozen=True, kw_only=True):
    """Which flags are on and off, values of options, and (in `flags`) what there is."""

    with_: Texts = msgspec.field(default=(), name="with")
    without: Texts = ()
    set: dict[str, str] = {}
    flags: dict[Name, Flag] = {}


class Owner(Part, frozen=True, kw_only=True):
    """Names are those of `users` (and root); numbers are taken as they are."""

    user: str = "root"
    group: str = ""
    mode: Mode = ""


class User(Part, frozen=True, kw_only=True):
    """A user that what the package is composed into must have."""

    uid: Annotated[int, Meta(ge=1, le=4_294_967_293)]
    gid: Annotated[int, Meta(ge=1, le=4_294_967_293)] | None = None
    group: Group = ""
    home: AccountText = "/"
    shell: AccountText = "/usr/sbin/nologin"


class Toolchain(Part, frozen=True, kw_only=True):
    """The root file system in which it is built: a base, and packages of its distribution."""

    base: str = "debian:bookworm"
    packages: tuple[Installed, ...] | None = None


class Test(Part, frozen=True, kw_only=True):
    """Commands that are run where only the package and its run-time closure are. Text is given to /bin/sh."""

    commands: tuple[str | Texts, ...]
    environment: dict[Variable, str] = {}
    depends: Texts = ()


class Watch(Part, frozen=True, kw_only=True):
    """Where upstream lists its versions: `url` of a page, or `git` for tags. `{version}` in `pattern` is one."""

    url: str = ""
    git: str = ""
    pattern: str = r"\D*{version}"


class Changes(Part, frozen=True, kw_only=True):
    """What a version, an architecture, or the definition itself may say."""

    summary: str = ""
    license: str = ""
    author: str = ""
    homepage: str = ""
    sources: tuple[Source, ...] = ()
    patches: dict[str, str | Patch] = {}
    build_depends: Texts = ()
    depends: Texts = ()
    use: Use = Use()
    build_system: Literal[SYSTEMS] = "none"  # type: ignore[valid-type]
    arguments: PhaseArguments | Texts = ()
    environment: dict[Variable, str] = {}
    phases: Phases = Phases()
    files: dict[str, str] = {}
    split: dict[Name, Texts] = {}
    owners: dict[str, Owner] = {}
    users: dict[Name, User] = {}
    replaces: Texts = ()
    toolchain: Toolchain | str = Toolchain()
    test: Test | tuple[str | Texts, ...] = ()
    prefix: Annotated[str, Meta(pattern=r"^/[A-Za-z0-9/._+-]+$")] = "/usr"
    strip: bool = True
    jobs: Annotated[int, Meta(ge=1, le=256)] = 4
    time: Annotated[int, Meta(ge=0)] | None = None
    watch: Watch | None = None


class Definition(Changes, frozen=True, kw_only=True):
    """A package definition."""

    base: str = ""
    name: Name = ""
    version: Version = ""
    versions: dict[Version, Changes] = {}
    architectures: dict[Name, Changes] = {}


def json_schema() -> dict[str, object]:
    """The JSON Schema of pkg.yaml (draft 2020-12)."""
    schema = msgspec.json.schema(Definition)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "pkg.yaml", **schema}
