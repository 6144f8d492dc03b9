"""What a manifest may say: the one description that checks it, and that editors get as JSON Schema."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from boxwright.frontends.container.schema import Absolute, Owner, PackageTask
from boxwright.frontends.package.schema import Mode, Part, Texts, Variable

VariableName = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="letters, digits and _")]
ServiceName = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]*$", description="lower case letters, digits and _")]
PortText = Annotated[str, Meta(pattern=r"^(\d{1,5}:)?\d{1,5}(/(tcp|udp))?$", description="[HOST:]CONTAINER[/tcp|/udp]")]
Network = Literal["none", "default", "host"]
Number = Annotated[int, Meta(ge=1, le=65535)]


class Condition(Part, frozen=True, kw_only=True):
    """A task that may be left out. `when` is an expression of Jinja2."""

    when: str = ""


class FileTask(Condition, frozen=True, kw_only=True):
    """Copy a file, or a directory with all in it, from beside the file that names it."""

    src: str
    dest: Absolute
    mode: Mode = ""
    owner: Owner = ""


class TemplateTask(FileTask, frozen=True, kw_only=True):
    """Render a file with the variables, facts and key/value data."""


class ManifestPackage(PackageTask, frozen=True, kw_only=True):
    """A package, as in container.yaml."""

    when: str = ""


class ModuleUse(Condition, frozen=True, kw_only=True):
    """A module, and what its parameters are."""

    name: str
    version: str = ""
    from_: str = msgspec.field(default="", name="from")
    vars: dict[str, Any] = msgspec.field(default_factory=dict)


class CommandTask(Condition, frozen=True, kw_only=True):
    """A command. Text is given to the shell; a list of texts is run as it is."""

    run: str | Texts
    user: str | None = None
    directory: Absolute = ""
    environment: dict[Variable, str] = msgspec.field(default_factory=dict)
    network: Network | None = None


class InstallTask(Condition, frozen=True, kw_only=True):
    """One of `run`, `apt` (packages of Debian), `file`, `template`, `package`, `module` and `mkdir` (a directory)."""

    run: str | Texts | None = None
    apt: Texts | None = None
    file: FileTask | None = None
    template: TemplateTask | None = None
    package: ManifestPackage | None = None
    module: ModuleUse | None = None
    mkdir: Absolute | None = None
    user: str | None = None
    directory: Absolute = ""
    environment: dict[Variable, str] = msgspec.field(default_factory=dict)
    network: Network | None = None


class ScriptTask(Condition, frozen=True, kw_only=True):
    """A validation on a branch of its own. The commands of a list are run one after the other on the same branch."""

    run: str | Texts
    name: str = ""
    user: str | None = None
    directory: Absolute = ""
    environment: dict[Variable, str] = msgspec.field(default_factory=dict)
    network: Network | None = None


class Ready(Part, frozen=True, kw_only=True):
    """How a service says that it answers: it listens on a port, or a command in its container succeeds."""

    port: Number | None = None
    command: str = ""


class ServiceUse(Part, frozen=True, kw_only=True):
    """A container that runs beside the commands. `type` is one of the known kinds, else `image` says what it is."""

    type: str = ""
    version: str = ""
    image: str = ""
    command: str | Texts = ()
    environment: dict[Variable, str] = msgspec.field(default_factory=dict)
    port: Number | None = None
    user: str | None = None
    ready: Ready = Ready()


class TestPart(Part, frozen=True, kw_only=True):
    """The built image is started beside the services, and the commands are run against it."""

    commands: tuple[str | ScriptTask, ...] = ()
    services: dict[ServiceName, str | ServiceUse] | tuple[str, ...] = ()
    image: str = ""
    name: ServiceName = "app"
    start: bool = True
    command: str | Texts = ()
    environment: dict[Variable, str] = msgspec.field(default_factory=dict)
    ready: Ready = Ready()


class Toolbox(Part, frozen=True, kw_only=True):
    """A directory, an image, or (`facts: true`) the program `facts`, that commands see read-only."""

    src: str = ""
    image: str = ""
    facts: bool = False
    dest: Absolute = "/toolbox"


class KeyValue(Part, frozen=True, kw_only=True):
    """Where `kv` comes from: a YAML file, a Consul or an etcd server. `token-env` names a variable with a token."""

    yaml: str = ""
    consul: str = ""
    etcd: str = ""
    prefix: str = ""
    token_env: str = ""


class Language(Part, frozen=True, kw_only=True):
    """A language with its version."""

    name: str
    version: str = ""


class SourcePart(Part, frozen=True, kw_only=True):
    """Where the project itself goes."""

    dest: Absolute = "/srv/app"
    owner: Owner = ""
    exclude: Texts = ()


class Health(Part, frozen=True, kw_only=True):
    """How the running image is asked whether it is well. Times such as 30s or 1m."""

    command: str | Texts
    interval: str = ""
    timeout: str = ""
    start_period: str = ""
    retries: int = 0


class Tasks(Part, frozen=True, kw_only=True):
    """What a manifest and a module have in common."""

    modules: tuple[ModuleUse, ...] = ()
    files: tuple[FileTask, ...] = ()
    templates: tuple[TemplateTask, ...] = ()
    packages: tuple[ManifestPackage, ...] = ()
    install: tuple[str | InstallTask, ...] = ()
    script: tuple[str | ScriptTask, ...] = ()
    env: dict[Variable, str] = msgspec.field(default_factory=dict)
    ports: tuple[PortText, ...] = ()
    expose: tuple[PortText, ...] = ()
    volumes: tuple[Absolute, ...] = ()
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    command: str | Texts | None = None
    entrypoint: str | Texts | None = None
    user: str | None = None
    directory: Absolute | None = None
    stop_signal: str = ""
    healthcheck: Health | None = None
    shell: Texts = ()


class Manifest(Tasks, frozen=True, kw_only=True):
    """A manifest."""

    language: str | Language | None = None
    image: str = ""
    include: Texts = ()
    vars: dict[VariableName, Any] = msgspec.field(default_factory=dict)
    matrix: dict[VariableName, Texts] | tuple[dict[str, str], ...] = ()
    kv: KeyValue | None = None
    source: str | SourcePart | None = None
    toolbox: str | Toolbox | tuple[Toolbox, ...] = ()
    services: dict[ServiceName, str | ServiceUse] | tuple[str, ...] = ()
    test: TestPart | None = None
    artifact: str | Texts = ()
    author: str = ""


class Parameter(Part, frozen=True, kw_only=True):
    """A parameter of a module. Without `default` it must be given."""

    type: Literal["text", "int", "bool", "choice", "list", "mapping"] = "text"
    summary: str
    default: Any = None
    values: Texts = ()
    minimum: int | None = None
    maximum: int | None = None
    pattern: str = ""


class Module(Tasks, frozen=True, kw_only=True):
    """A module: module.yaml."""

    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9+._-]*(/[a-z0-9][a-z0-9+._-]*)?$", description="CATEGORY/NAME")]
    version: Annotated[str, Meta(pattern=r"^\d+(\.\d+){0,3}$", description="numbers with dots, such as 1.2.0")]
    summary: str
    parameters: dict[VariableName, Parameter] = msgspec.field(default_factory=dict)


def json_schema() -> dict[str, object]:
    """The JSON Schema of a manifest (draft 2020-12)."""
    schema = msgspec.json.schema(Manifest)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "manifest.yaml", **schema}


def module_schema() -> dict[str, object]:
    """The JSON Schema of a module.yaml."""
    schema = msgspec.json.schema(Module)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "module.yaml", **schema}
