"""Steps: one operation each, pure data. What a step does with its inputs stands in `boxwright.steps`.

By convention the first input of a node in a graph is the state that the step starts from; the others are what it reads.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from boxwright.model.digest import Digest


class Scratch(NamedTuple):
    """The empty tree."""


class Base(NamedTuple):
    """A tree from outside. `source` says from where; `name` is what is asked for there.

    source: ``bootstrap`` (a distribution's packages), ``registry``, ``oci`` (layout directory), ``oci-archive``,
    ``docker-archive``, ``tar`` (a root file system), ``image`` (in the local store; `name` is its identity).
    `pinned` is the content that was remembered for it: it enters the key where it is known.
    """

    source: str
    name: str
    platform: str
    pinned: Digest | None = None


class Mount(NamedTuple):
    """A mount of a RUN step. `kind`: bind, cache, tmpfs, secret, ssh. `options` in the order of their names."""

    kind: str
    target: str
    options: tuple[tuple[str, str], ...] = ()


class Service(NamedTuple):
    """A container that runs beside a RUN step, in the step's network, and answers there on ``127.0.0.1``.

    It starts from the tree of the node's input `position`; with `keep`, what it leaves is recorded for a ServiceData.
    `ready` is the line of output by which it says that it answers, empty where nobody waits. Its standard input is a
    pipe, whose end asks it to end itself. `given` is added to the step's environment, and so is the port where it
    listens, as `port_variable` (in the service's own: DBASE_PORT). With `password_variable` a random password is made
    for this one run: a line on the service's input, and in the step's environment under that name. `temporary`
    directories are fresh and not kept. One that is `told` starts when the others answer, and is told of them.
    """

    name: str
    position: int
    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    user: str
    ready: str
    port: int
    port_variable: str
    given: tuple[tuple[str, str], ...] = ()
    password_variable: str = ""
    temporary: tuple[str, ...] = ()
    keep: bool = True
    told: bool = False
    cwd: str = "/"


class Run(NamedTuple):
    """Run a command in the state. `user` and `cwd` as in the image configuration."""

    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    cwd: str = "/"
    user: str = ""
    network: str = "default"
    security: str = "sandbox"
    stdin: str = ""
    mounts: tuple[Mount, ...] = ()
    shell: tuple[str, ...] = ()
    services: tuple[Service, ...] = ()


class ServiceData(NamedTuple):
    """What the service `name` left beside a RUN step, which is the node's input."""

    name: str


class ContextSource(NamedTuple):
    """What a COPY takes from a named build context (``""`` is the main one)."""

    paths: tuple[str, ...]
    context: str = ""


class SnapshotSource(NamedTuple):
    """What a COPY takes from another snapshot: the node's input of that position."""

    paths: tuple[str, ...]
    position: int


class Fetch(NamedTuple):
    """What ADD fetches: `kind` is ``http`` (a file) or ``git`` (a repository's tree).

    `checksum` is the content's digest, or how the commit's begins; empty where none was given. `ref` is a branch, tag
    or commit, empty for the default branch.
    """

    kind: str
    location: str
    checksum: str = ""
    ref: str = ""
    keep_git_dir: bool = False


class RemoteSource(NamedTuple):
    """What an ADD takes of what the node's input `position` fetched: `path` there, `name` under which it lands."""

    path: str
    name: str
    position: int


class InlineSource(NamedTuple):
    """A file given in the definition itself (a heredoc)."""

    name: str
    text: str


Source: TypeAlias = ContextSource | SnapshotSource | RemoteSource | InlineSource


class Copy(NamedTuple):
    """Copy files into the state. `destination` is absolute; a trailing slash says directory.

    `unpack`: local tar archives are unpacked (ADD). `owner` and `mode` as written, empty when not given.
    """

    sources: tuple[Source, ...]
    destination: str
    owner: str = ""
    mode: str = ""
    unpack: bool = False
    parents: bool = False
    exclude: tuple[str, ...] = ()


class MakeDirectory(NamedTuple):
    """Make a directory and its parents (WORKDIR), mode 0755; nothing where it exists.

    `owner` is ``USER[:GROUP]``, empty for root.
    """

    path: str
    owner: str = ""


class PackageSource(NamedTuple):
    """What a package build reads: one or more files, by content, and what is done with them.

    `kind`: ``archive`` (unpacked into `into`, without its `strip` leading directories), ``file`` (laid there),
    ``debian`` (a distribution's source package: the files of a .dsc), ``patch``, ``install`` (a file of the package).
    Each of `files` is a name and what identifies its bytes: ``sha256:HEX``, or ``git:COMMIT``. `origins` say where
    they can be fetched and are no part of a key.
    """

    kind: str
    files: tuple[tuple[str, str], ...]
    into: str = "."
    strip: int = 1
    options: tuple[tuple[str, str], ...] = ()
    origins: tuple[str, ...] = ()


class PackageOwner(NamedTuple):
    """Owner and mode that a plain build can't make. `path` is a glob from the root; `mode` None leaves it."""

    path: str
    uid: int
    gid: int
    mode: int | None = None


class PackageUser(NamedTuple):
    """A user that the package's files or programs need, for passwd(5) and group(5) of what it is composed into."""

    name: str
    uid: int
    gid: int
    group: str
    home: str = "/"
    shell: str = "/usr/sbin/nologin"


class BuildPackage(NamedTuple):
    """Build a package. Inputs of its node: the toolchain, then each of `dependencies` in that order.

    `dependencies` name packages as ``CATEGORY/NAME-VERSION`` or ``debian/NAME=VERSION``; `runtime` are those of them
    that are needed when it runs. `phases` are shell scripts in their order, each with its arguments; `parts` are globs
    by the part's name, the first that matches takes a file. `epoch` is SOURCE_DATE_EPOCH, and every file's time.
    """

    name: str
    version: str
    platform: str
    sources: tuple[PackageSource, ...] = ()
    options: tuple[tuple[str, str], ...] = ()
    phases: tuple[tuple[str, str, tuple[str, ...]], ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    dependencies: tuple[str, ...] = ()
    runtime: tuple[str, ...] = ()
    parts: tuple[tuple[str, tuple[str, ...]], ...] = ()
    owners: tuple[PackageOwner, ...] = ()
    users: tuple[PackageUser, ...] = ()
    replaces: tuple[str, ...] = ()
    strip: bool = True
    jobs: int = 4
    epoch: int = 315532800
    summary: str = ""
    license: str = ""
    author: str = ""
    homepage: str = ""
    category: str = ""


class TestPackage(NamedTuple):
    """Run a package's tests where only it and its run-time closure are.

    Inputs: the package, its closure, and last the toolchain, of which the distribution's libraries are taken.
    """

    name: str
    commands: tuple[tuple[str, ...], ...]
    environment: tuple[tuple[str, str], ...] = ()


class ComposedPackage(NamedTuple):
    """A package as a container takes it. `name` is ``CATEGORY/NAME-VERSION`` or ``debian/NAME=VERSION``.

    Of its `parts` (globs by name, the first that matches takes a file) only those in `wanted`, and what is in none, are
    laid down. `replaces` names packages whose files it may take over, `base` for those of the state. `reason` says why
    it is there, and is no part of a key. `version` is where the name ends, empty for a distribution's.
    """

    name: str
    parts: tuple[tuple[str, tuple[str, ...]], ...] = ()
    wanted: tuple[str, ...] = ()
    replaces: tuple[str, ...] = ()
    users: tuple[PackageUser, ...] = ()
    reason: str = ""
    version: str = ""


class Compose(NamedTuple):
    """Lay packages into the state. Inputs of its node: the state, each of `packages`, then toolchains.

    Shared libraries that nothing has are taken from the distribution's packages in the toolchains. With `overlay` the
    result is the packages' own layers on top of each other, which takes an empty state and whole packages.
    """

    packages: tuple[ComposedPackage, ...]
    users: tuple[PackageUser, ...] = ()
    overlay: bool = False


class OnEngine(NamedTuple):
    """A step that an engine does in a build container; what it leaves stays there, under the step's key.

    The first input is the state that it starts from: another such node, or a tree of the store. `gate`: nothing stands
    on what it leaves, only that it passed counts.
    """

    engine: str
    step: Run | Copy | MakeDirectory
    gate: bool = False


class FromEngine(NamedTuple):
    """The tree of a state that an engine holds. Inputs: the state, and the tree with which its steps began.

    `mounts` are where something was mounted on the way: empty places that the engine made there are taken out again.
    They follow from the state, and are no part of a key.
    """

    engine: str
    mounts: tuple[str, ...] = ()


Step: TypeAlias = (
    Scratch
    | Base
    | Fetch
    | Run
    | Copy
    | MakeDirectory
    | BuildPackage
    | TestPackage
    | Compose
    | ServiceData
    | OnEngine
    | FromEngine
)
