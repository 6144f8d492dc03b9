"""ld.so.cache as ldconfig reads it, and the order in which ld.so searches it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from boxwright.steps.elf import Elf
from boxwright.steps.ldcache import _compare, write_cache


def elf(soname: str, machine: int = 62) -> Elf:
    return Elf(machine, 64, soname, (), "", (), (), ())


def test_ldconfig_reads_it(tmp_path: Path) -> None:
    names = ["libz.so.1", "libb.so.10", "libb.so.9", "libc.so.6", "ld-linux-x86-64.so.2"]
    libraries = {name: [(f"usr/lib/x86_64-linux-gnu/{name}", elf(name))] for name in names}
    libraries["libz.so.1"].insert(0, ("opt/own/lib/libz.so.1", elf("libz.so.1")))
    cache = write_cache(libraries)
    assert cache is not None
    (tmp_path / "cache").write_bytes(cache)
    said = subprocess.run(
        ["/sbin/ldconfig", "-p", "-C", tmp_path / "cache"], check=True, capture_output=True, text=True
    ).stdout
    found = re.findall(r"^\t(\S+) \(libc6,x86-64\) => (\S+)$", said, re.MULTILINE)
    assert found == [
        ("libz.so.1", "/opt/own/lib/libz.so.1"),
        ("libz.so.1", "/usr/lib/x86_64-linux-gnu/libz.so.1"),
        ("libc.so.6", "/usr/lib/x86_64-linux-gnu/libc.so.6"),
        ("libb.so.10", "/usr/lib/x86_64-linux-gnu/libb.so.10"),
        ("libb.so.9", "/usr/lib/x86_64-linux-gnu/libb.so.9"),
        ("ld-linux-x86-64.so.2", "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"),
    ]


def test_nothing_to_list_is_no_cache() -> None:
    assert write_cache({}) is None
    assert write_cache({"libx.so.1": [("usr/lib/libx.so.1", elf("libx.so.1", machine=0xFFFF))]}) is None


@given(st.text("ab.019-", max_size=8), st.text("ab.019-", max_size=8))
def test_the_order_is_one(one: str, other: str) -> None:
    assert (_compare(one, other) > 0) == (_compare(other, one) < 0)
