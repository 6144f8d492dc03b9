"""A Remote Execution API server as a build uses it: look an action up, have it run there, store what was made here."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from boxwright.files import hash_file
from boxwright.ports import ActionSpec
from boxwright.repositories.reapi import messages
from boxwright.repositories.reapi.actions import InputBlobs, RemoteAction, make_action, output_of
from boxwright.repositories.reapi.cas import Cas
from boxwright.repositories.reapi.connection import Connection, pause
from boxwright.repositories.reapi.execution import CAPABILITIES, MissingInputs, Node
from boxwright.repositories.reapi.packages import RemotePackages
from boxwright.repositories.reapi.settings import EMPTY, Blob, RemoteError, Settings
from boxwright.repositories.reapi.trees import InputTrees, Reader, digest_message

ACTION_CACHE = "/build.bazel.remote.execution.v2.ActionCache"
ATTEMPTS = 5
"""How often an action is handed over before it is built here."""
RECOVERY_SECONDS = 10.0
"""How long a node that failed gets nothing while there are others."""
KILLED = frozenset({137, 143})
"""Exit statuses of a command that something killed: on another machine that need not happen."""
HOPELESS = frozenset({"remote.rejected", "remote.input", "remote.refused", "remote.unsupported"})
"""Errors after which no node would do better."""
LONGEST_OUTPUT = 4 << 20


class Remote:
    """One server. For many threads."""

    def __init__(self, settings: Settings, reader: Reader) -> None:
        self.settings = settings
        build = str(uuid.uuid4())
        self._cas_connection = Connection(settings.cas, settings, build)
        shared = settings.action_cache == settings.cas
        self._cache = self._cas_connection if shared else Connection(settings.action_cache, settings, build)
        self.nodes = tuple(Node(url, settings, build) for url in settings.execution)
        self._trees = InputTrees(reader)
        self._inputs = InputBlobs(self._trees)
        self._making = threading.Lock()
        self._changed = threading.Lock()
        self._storage: Cas | None = None
        self.stores = False

    def close(self) -> None:
        """End every call that is under way."""
        for connection in {self._cas_connection, self._cache}:
            connection.close()
        for node in self.nodes:
            node.close()

    def open(self) -> None:
        """Ask what the server can do. Raises RemoteError where it isn't there, or not one that can be used."""
        request = messages.GetCapabilitiesRequest(instance_name=self.settings.instance)
        found = self._cas_connection.call(CAPABILITIES, request, messages.ServerCapabilities)
        functions = found.cache_capabilities.digest_functions
        if functions and messages.SHA256 not in functions:
            raise RemoteError("remote.unsuitable", f"{self.settings.cas} does not use SHA-256")
        self._storage = Cas(self._cas_connection, self.settings.instance, found)
        if self._cache is not self._cas_connection:
            found = self._cache.call(CAPABILITIES, request, messages.ServerCapabilities)
        updates = found.cache_capabilities.action_cache_update_capabilities
        self.stores = self.settings.push and updates.update_enabled

    @property
    def _cas(self) -> Cas:
        if self._storage is None:
            raise RemoteError("remote.gone", f"{self.settings.cas} was never reached")
        return self._storage

    def packages(self, failed: Callable[[RemoteError], None]) -> RemotePackages:
        """The packages that were recorded there by their identities. `failed` is told where it can't be asked."""
        return RemotePackages(self.settings.name, self._cas, self._cache, self.settings.instance, failed)

    def action(self, spec: ActionSpec) -> RemoteAction:
        """The action of a build as this server knows it. Raises RemoteError where it can't be one."""
        with self._making:
            return make_action(spec, self.settings, self._trees)

    def look_up(self, action: RemoteAction, target: str, output: Callable[[bytes], None]) -> bool:
        """Write the output of an action that somebody ran before to `target`; returns whether there was one."""
        request = messages.GetActionResultRequest(
            instance_name=self.settings.instance, action_digest=digest_message(action.blob), inline_stdout=True
        )
        result = self._cache.call(f"{ACTION_CACHE}/GetActionResult", request, messages.ActionResult, absent=True)
        if result is None or result.exit_code:
            return False
        try:
            self._take(action, result, target)
        except RemoteError as error:
            if error.gone:
                raise
            return False
        self._show(result, output)
        return True

    def store(self, action: RemoteAction, path: str, text: bytes) -> None:
        """Let others find what was built here: the output at `path`, and what the build wrote."""
        made = Blob(hash_file(path), os.stat(path).st_size)
        sources: dict[Blob, bytes | str] = {
            action.blob: action.data,
            action.command: action.command_data,
            made: path,
        }
        self._cas.ensure(sources, sources.__getitem__)
        request = messages.UpdateActionResultRequest(
            instance_name=self.settings.instance, action_digest=digest_message(action.blob)
        )
        file = request.action_result.output_files.add(path=action.output)
        file.digest.hash, file.digest.size_bytes = made
        request.action_result.stdout_raw = text[-LONGEST_OUTPUT:]
        self._cache.call(f"{ACTION_CACHE}/UpdateActionResult", request, messages.ActionResult)

    def run(
        self,
        action: RemoteAction,
        target: str,
        output: Callable[[bytes], None],
        cancelled: Callable[[], bool],
        *,
        again: bool,
    ) -> int:
        """Run an action there, and write its output to `target`; returns its exit status.

        `again`: whatever the cache holds. Raises RemoteError, and KeyboardInterrupt when cancelled.
        """
        killed = 0
        for attempt in range(1, ATTEMPTS + 1):
            self._send(action)
            try:
                response = self._hand_over(action, cancelled, again=again)
                result = response.result
                if result.exit_code and (response.cached_result or (result.exit_code in KILLED and not killed)):
                    # A failure that a server kept says nothing; what was killed may live elsewhere.
                    killed += not response.cached_result
                    again = True
                    continue
            except MissingInputs:
                self._inputs.forget()
                self._cas.forget()
                continue
            except RemoteError as error:
                slow = error.code == "remote.slow" and attempt >= len(self.nodes)
                if attempt == ATTEMPTS or error.code in HOPELESS or slow:
                    raise
                _wait(attempt, cancelled)
                continue
            if result.exit_code or self._take_again(action, result, target, last=attempt == ATTEMPTS):
                self._show(result, output)
                code: int = result.exit_code
                return code
            again = True
        raise RemoteError("remote.lossy", f"{self.settings.cas} does not keep what it is given")

    def _take_again(self, action: RemoteAction, result: Any, target: str, *, last: bool) -> bool:  # noqa: ANN401
        """Fetch the output; false where the server no longer has it, and running the action again would help."""
        try:
            self._take(action, result, target)
        except RemoteError as error:
            if error.code == "remote.download" and not last:
                return False
            raise
        return True

    def _send(self, action: RemoteAction) -> None:
        blobs, directories = self._inputs.of(action)
        self._cas.ensure(blobs, lambda blob: self._inputs.bytes_of(blobs[blob]))
        self._inputs.complete(directories)

    def _hand_over(self, action: RemoteAction, cancelled: Callable[[], bool], *, again: bool) -> Any:  # noqa: ANN401
        with self._node() as node:
            return node.execute(action.blob, cancelled, again=again)

    @contextmanager
    def _node(self) -> Iterator[Node]:
        """The node with the least to do, of those that did not fail just now."""
        with self._changed:
            now = time.monotonic()
            well = [node for node in self.nodes if now - node.failed_at > RECOVERY_SECONDS]
            node = min(well or self.nodes, key=lambda node: (node.busy, node.failed_at))
            node.busy += 1
        try:
            yield node
        except RemoteError:
            node.failed_at = time.monotonic()
            raise
        finally:
            with self._changed:
                node.busy -= 1

    def _take(self, action: RemoteAction, result: Any, target: str) -> None:  # noqa: ANN401 - a message
        """Fetch the output that a result names."""
        made = output_of(result, action.output)
        if made is None:
            raise RemoteError("remote.no-output", f"a result of {self.settings.name} lacks its output", gone=False)
        with suppress(FileNotFoundError):
            os.unlink(target)
        self._cas.fetch(made, target)

    def _show(self, result: Any, output: Callable[[bytes], None]) -> None:  # noqa: ANN401 - a message
        """Hand on what a build wrote; where it can't be had, that is no reason to fail."""
        texts = ((result.stdout_raw, result.stdout_digest), (result.stderr_raw, result.stderr_digest))
        for raw, digest in texts:
            blob = Blob(digest.hash, digest.size_bytes)
            if raw:
                output(raw)
            elif digest.hash and blob != EMPTY:
                with suppress(RemoteError):
                    output(self._cas.read(blob))


def _wait(attempt: int, cancelled: Callable[[], bool]) -> None:
    end = time.monotonic() + pause(attempt)
    while time.monotonic() < end:
        if cancelled():
            raise KeyboardInterrupt
        time.sleep(0.05)
