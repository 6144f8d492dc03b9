"""RUN: a command in a sandbox over the state."""

from __future__ import annotations

from boxwright.errors import DefinitionError, StepError
from boxwright.model.digest import Digest
from boxwright.model.image import Snapshot
from boxwright.model.step import Mount, Run, Step
from boxwright.ports import Fields, Sandbox, SandboxSpec, StepControl, StepInputs, Tmpfs, Workspace
from boxwright.steps.expect import expect, parent_of


class RunKind:
    """RUN steps.

    `proxies` are given to the command and are no part of a key. `epoch_in_key` is the build's time where the user
    gave it, who then means it to count.
    """

    def __init__(
        self,
        workspace: Workspace,
        sandbox: Sandbox,
        *,
        layers_directory: str,
        proxies: tuple[tuple[str, str], ...],
        epoch_in_key: int | None,
    ) -> None:
        self._workspace = workspace
        self._sandbox = sandbox
        self._layers_directory = layers_directory
        self._proxies = proxies
        self._epoch_in_key = epoch_in_key

    def fields(self, step: Step, inputs: StepInputs) -> Fields | None:
        """The state and everything that the command is given."""
        if inputs.states[0] is None:
            return None
        run = expect(step, Run)
        return (
            ("state", inputs.states[0]),
            ("command", run.argv),
            ("environment", run.env),
            ("directory", run.cwd),
            ("user", run.user),
            ("network", run.network),
            ("security", run.security),
            ("input", run.stdin),
            ("mounts", tuple((mount.kind, mount.target, mount.options) for mount in run.mounts)),
            ("time", self._epoch_in_key),
        )

    def run(self, step: Step, key: Digest, inputs: StepInputs, control: StepControl) -> Snapshot:
        """Run the command and keep what it left."""
        parent = parent_of(inputs)
        run = expect(step, Run)
        with self._workspace.draft(parent) as draft:
            spec = self.spec(run, parent, control.epoch, upper=draft.upper, work=draft.work)
            status = self._sandbox.run(spec, control.output, control.cancelled)
            if control.cancelled():
                raise KeyboardInterrupt
            if status.code:
                raise StepError("step.failed", f"the command ended with exit status {status.code}", status=status.code)
            return self._workspace.commit(key, parent, draft, newest=control.newest)

    def spec(self, run: Run, parent: Snapshot, epoch: int, *, upper: str, work: str) -> SandboxSpec:
        """What the sandbox is given for this step."""
        given = dict(run.env)
        time = () if "SOURCE_DATE_EPOCH" in given else (("SOURCE_DATE_EPOCH", str(epoch)),)
        proxies = tuple(item for item in self._proxies if item[0] not in given)
        return SandboxSpec(
            layers_directory=self._layers_directory,
            lowers=parent.layers,
            upper=upper,
            work=work,
            argv=run.argv,
            env=run.env + time + proxies,
            cwd=run.cwd,
            user=run.user,
            network=run.network,
            security=run.security,
            stdin=run.stdin.encode(),
            mounts=tuple(_mount(mount) for mount in run.mounts),
        )

    def state(self, key: Digest, snapshot: Snapshot | None) -> Digest | None:
        """The key: what a command leaves is known by what it was given."""
        return key


def _mount(mount: Mount) -> Tmpfs:
    options = dict(mount.options)
    if mount.kind != "tmpfs":
        raise DefinitionError("recipe.not-yet", f"RUN --mount=type={mount.kind} is not supported yet")
    return Tmpfs(mount.target, size=int(options.get("size", "0")))
