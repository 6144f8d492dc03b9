from __future__ import annotations

from boxwright.sandbox.network import resolver

HOST = "# of the host\nsearch example.org\nnameserver 127.0.0.53\nnameserver 192.0.2.1\noptions edns0\n"


def test_resolver() -> None:
    assert resolver(HOST, "host") == HOST
    assert "nameserver" not in resolver(HOST, "none")
    lines = resolver(HOST, "default").splitlines()
    assert sum(line.startswith("nameserver ") for line in lines) == 1
    assert "search example.org" in lines
    assert not any("127.0.0.53" in line for line in lines)
