from __future__ import annotations

import pytest

from boxwright.sandbox.identity import Identity, UnknownUserError, look_up

PASSWD = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/srv/app:/bin/sh\nbroken\n"
GROUP = "root:x:0:\napp:x:1001:\nweb:x:33:app,other\nempty:x:7:\n"


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("", Identity(0, 0, (), "/root")),
        ("0", Identity(0, 0, (), "/root")),
        ("app", Identity(1000, 1001, (33,), "/srv/app")),
        ("1000", Identity(1000, 1001, (33,), "/srv/app")),
        ("app:web", Identity(1000, 33, (), "/srv/app")),
        ("app:5", Identity(1000, 5, (), "/srv/app")),
        ("4000", Identity(4000, 0, (), "/")),
        ("4000:4001", Identity(4000, 4001, (), "/")),
        (":web", Identity(0, 33, (), "/root")),
    ],
)
def test_look_up(user: str, expected: Identity) -> None:
    assert look_up(user, PASSWD, GROUP) == expected


@pytest.mark.parametrize("user", ["nobody", "app:nogroup", "4294967295", "-1"])
def test_unknown(user: str) -> None:
    with pytest.raises(UnknownUserError):
        look_up(user, PASSWD, GROUP)


def test_no_files() -> None:
    assert look_up("", "", "") == Identity(0, 0, (), "/root")
