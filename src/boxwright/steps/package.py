"""BuildPackage: an action in a sandbox becomes an archive, and the archive a snapshot with a record."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Protocol

from boxwright.errors import StepError
from boxwright.model.digest import Digest
from boxwright.model.giturl import without_password
from boxwright.model.image import Snapshot
from boxwright.model.package import PackageRecord
from boxwright.model.step import BuildPackage, PackageSource, Step
from boxwright.ports import ActionSpec, ExitStatus, Fields, StepControl, StepInputs, TreeFile, Workspace
from boxwright.steps import action
from boxwright.steps.expect import expect
from boxwright.steps.plain import PlainLayers

RunAction = Callable[[ActionSpec, Callable[[bytes], None], Callable[[], bool]], ExitStatus]


class Sources(Protocol):
    """Brings what a build reads."""

    def provide(self, source: PackageSource, index: int, output: Callable[[bytes], None]) -> str:
        """The path of one of the source's files, fetched and checked. Raises FetchError."""
        ...


class Records(Protocol):
    """Keeps what was built."""

    def keep(self, package: PackageRecord) -> None:
        """Record a package."""
        ...

    def keep_archive(self, path: str) -> Digest:
        """Keep a package's tar; returns its digest."""
        ...

    def adding(self) -> AbstractContextManager[str]:
        """A path for a new file of the store."""
        ...


class Trees(Workspace, Protocol):
    """The store, with what reads a snapshot."""

    def walk(self, snapshot: Snapshot) -> Iterator[TreeFile]:
        """Every path of a snapshot."""
        ...


