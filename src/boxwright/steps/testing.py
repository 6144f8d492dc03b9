"""TestPackage: a package's own tests, where only it and its run-time closure are.

The closure is what it declares, and the shared libraries that it is linked with. The last input of a node is the
toolchain, of which the distribution's libraries are taken.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Protocol

from boxwright.errors import StepError
from boxwright.model.change import Difference
from boxwright.model.digest import Digest
from boxwright.model.image import Snapshot
from boxwright.model.step import Step, TestPackage
from boxwright.ports import ActionSpec, ExitStatus, Fields, StepControl, StepInputs, Workspace
from boxwright.steps.distribution import Distribution, Reader, libraries_of
from boxwright.steps.expect import expect
from boxwright.steps.package import remove

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DIRECTORIES = ("proc", "dev", "tmp", "sys", "run", "etc", "usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "root")
SHELL = "/bin/sh"
LINKS = ("bin", "sbin", "lib", "lib64")
ACCOUNTS = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nbuild:x:1000:1000:build:/tmp:/bin/sh\n",
    "etc/group": "root:x:0:\nbuild:x:1000:\n",
}
"""Who a test runs as has a name, which programs such as initdb ask for."""


class Trees(Workspace, Reader, Protocol):
    """The store, with what reads a snapshot."""


class TestPackageKind:
    """TestPackage steps. What is recorded is that it passed: an empty tree."""

    def __init__(
        self,
        workspace: Trees,
        run_action: Callable[[ActionSpec, Callable[[bytes], None], Callable[[], bool]], ExitStatus],
        layers_directory: str,
    ) -> None:
        self._workspace = workspace
        self._run_action = run_action
        self._layers_directory = layers_directory

    def fields(self, step: Step, inputs: StepInputs) -> Fields | None:
        """The commands, and everything that is there."""
        if None in inputs.states:
            return None
        test = expect(step, TestPackage)
        return (*test._asdict().items(), ("packages", inputs.states))

    def run(self, step: Step, key: Digest, inputs: StepInputs, control: StepControl) -> Snapshot:
        """Run the commands, one after the other."""
        test = expect(step, TestPackage)
        *snapshots, toolchain = [expect(snapshot, Snapshot) for snapshot in inputs.snapshots]
        with self._workspace.draft(None) as draft:
            place = f"{draft.directory}/test"
            try:
                lowers = tuple(dict.fromkeys(layer for snapshot in snapshots for layer in snapshot.layers))
                _lay_out(place)
                self._lay_libraries(test, snapshots, toolchain, place)
                for command in test.commands:
                    spec = ActionSpec(
                        self._layers_directory,
                        (*lowers, f"{place}/skeleton"),
                        "",
                        f"{place}/root",
                        command,
                        (("HOME", "/tmp"), ("LANG", "C.UTF-8"), ("PATH", PATH), ("TZ", "UTC"), *test.environment),  # noqa: S108
                        cwd="/tmp",  # noqa: S108 - the sandbox's own
                    )
                    self._run_one(spec, command, control)
            finally:
                remove(place)
            return self._workspace.commit(key, None, draft, newest=0, difference=Difference({}))

    def _lay_libraries(self, test: TestPackage, snapshots: list[Snapshot], toolchain: Snapshot, place: str) -> None:
        """The libraries that nothing in the closure has: those of the distribution that it was built with.

        Commands for a shell have one beside them, which brings nothing but the C library.
        """
        libraries = libraries_of(self._workspace, snapshots)
        distribution = Distribution(self._workspace, toolchain)
        packages = dict.fromkeys(distribution.providers(libraries.needed, libraries.provided))
        if any(command[0] == SHELL for command in test.commands) and "sh" not in libraries.provided:
            for name in (distribution.package_of(shell) for shell in ("dash", "sh")):
                if name is not None:
                    packages[name] = None
                    packages.update(dict.fromkeys(distribution.providers(("libc.so.6",), libraries.provided)))
                    break
        for package in packages:
            distribution.lay(package, f"{place}/skeleton")

    def _run_one(self, spec: ActionSpec, command: tuple[str, ...], control: StepControl) -> None:
        control.output(f"$ {' '.join(command)}\n".encode())
        status = self._run_action(spec, control.output, control.cancelled)
        if control.cancelled():
            raise KeyboardInterrupt
        if status.code:
            raise StepError(
                "package.test-failed",
                f"the test {' '.join(command)!r} ended with exit status {status.code}",
                status=status.code,
            )

    def state(self, key: Digest, snapshot: Snapshot | None) -> Digest | None:
        """The key."""
        return key


def _lay_out(place: str) -> None:
    """The lowest layer of what a test sees: mount points, and the links that every system has beside /usr."""
    for name in DIRECTORIES:
        os.makedirs(f"{place}/skeleton/{name}", exist_ok=True)
    for name in LINKS:
        os.symlink(f"usr/{name}", f"{place}/skeleton/{name}")
    for name, text in ACCOUNTS.items():
        with open(f"{place}/skeleton/{name}", "w", encoding="ascii") as file:
            file.write(text)
        os.chmod(f"{place}/skeleton/{name}", 0o644)
    os.mkdir(f"{place}/root")
