"""passwd and group of composed trees."""

from __future__ import annotations

import pytest

from boxwright.errors import BoxwrightError
from boxwright.model.step import PackageUser
from boxwright.steps.accounts import ROOT, group, passwd

WEB = PackageUser("web", 900, 901, "www", "/srv")


def test_users_are_added_and_what_is_there_stays() -> None:
    before = "root:x:0:0:root:/root:/bin/bash\n"
    assert passwd(before, [(WEB, "a")]) == before + "web:x:900:901:web:/srv:/usr/sbin/nologin\n"
    assert group("root:x:0:\n", [(WEB, "a")]) == "root:x:0:\nwww:x:901:\n"
    assert passwd("", [(ROOT, "boxwright")]) == "root:x:0:0:root:/root:/bin/sh\n"


def test_the_same_user_twice_is_one() -> None:
    assert passwd("", [(WEB, "a"), (WEB, "b")]).count("\n") == 1
    assert group("", [(WEB, "a"), (WEB, "b")]).count("\n") == 1


@pytest.mark.parametrize(
    "user",
    [
        WEB._replace(home="/\nevil:x:0:0::/root:/bin/sh"),
        WEB._replace(shell="/bin/sh:x"),
        WEB._replace(name="web\n"),
        WEB._replace(group="g\nwheel:x:0:web"),
        WEB._replace(home="/\u2028evil"),
    ],
)
def test_a_user_from_elsewhere_is_one_line(user: PackageUser) -> None:
    """No schema checked a package that a repository has."""
    with pytest.raises(BoxwrightError) as caught:
        passwd("", [(user, "a")])
    assert caught.value.code == "compose.user"


@pytest.mark.parametrize(
    "other",
    [
        WEB._replace(uid=902),
        WEB._replace(name="app"),
        WEB._replace(gid=902),
        WEB._replace(name="app", uid=5, group="g"),
    ],
)
def test_a_name_or_number_that_is_taken(other: PackageUser) -> None:
    users = [(WEB, "a"), (other, "b")]
    with pytest.raises(BoxwrightError) as caught:
        _ = passwd("", users), group("", users)
    assert caught.value.code == "compose.user"
    assert "b" in caught.value.message