class BuildPackageKind:
    """BuildPackage steps."""

    def __init__(
        self,
        workspace: Trees,
        records: Records,
        sources: Sources,
        run_action: RunAction,
        unpack: Callable[[str, str], None],
        layers_directory: str,
    ) -> None:
        self._workspace = workspace
        self._records = records
        self._sources = sources
        self._run_action = run_action
        self._unpack = unpack
        self._layers_directory = layers_directory
        self._plain = PlainLayers(workspace)

    def fields(self, step: Step, inputs: StepInputs) -> Fields | None:
        """Everything that the build is given. Where sources are fetched from doesn't count, nor how they are kept."""
        if None in inputs.states:
            return None
        package = expect(step, BuildPackage)
        given = package._asdict()
        given["sources"] = tuple(tuple(source[:-1]) for source in package.sources)
        given["owners"] = tuple(map(tuple, package.owners))
        given["users"] = tuple(map(tuple, package.users))
        given["dependencies"] = tuple(zip(package.dependencies, inputs.states[1:], strict=True))
        return (("format", action.FORMAT), ("toolchain", inputs.states[0]), *given.items())

    def run(self, step: Step, key: Digest, inputs: StepInputs, control: StepControl) -> Snapshot:
        """Build it."""
        package = expect(step, BuildPackage)
        with self._workspace.draft(None) as draft:
            place = f"{draft.directory}/build"
            try:
                spec = self.prepare(package, inputs, place, control.output)
                status = self._run_action(spec, control.output, control.cancelled)
                if control.cancelled():
                    raise KeyboardInterrupt
                if status.server:
                    control.placed(status.server, status.found)
                if status.code:
                    raise StepError(
                        "package.failed", f"the build ended with exit status {status.code}", status=status.code
                    )
                tar = f"{place}/work/{action.OUTPUT}"
                self._unpack(tar, draft.upper)
                archive = self._records.keep_archive(tar)
            finally:
                remove(place)
            snapshot = self._workspace.commit(key, None, draft, newest=None)
        definition = inputs.definition or key
        record = self._record(package, inputs, definition, key, archive, snapshot)
        self._records.keep(PackageRecord(key, definition, record["name"], archive, record))
        return snapshot

    def prepare(
        self,
        package: BuildPackage,
        inputs: StepInputs,
        place: str,
        output: Callable[[bytes], None],
        stop: tuple[str, str] | None = None,
    ) -> ActionSpec:
        """Lay out what the action is given below `place`. With `stop` it opens a shell there (see `action.script`)."""
        for name in ("", "root", "work", *(f"work/{name}" for name in action.DIRECTORIES)):
            os.mkdir(f"{place}/{name}")
            os.chmod(f"{place}/{name}", 0o755)  # noqa: S103 - whatever the caller's umask
        for name, text in (*action.phase_files(package), ("run", action.script(package, stop))):
            with open(f"{place}/work/action/{name}", "w", encoding="utf-8", errors="surrogateescape") as file:
                file.write(text)
        read_only = tuple(
            (self._sources.provide(source, index, output), f"/build/sources/{action.source_name(number, name)}")
            for number, source in enumerate(package.sources)
            for index, (name, _) in enumerate(source.files)
        )
        toolchain, *others = [expect(snapshot, Snapshot) for snapshot in inputs.snapshots]
        seen = [self._plain.lay(snapshot, f"{place}/plain-{number}") for number, snapshot in enumerate(others)]
        layers = tuple(dict.fromkeys(layer for chain in (*seen, toolchain.layers) for layer in chain))
        if any(source.kind == "patch" for source in package.sources):
            self._require_patch(layers)
        return ActionSpec(
            self._layers_directory,
            layers,
            f"{place}/work",
            f"{place}/root",
            # One stream, so that a server which keeps two shows what came after what too.
            ("/bin/sh", "/build/action/run") if stop else ("/bin/sh", "-c", "exec /bin/sh /build/action/run 2>&1"),
            action.environment(package),
            read_only,
            interactive=stop is not None,
            snapshots=(*others, toolchain),
            output=action.OUTPUT,
        )

    def _require_patch(self, layers: tuple[str, ...]) -> None:
        places = ("usr/bin", "bin", "usr/local/bin")
        if not any(
            os.path.lexists(f"{self._layers_directory}/{layer}/{at}/patch") for layer in layers for at in places
        ):
            failure = StepError("package.no-patch", "the toolchain has no `patch`, and there are patches", status=1)
            failure.hint = "`toolchain: {packages: [patch, ...]}` adds it"
            raise failure

    def _record(
        self,
        package: BuildPackage,
        inputs: StepInputs,
        definition: Digest,
        key: Digest,
        archive: Digest,
        snapshot: Snapshot,
    ) -> dict[str, Any]:
        from boxwright.steps.contents import contents

        found = contents(package, self._workspace.walk(snapshot))
        return {
            "format": action.FORMAT,
            "name": f"{package.category}/{package.name}-{package.version}".lstrip("/"),
            "version": package.version,
            "platform": package.platform,
            "definition": definition,
            "key": key,
            "archive": archive,
            "content": snapshot.manifest.content,
            "size": sum(item.get("size", 0) for item in found["files"]),
            "toolchain": inputs.states[0],
            "dependencies": dict(zip(package.dependencies, inputs.states[1:], strict=True)),
            **described(package),
            **found,
        }

    def state(self, key: Digest, snapshot: Snapshot | None) -> Digest | None:
        """The content: a package that is built again to the same bytes changes nothing above it."""
        return snapshot.manifest.content if snapshot else None


def described(package: BuildPackage) -> dict[str, Any]:
    """The step's own fields, as JSON has them; nobody else is told of passwords and this machine's paths."""
    given = package._asdict()
    for name in ("dependencies", "version", "platform"):
        del given[name]
    given["package"] = given.pop("name")
    given["sources"] = [source._asdict() for source in package.sources]
    for source in given["sources"]:
        origins = [origin for origin in source["origins"] if not origin.startswith("local:")]
        source["origins"] = [without_password(origin) for origin in origins]
    given["owners"] = [owner._asdict() for owner in package.owners]
    given["users"] = [user._asdict() for user in package.users]
    return given


def remove(directory: str) -> None:
    """Remove what a build left, also directories that it made unreadable."""
    import shutil

    shutil.rmtree(directory, ignore_errors=True)
