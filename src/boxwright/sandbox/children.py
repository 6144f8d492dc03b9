"""Children of fork(2) that stay children."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final, NoReturn

_FAILED: Final = 125


def never_return(body: Callable[[], NoReturn]) -> NoReturn:
    """Be a forked child and nothing else.

    An exception that nobody expected would go up through the code of the parent, which the child is a copy of, and do
    there what the parent does at its end: remove its directories, for one. Whoever waits sees the child end.
    """
    try:
        body()
    finally:
        os._exit(_FAILED)
