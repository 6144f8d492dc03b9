"""What a RUN step mounts (the Dockerfile reference, "RUN --mount"): its key's fields, and the mounts themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from boxwright.errors import BoxwrightError
from boxwright.model.image import Snapshot
from boxwright.model.keys import key_of
from boxwright.model.step import ContextSource, Copy, Mount, Run, Scratch
from boxwright.model.tree import DIRECTORY, HARDLINK, Entry, Manifest, directory_entry, encode_root, manifest_of
from boxwright.ports import (
    Agents,
    Bind,
    Caches,
    CacheWanted,
    Contexts,
    Fields,
    SandboxMount,
    SecretFile,
    Secrets,
    StepControl,
    StepInputs,
    StepKind,
    Tmpfs,
    TreeMount,
    Workspace,
)
from boxwright.steps.expect import expect
from boxwright.steps.redaction import Redactor

SOCKETS = "/run/buildkit/ssh_agent"
"""Where BuildKit puts the sockets of agents."""

Options = Mapping[str, str]


class Mounted(NamedTuple):
    """What a step is given: mounts, variables, and where its output goes."""

    mounts: tuple[SandboxMount, ...]
    env: tuple[tuple[str, str], ...]
    output: Callable[[bytes], None]
    flush: Callable[[], None]


class Found(NamedTuple):
    """What lies at `path` of a tree."""

    manifest: Manifest
    path: str
    entry: Entry


class RunMounts:
    """Finds and makes what RUN steps of one build mount. `copy` and `scratch` are how those steps are done."""

    def __init__(
        self,
        workspace: Workspace,
        contexts: Contexts,
        *,
        copy: StepKind,
        scratch: StepKind,
        caches: Caches,
        secrets: Secrets,
        agents: Agents,
    ) -> None:
        self._workspace = workspace
        self._contexts = contexts
        self._copy = copy
        self._scratch = scratch
        self._caches = caches
        self._secrets = secrets
        self._agents = agents

    def fields(self, mounts: Sequence[Mount], inputs: StepInputs) -> Fields | None:
        """Trees by their content, and secrets where they count; None while a tree has not been built."""
        trees: list[tuple[str, str, int, str, str]] = []
        secrets: list[tuple[str, str]] = []
        for mount in mounts:
            options = dict(mount.options)
            if _has_tree(mount.kind, options):
                found = self._find(options, inputs)
                if found is None:
                    return None
                entry = found.entry
                content = entry.content if entry.kind == DIRECTORY else entry.data
                trees.append((mount.target, entry.kind, entry.mode, content, entry.xattrs))
            elif mount.kind == "secret" and (hashed := self._secrets.counted(options["id"])) is not None:
                secrets.append((options["id"], hashed))
        fields: Fields = (("trees", tuple(trees)), ("secrets", tuple(secrets)))
        return tuple(field for field in fields if field[1])

    @contextmanager
    def mounted(self, run: Run, inputs: StepInputs, control: StepControl) -> Iterator[Mounted]:
        """Everything that the step's mounts need, as long as it runs."""
        with ExitStack() as held:
            making = _Making(held, inputs, control, [], dict(run.env), [])
            wanted = self._wanted(run, inputs, control)
            directories = iter(held.enter_context(self._caches.held(wanted, control.cancelled)))
            for mount in run.mounts:
                options = dict(mount.options)
                if mount.kind == "cache":
                    read_only = options.get("readonly") == "true"
                    making.mounts.append(Bind(next(directories), mount.target, read_only))
                elif mount.kind == "bind":
                    making.mounts.append(self._tree(mount, options, making))
                elif mount.kind == "tmpfs":
                    making.mounts.append(Tmpfs(mount.target, size=int(options.get("size", "0"))))
                elif mount.kind == "secret":
                    self._secret(mount, options, making)
                else:
                    self._agent(mount, options, making)
            env = tuple(item for item in making.env.items() if item not in run.env)
            redactor = Redactor(making.secrets, control.output)
            ordered = sorted(making.mounts, key=lambda mount: mount.target)  # what lies below another comes after it
            yield Mounted(tuple(ordered), env, redactor.write, redactor.flush)

    def _wanted(self, run: Run, inputs: StepInputs, control: StepControl) -> list[CacheWanted]:
        wanted: list[CacheWanted] = []
        for mount in run.mounts:
            if mount.kind != "cache":
                continue
            options = dict(mount.options)
            seed = None
            if _has_tree(mount.kind, options):
                found = _expected(self._find(options, inputs))
                if found.entry.kind != DIRECTORY:
                    message = f"/{found.path} is no directory, which a cache begins with"
                    raise BoxwrightError("mount.no-directory", message)
                seed = self._snapshot(options, found, inputs, control)
            owner = {name: int(options[name]) for name in ("uid", "gid") if name in options}
            mode = int(options.get("mode", "755"), 8)
            wanted.append(CacheWanted(options["id"], options.get("sharing", "shared"), mode, **owner, seed=seed))
        return wanted

    def _find(self, options: Options, inputs: StepInputs) -> Found | None:
        """What a mount shows, links followed inside its tree; None while that has not been built."""
        if "position" in options:
            snapshot = inputs.snapshots[int(options["position"])]
            if snapshot is None:
                return None
            manifest = snapshot.manifest
        else:
            link = self._contexts.tree(options.get("context", "")).link
            manifest = manifest_of(self._workspace.put(encode_root(directory_entry("", 0o755, 0, link))))
        source = options.get("source", "")
        located = self._workspace.locate(manifest, source)
        if located.entry is not None and located.entry.kind == HARDLINK:
            located = self._workspace.locate(manifest, located.entry.data, follow=False)
        if located.entry is None:
            raise BoxwrightError(
                "mount.not-found",
                f"{source!r} is not there",
                hint="see that the path is relative to the build context and that no .dockerignore rule leaves it out",
            )
        return Found(manifest, located.path, located.entry)

    def _tree(self, mount: Mount, options: Options, making: _Making) -> TreeMount:
        found = _expected(self._find(options, making.inputs))
        is_directory = found.entry.kind == DIRECTORY
        snapshot, path = self._snapshot(options, found, making.inputs, making.control)
        if options.get("readonly") != "false":
            return TreeMount(snapshot.layers, path, mount.target, is_directory)
        thrown_away = making.held.enter_context(self._workspace.draft(snapshot))
        return TreeMount(snapshot.layers, path, mount.target, is_directory, thrown_away.upper, thrown_away.work)

    def _snapshot(
        self, options: Options, found: Found, inputs: StepInputs, control: StepControl
    ) -> tuple[Snapshot, str]:
        """A snapshot that holds what was found, and its path there."""
        if "position" in options:
            return expect(inputs.snapshots[int(options["position"])], Snapshot), found.path
        return self._copied(options.get("context", ""), found, control)

    def _copied(self, context: str, found: Found, control: StepControl) -> tuple[Snapshot, str]:
        """A part of a build context as a snapshot of its own, as it was when its content was read for the key."""
        nothing = StepInputs((), ())
        empty = key_of("Scratch", expect(self._scratch.fields(Scratch(), nothing), tuple))
        scratch = self._workspace.snapshot(empty) or self._scratch.run(Scratch(), empty, nothing, control)
        place = str(key_of("place", (("context", context), ("path", found.path))))[-12:]
        step = Copy((ContextSource((found.path or "/",), context),), f"/{place}/")
        inputs = StepInputs((empty,), (scratch,))
        key = key_of("Copy", expect(self._copy.fields(step, inputs), tuple))
        snapshot = self._workspace.snapshot(key) or self._copy.run(step, key, inputs, control)
        return snapshot, place if found.entry.kind == DIRECTORY else f"{place}/{found.path.rpartition('/')[2]}"

    def _secret(self, mount: Mount, options: Options, making: _Making) -> None:
        name = options["id"]
        value = self._secrets.value(name)
        if value is None:
            if options.get("required") == "true":
                message = f"the secret {name!r} was not given"
                raise BoxwrightError("secret.missing", message, hint=f"give it with --secret id={name},src=FILE")
            return
        making.secrets.append(value)
        if mount.target:
            mode = int(options.get("mode", "400"), 8)
            owner = (int(options.get("uid", "0")), int(options.get("gid", "0")))
            making.mounts.append(SecretFile(mount.target, value, mode, *owner))
        if "env" in options:
            if b"\0" in value:
                raise BoxwrightError("secret.not-text", f"the secret {name!r} holds a NUL byte, which no variable can")
            making.env[options["env"]] = value.decode("utf-8", "surrogateescape")

    def _agent(self, mount: Mount, options: Options, making: _Making) -> None:
        """The first one's socket is what SSH_AUTH_SOCK names, also where there is no agent (as with BuildKit)."""
        target = mount.target or f"{SOCKETS}.{making.agents}"
        making.agents += 1
        making.env.setdefault("SSH_AUTH_SOCK", target)
        name = options.get("id") or "default"
        owner = (int(options.get("uid", "0")), int(options.get("gid", "0")))
        path = making.held.enter_context(self._agents.socket(name, int(options.get("mode", "600"), 8), *owner))
        if path is not None:
            making.mounts.append(Bind(path, target))
        elif options.get("required") == "true":
            message = f"there is no SSH agent {name!r} for this build"
            hint = f"give it with --ssh {name}, or --ssh {name}=SOCKET or KEY"
            raise BoxwrightError("ssh.missing", message, hint=hint)


class _Making:
    """Mounts that are being made for one step."""

    def __init__(
        self,
        held: ExitStack,
        inputs: StepInputs,
        control: StepControl,
        mounts: list[SandboxMount],
        env: dict[str, str],
        secrets: list[bytes],
    ) -> None:
        self.held = held
        self.inputs = inputs
        self.control = control
        self.mounts = mounts
        self.env = env
        self.secrets = secrets
        self.agents = 0


def _has_tree(kind: str, options: Options) -> bool:
    return kind == "bind" or (kind == "cache" and ("position" in options or "context" in options))


def _expected(found: Found | None) -> Found:
    return expect(found, Found)
