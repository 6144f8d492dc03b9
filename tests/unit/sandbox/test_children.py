"""A forked child never comes back into the code of its parent."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

from boxwright.sandbox.children import never_return


def fails() -> NoReturn:
    raise BrokenPipeError


def ends_well() -> NoReturn:
    os._exit(7)


@pytest.mark.parametrize(("body", "status"), [(fails, 125), (ends_well, 7)])
def test_a_child_ends_where_it_is(body: object, status: int) -> None:
    assert callable(body)
    child = os.fork()
    if child == 0:
        try:
            never_return(body)
        finally:
            os._exit(1)  # what its parent would do at its end
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == status
