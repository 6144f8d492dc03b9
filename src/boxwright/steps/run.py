"""RUN: a command in a sandbox over the state."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from boxwright.errors import StepError
from boxwright.model.digest import Digest
from boxwright.model.image import Snapshot
from boxwright.model.step import Run, Step
from boxwright.ports import Fields, Sandbox, SandboxSpec, StepControl, StepInputs, Workspace
from boxwright.steps.expect import expect, parent_of

if TYPE_CHECKING:
    from boxwright.steps.mounts import Mounted, RunMounts
    from boxwright.steps.services import Beside, Services

SHM_SIZE = 64 << 20


class RunConditions(NamedTuple):
    """What all RUN steps of a build are given beside their own.

    `proxies` are no part of a key. `time_in_key` is the build's time where the user gave it, who then means it to
    count. `hosts` are names and addresses; `limits` name, soft and hard value (setrlimit(2)); `shm_size` in bytes, 0
    for the default; `cgroup_parent` as in SandboxSpec, and no part of a key.
    """

    proxies: tuple[tuple[str, str], ...] = ()
    time_in_key: int | None = None
    hosts: tuple[tuple[str, str], ...] = ()
    limits: tuple[tuple[str, int, int], ...] = ()
    shm_size: int = 0
    cgroup_parent: str = ""


class RunKind:
    """RUN steps. `mounts` makes what is mounted for them; asked for only where a step has some, and so `services`."""

    def __init__(
        self,
        workspace: Workspace,
        sandbox: Sandbox,
        *,
        layers_directory: str,
        conditions: RunConditions,
        mounts: Callable[[], RunMounts],
        services: Callable[[], Services],
    ) -> None:
        self._workspace = workspace
        self._sandbox = sandbox
        self._layers_directory = layers_directory
        self._conditions = conditions
        self._mounts = mounts
        self._services = services

    def fields(self, step: Step, inputs: StepInputs) -> Fields | None:
        """The state and everything that the command is given."""
        if inputs.states[0] is None:
            return None
        run = expect(step, Run)
        mounted = self._mounts().fields(run.mounts, inputs) if run.mounts else ()
        if mounted is None:
            return None
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
            ("time", self._conditions.time_in_key),
            *mounted,
            *self._condition_fields(),
            *(self._services().fields(run, inputs) if run.services else ()),
        )

    def _condition_fields(self) -> Fields:
        """Each only where it was given. A host's address doesn't count: it differs where what it serves does not."""
        given = self._conditions
        fields: Fields = (
            ("hosts", tuple(name for name, _ in given.hosts)),
            ("limits", given.limits),
            ("shm size", given.shm_size),
        )
        return tuple(field for field in fields if field[1])

    def run(self, step: Step, key: Digest, inputs: StepInputs, control: StepControl) -> Snapshot:
        """Run the command and keep what it left."""
        run = expect(step, Run)
        if not run.mounts:
            return self._beside(run, key, inputs, control, None)
        with self._mounts().mounted(run, inputs, control) as mounted:
            try:
                return self._beside(run, key, inputs, control._replace(output=mounted.output), mounted)
            finally:
                mounted.flush()

    def _beside(
        self, run: Run, key: Digest, inputs: StepInputs, control: StepControl, mounted: Mounted | None
    ) -> Snapshot:
        """Run it beside its services, where there are any."""
        if not run.services:
            return self._run(run, key, inputs, control, mounted, None)
        with self._services().beside(run, key, inputs, control) as beside:
            return self._run(run, key, inputs, control._replace(output=beside.output), mounted, beside)

    def _run(
        self,
        run: Run,
        key: Digest,
        inputs: StepInputs,
        control: StepControl,
        mounted: Mounted | None,
        beside: Beside | None,
    ) -> Snapshot:
        parent = parent_of(inputs)
        with self._workspace.draft(parent) as draft:
            spec = self.spec(run, parent, control.epoch, upper=draft.upper, work=draft.work)
            if mounted is not None:
                spec = spec._replace(mounts=mounted.mounts, env=spec.env + mounted.env)
            if beside is not None:
                spec = beside.applied(spec)
            status = self._sandbox.run(spec, control.output, control.cancelled)
            if beside is not None:
                beside.ended()
            if control.cancelled():
                raise KeyboardInterrupt
            if status.code and beside is not None:
                beside.tell_logs()
            if status.code:
                raise StepError("step.failed", f"the command ended with exit status {status.code}", status=status.code)
            if beside is not None:
                beside.finish(draft.upper)
            return self._workspace.commit(key, parent, draft, newest=control.newest)

    def spec(self, run: Run, parent: Snapshot, epoch: int, *, upper: str, work: str) -> SandboxSpec:
        """What the sandbox is given for this step, but its mounts."""
        given = dict(run.env)
        conditions = self._conditions
        time = () if "SOURCE_DATE_EPOCH" in given else (("SOURCE_DATE_EPOCH", str(epoch)),)
        proxies = tuple(item for item in conditions.proxies if item[0] not in given)
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
            hosts=conditions.hosts,
            limits=conditions.limits,
            shm_size=conditions.shm_size or SHM_SIZE,
            cgroup_parent=conditions.cgroup_parent,
        )

    def state(self, key: Digest, snapshot: Snapshot | None) -> Digest | None:
        """The key: what a command leaves is known by what it was given."""
        return key
