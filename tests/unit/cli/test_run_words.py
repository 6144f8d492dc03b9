"""Options behind a base image's name."""

from __future__ import annotations

import pytest

from boxwright.cli.main import parser_for
from boxwright.cli.run import own_words

CASES = {
    "base/php --bundle ./app": "--bundle ./app base/php",
    "-e A=1 base/php -e B=2 --watch --bundle x": "-e A=1 -e B=2 --watch --bundle x base/php",
    "base/php -e A=1 php -v": "-e A=1 base/php php -v",
    "base/php php -v": "base/php php -v",
    "base/php -- -v": "base/php -- -v",
    "base/php": "base/php",
    "debian -e A=1": "debian -e A=1",
}


@pytest.mark.parametrize(("given", "meant"), CASES.items(), ids=CASES)
def test_words(given: str, meant: str) -> None:
    assert own_words(given.split(), parser_for("run")) == meant.split()
