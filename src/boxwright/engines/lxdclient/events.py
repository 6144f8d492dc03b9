"""What happens on a server, as it happens: lifecycle events, operations, its log."""

from __future__ import annotations

import json
import select
from collections.abc import Callable, Collection, Iterator
from typing import Any

from boxwright.engines.lxdclient.client import LxdClient
from boxwright.engines.lxdclient.failures import broken
from boxwright.engines.lxdclient.transport import LOOK_SECONDS, close_websocket

_CLOSE, _PING, _PONG = 8, 9, 10


def watch_events(
    client: LxdClient, kinds: Collection[str], cancelled: Callable[[], bool] = lambda: False
) -> Iterator[dict[str, Any]]:
    """Events of `kinds` (lifecycle, operation, logging) until cancelled; the first item, empty, says that it listens.

    Raises LxdError, `lxd.broken` when the server goes away.
    """
    import websocket

    what = "events"
    opened = client.transport.websocket(what, client.url("/events", {"type": ",".join(sorted(kinds))}))
    try:
        yield {}
        while not cancelled():
            if (sock := opened.sock) is None:
                break
            if not getattr(sock, "pending", int)() and not select.select([sock], [], [], LOOK_SECONDS)[0]:
                continue
            kind, data = opened.recv_data(control_frame=True)
            if kind == _CLOSE:
                raise broken(what, client.endpoint.name, "the server closed the connection")
            if kind in (_PING, _PONG):
                continue
            event = json.loads(data)
            if isinstance(event, dict):
                yield event
    except (websocket.WebSocketException, OSError, ValueError) as error:
        raise broken(what, client.endpoint.name, str(error)) from error
    finally:
        close_websocket(opened)
