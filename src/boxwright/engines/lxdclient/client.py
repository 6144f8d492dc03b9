"""Requests to one LXD server and the operations that they start."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self
from urllib.parse import quote, urlencode

from boxwright import __version__
from boxwright.engines.lxdclient.address import Endpoint
from boxwright.engines.lxdclient.failures import LxdError, malformed, refusal
from boxwright.engines.lxdclient.transport import UNBOUNDED, Body, Patience, Transport

Json = dict[str, Any]
ANSWER = Patience(60.0)
ANSWER_MOST = 64 << 20
_OK, _SUCCESS, _FIRST_ERROR = 200, 200, 400


class LxdClient:
    """One server. `project` goes with every request; threads may share it. `reading` is how long `get` waits.

    A member of a cluster is named in the query of the request that it concerns: ``query={"target": MEMBER}``.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        project: str = "",
        transport: Transport | None = None,
        reading: Patience = ANSWER,
    ) -> None:
        self.endpoint = endpoint
        self.reading = reading
        self.project = project or endpoint.project
        self.transport = transport or Transport(endpoint)

    def within(self, project: str) -> LxdClient:
        """The same server and connections, another project."""
        return LxdClient(self.endpoint, project=project, transport=self.transport, reading=self.reading)

    def close(self) -> None:
        """Close its connections."""
        self.transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Requests --------------------------------------------------------------------------------------------------------

    def get(self, path: str, /, **query: str) -> Any:  # noqa: ANN401 - JSON
        """What is at ``/1.0`` + `path`. Raises LxdError, `lxd.not-found` among others."""
        return self.request("GET", path, query=query, patience=self.reading).get("metadata")

    def find(self, path: str, /, **query: str) -> Any:  # noqa: ANN401 - JSON
        """The same, None where there is nothing."""
        try:
            return self.get(path, **query)
        except LxdError as error:
            if error.code != "lxd.not-found":
                raise
            return None

    def run(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: Mapping[str, str] | None = None,
        etag: str = "",
        patience: Patience = UNBOUNDED,
    ) -> Json:
        """A change, to its end: waits for the operation where there is one, and returns that (else the metadata).

        When cancelled, or late, the operation is cancelled too. Raises LxdError, KeyboardInterrupt.
        """
        headers = {"If-Match": etag} if etag else {}
        answer = self.request(method, path, body, query=query, headers=headers)
        if answer.get("type") != "async":
            metadata = answer.get("metadata")
            return metadata if isinstance(metadata, dict) else {}
        return self.wait(self.operation_of(answer), f"{method} {path}", patience)

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        patience: Patience = ANSWER,
    ) -> Json:
        """One request and its answer as LXD wraps it (`type`, `metadata`, `operation`). Raises LxdError."""
        what = f"{method} {path}"
        data = None if body is None else json.dumps(body).encode()
        sent = {"Content-Type": "application/json", **(headers or {})}
        return self.answer(what, self.send(method, path, data, query=query, headers=sent, patience=patience))

    def etag(self, path: str) -> tuple[Json, str]:
        """What is at `path` and its ETag, by which `run` sees that nobody changed it meanwhile."""
        what = f"GET {path}"
        response, connection = self._ask("GET", path, None, {}, {}, ANSWER)
        tag = response.headers.get("ETag") or ""
        read = self.transport.read(what, response, connection, ANSWER_MOST)
        metadata = self.answer(what, (response.status, read)).get("metadata")
        return (metadata if isinstance(metadata, dict) else {}), tag

    def send(
        self,
        method: str,
        path: str,
        body: Body,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        patience: Patience = ANSWER,
    ) -> tuple[int, bytes]:
        """One request with any body: the answer's HTTP status and bytes."""
        response, connection = self._ask(method, path, body, query or {}, headers or {}, patience)
        return response.status, self.transport.read(f"{method} {path}", response, connection, ANSWER_MOST)

    @contextlib.contextmanager
    def stream(
        self, path: str, *, query: Mapping[str, str] | None = None, patience: Patience = ANSWER
    ) -> Iterator[tuple[Mapping[str, str], Iterable[bytes]]]:
        """A large answer: its headers, and its bytes as they come. Raises LxdError."""
        what = f"GET {path}"
        response, connection = self._ask("GET", path, None, query or {}, {}, patience)
        if response.status != _OK:
            self.answer(what, (response.status, self.transport.read(what, response, connection, ANSWER_MOST)))
        try:
            yield dict(response.headers.items()), self.transport.pieces(what, response, connection)
        finally:
            if connection.sock is not None and not response.isclosed():
                response.close()
                connection.close()

    def _ask(
        self,
        method: str,
        path: str,
        body: Body,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        patience: Patience,
    ) -> Any:  # noqa: ANN401 - what Transport.ask returns
        sent = {"User-Agent": f"boxwright/{__version__}", **headers}
        return self.transport.ask(f"{method} {path}", method, self.url(path, query), body, sent, patience)

    def url(self, path: str, query: Mapping[str, str]) -> str:
        """The target of a request: `path` is quoted, the project is added."""
        asked = {"project": self.project, **query}
        words = urlencode({name: value for name, value in asked.items() if value})
        return f"/1.0{quote(path)}" + (f"?{words}" if words else "")

    def answer(self, what: str, answered: tuple[int, bytes]) -> Json:
        """An answer's content. Raises LxdError where it is a refusal, or none of LXD's."""
        status, data = answered
        try:
            content = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise malformed(what, self.endpoint.name, f"status {status}, and no JSON") from error
        if not isinstance(content, dict):
            raise malformed(what, self.endpoint.name, "JSON, but no object")
        if status >= _FIRST_ERROR or content.get("type") == "error":
            code = content.get("error_code")
            raise refusal(what, self.endpoint.name, code if isinstance(code, int) else status, _text(content, "error"))
        return content

    # Operations ------------------------------------------------------------------------------------------------------

    def operation_of(self, answer: Json) -> str:
        """The id of the operation that an answer names. Raises LxdError `lxd.bad-answer`."""
        name = _text(answer, "operation").partition("?")[0].rpartition("/")[2]
        if not name:
            raise malformed("an operation", self.endpoint.name, "it has no name")
        return name

    def wait(self, operation: str, what: str, patience: Patience = UNBOUNDED) -> Json:
        """Until an operation has ended well; what it says then. Raises LxdError as it failed, KeyboardInterrupt."""
        try:
            answer = self.request("GET", f"/operations/{operation}/wait", patience=patience)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) or (isinstance(error, LxdError) and error.code == "lxd.timeout"):
                self.cancel(operation)
            raise
        state = answer.get("metadata")
        if not isinstance(state, dict):
            raise malformed(what, self.endpoint.name, "an operation without a state")
        if state.get("status_code") != _SUCCESS:
            failed = _text(state, "err") or _text(state, "status")
            status = state.get("status_code")
            raise refusal(what, self.endpoint.name, status if isinstance(status, int) else 0, failed)
        return state

    def cancel(self, operation: str) -> None:
        """Cancel an operation; those that can't be, or are over, stay as they are."""
        with contextlib.suppress(LxdError):
            self.request("DELETE", f"/operations/{operation}")

    # Instances -------------------------------------------------------------------------------------------------------

    def change_state(
        self, instance: str, action: str, *, seconds: int = -1, force: bool = False, patience: Patience = UNBOUNDED
    ) -> None:
        """Do `action` (start, stop, restart, freeze, unfreeze); `seconds` is how long LXD waits for a clean stop."""
        body = {"action": action, "timeout": seconds, "force": force}
        self.run("PUT", f"/instances/{instance}/state", body, patience=patience)


def _text(content: Mapping[str, Any], name: str) -> str:
    value = content.get(name)
    return value if isinstance(value, str) else ""
