"""Services beside RUN steps: started before the command, in its network, and stopped before the step is recorded."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from boxwright.errors import BoxwrightError
from boxwright.model.change import Draft
from boxwright.model.digest import Digest
from boxwright.model.image import Snapshot
from boxwright.model.keys import data_fields, key_of
from boxwright.model.step import Run, Service, ServiceData, Step
from boxwright.ports import (
    Fields,
    RunningService,
    SandboxSpec,
    ServiceHost,
    StepControl,
    StepInputs,
    Tmpfs,
    Workspace,
)
from boxwright.steps.expect import expect
from boxwright.steps.leaks import find_leak
from boxwright.steps.redaction import Redactor

LOOPBACK = "127.0.0.1"
LOG_LINES = 20


class _Started(NamedTuple):
    service: Service
    parent: Snapshot
    draft: Draft
    running: RunningService
    port: int
    password: str


class Beside:
    """The services beside one step, which all answer."""

    def __init__(
        self, workspace: Workspace, key: Digest, network: str, started: list[_Started], control: StepControl
    ) -> None:
        self._workspace = workspace
        self._key = key
        self._network = network
        self._started = started
        self._control = control
        passwords = [it.password.encode() for it in started if it.password]
        self._redactor = Redactor(passwords, control.output)
        self.output: Callable[[bytes], None] = self._redactor.write

    def applied(self, spec: SandboxSpec) -> SandboxSpec:
        """`spec` in the services' network, with what the command is told of them."""
        env = tuple(item for it in self._started for item in _told(it))
        hosts = tuple((it.service.name.lower(), LOOPBACK) for it in self._started)
        return spec._replace(env=spec.env + env, hosts=spec.hosts + hosts, network=self._network)

    def ended(self) -> None:
        """The command has ended: hand on the rest of its output."""
        self._redactor.flush()

    def tell_logs(self) -> None:
        """Show the end of what each service wrote: the command failed, and they may know why."""
        for started in self._started:
            lines = [it for it in started.running.said().splitlines() if it.strip()][-LOG_LINES:]
            if lines:
                head = f"the end of what {started.service.name.lower()} wrote:".encode()
                self._redactor.write(b"".join(b"%s\n" % line for line in (head, *(b"  " + it for it in lines))))
        self._redactor.flush()

    def finish(self, upper: str) -> None:
        """Stop the services and record what they leave. `upper` is what the command left.

        Raises BoxwrightError `dbase.password-in-tree` or `dbase.password-in-data` where a password was kept.
        """
        passwords = {it.password.encode(): it.service.password_variable for it in self._started if it.password}
        if leak := find_leak(upper, passwords):
            hint = f"each start has a password of its own: let the program read {leak.name} from its environment"
            message = f"/{leak.path} holds the build's password ({leak.name})"
            raise BoxwrightError("dbase.password-in-tree", message, hint=hint)
        for started in self._started:
            started.running.stop(self._control.cancelled)
        for started in self._started:
            if started.service.keep:
                self._keep(started, passwords)

    def _keep(self, started: _Started, passwords: dict[bytes, str]) -> None:
        if leak := find_leak(started.draft.upper, passwords):
            hint = f"each start has a password of its own: let the program read {leak.name} from its environment"
            message = f"what the step wrote into {started.service.name} holds the build's password ({leak.name})"
            raise BoxwrightError("dbase.password-in-data", message, hint=hint)
        key = key_of(ServiceData.__name__, data_fields(self._key, started.service.name))
        self._workspace.commit(key, started.parent, started.draft, newest=self._control.newest)


class Services:
    """Starts services."""

    def __init__(self, workspace: Workspace, host: ServiceHost, layers_directory: str) -> None:
        self._workspace = workspace
        self._host = host
        self._layers_directory = layers_directory

    @staticmethod
    def fields(run: Run, inputs: StepInputs) -> Fields:
        """What services add to a step's key: what they start from, and what the command is told of them."""
        described = tuple(
            (
                *(it.name, inputs.states[it.position], it.argv, it.env, it.user, it.port, it.given),
                it.password_variable,
                *((it.cwd,) if it.cwd != "/" else ()),
                *((it.told,) if it.told else ()),
            )
            for it in run.services
        )
        return (("services", described),)

    @contextmanager
    def beside(self, run: Run, key: Digest, inputs: StepInputs, control: StepControl) -> Iterator[Beside]:
        """Start the services of `run` and wait until they answer. Afterwards none of them runs."""
        with ExitStack() as stack:
            network = stack.enter_context(self._host.network(run.network, run.security))
            started: list[_Started] = []
            for told in (False, True):
                now = [service for service in run.services if service.told == told]
                env = tuple(item for it in started for item in _told(it)) if told else ()
                group = [self._start(stack, service, run, network, inputs, env) for service in now]
                for item in group:
                    item.running.await_ready(control.cancelled)
                started += group
            yield Beside(self._workspace, key, network, started, control)

    def _start(
        self,
        stack: ExitStack,
        service: Service,
        run: Run,
        network: str,
        inputs: StepInputs,
        told: tuple[tuple[str, str], ...],
    ) -> _Started:
        kind = run.network
        parent = expect(inputs.snapshots[service.position], Snapshot)
        draft = stack.enter_context(self._workspace.draft(parent))
        port = service.port if kind in ("none", "default") else _free_port()
        password = secrets.token_hex(20) if service.password_variable else ""
        spec = SandboxSpec(
            layers_directory=self._layers_directory,
            lowers=parent.layers,
            upper=draft.upper,
            work=draft.work,
            argv=service.argv,
            env=(*service.env, *told, ("DBASE_PORT", str(port))),
            cwd=service.cwd,
            hosts=tuple((it.name.lower(), LOOPBACK) for it in run.services),
            user=service.user,
            hostname=service.name.lower(),
            network=network,
            mounts=tuple(Tmpfs(path) for path in service.temporary),
        )
        first = f"{password}\n".encode() if password else b""
        running = stack.enter_context(self._host.serve(service.name, spec, service.ready, first))
        return _Started(service, parent, draft, running, port, password)


def _told(started: _Started) -> tuple[tuple[str, str], ...]:
    service = started.service
    secret = ((service.password_variable, started.password),) if started.password else ()
    return (*service.given, (service.port_variable, str(started.port)), *secret)


def _free_port() -> int:
    """A port that nobody uses on the machine's loopback, for a step in a network that isn't its own."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


class ServiceDataKind:
    """What services leave. It is recorded with the step beside which they ran."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def fields(self, step: Step, inputs: StepInputs) -> Fields | None:
        """The step and the service."""
        run = inputs.states[0]
        return None if run is None else data_fields(run, expect(step, ServiceData).name)

    def run(self, step: Step, key: Digest, inputs: StepInputs, control: StepControl) -> Snapshot:
        """Find it."""
        snapshot = self._workspace.snapshot(key)
        if snapshot is None:
            name = expect(step, ServiceData).name
            message = f"the data of {name} was removed while it was needed"
            raise BoxwrightError("store.gone", message, hint="build again")
        return snapshot

    def state(self, key: Digest, snapshot: Snapshot | None) -> Digest | None:
        """The key."""
        return key
