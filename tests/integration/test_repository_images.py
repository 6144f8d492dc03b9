"""Flat images in binary repositories: a changed file costs its change, and no byte is taken unseen."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ORDINARY_USER, Program
from tests.integration.binhosts import World, long, noisy, same, sent


@pytest.mark.parametrize("place", ["serve", pytest.param("oci", marks=pytest.mark.long)])
def test_a_changed_file_costs_its_change(
    world: World, place: str, request: pytest.FixtureRequest, busybox_base: Path, context: Callable[..., Path]
) -> None:
    request.getfixturevalue(place)
    first, second = world.machine("first"), world.machine("second")
    noise = random.Random(1)
    files: dict[str, str | bytes] = {f"files/{number}": noise.randbytes(3000) for number in range(2000)}
    files |= {"files/large": noise.randbytes(24_000_000), "files/deep/link": "x"}
    links = "ln /srv/1 /srv/hard && ln -s 2 /srv/soft && chmod 4755 /srv/2"
    source = context(f"FROM tar:{busybox_base}\nCOPY files /srv\nRUN {links}\n", files)

    def push() -> int:
        first("build", source, "-t", "data:1", "-q", "--network", "none")
        return sent(first("push", "data:1", cwd=world.tree).out)

    whole = push()
    assert whole > 29_000_000
    world.trust(first)
    assert sent(second("pull", "data:1", cwd=world.tree).out) > 29_000_000
    same(first, second)
    (source / "files/77").write_text("changed")
    assert push() < 100_000
    got = second("pull", "data:1", cwd=world.tree)
    assert sent(got.out) < 100_000
    same(first, second)
    # A few bytes in the middle of a large file cost the chunks around them.
    large = (source / "files/large").read_bytes()
    (source / "files/large").write_bytes(large[:9_000_000] + b"inserted" + large[9_000_000:])
    assert push() < 3_000_000
    assert sent(second("pull", "data:1", cwd=world.tree).out) < 3_000_000
    same(first, second)
    second("fsck")
    world.verify()
    world.machine("verifier")("repo", "gc", "here", "--grace", "0", cwd=world.tree)
    world.verify()
    third = world.machine("third")
    third("pull", "data:1", cwd=world.tree)
    same(first, third)


def test_an_image_with_a_wrong_chunk_is_not_taken(
    world: World, busybox_base: Path, context: Callable[..., Path]
) -> None:
    first = world.machine("first")
    place = context(f"FROM tar:{busybox_base}\n")
    first("build", place, "-t", "data:1", "-q")
    first("push", "data:1", cwd=world.tree)
    world.trust(first)
    (pack,) = [path for path in world.repository.glob("blobs/*/*") if path.stat().st_size > 100_000]
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 1
    pack.write_bytes(data)
    second = world.machine("second")
    failed = second("pull", "data:1", status=5, cwd=world.tree)
    assert "[repository." in failed.err
    assert second("images", "-q").out == ""
    assert "data:1" not in second("images").out
    refused = second("pull", "absent:1", status=5, cwd=world.tree)
    assert "[repository.unknown]" in refused.err


@pytest.fixture
def noise(world: World, busybox_base: Path, context: Callable[..., Path]) -> Program:
    """The same, pushed."""
    first = noisy(world, busybox_base, context)
    first("push", "data:1", cwd=world.tree)
    return first


def test_a_download_that_is_killed_leaves_the_store_whole(world: World, noise: Program) -> None:
    luck = random.Random(7)
    whole = world.machine("third")("pull", "data:1", cwd=world.tree).seconds
    second = world.machine("second")
    for _ in range(5):
        with second.start("pull", "data:1", cwd=world.tree) as process:
            time.sleep(luck.uniform(0.3, 1.0) * whole)
            process.send_signal(signal.SIGKILL)
            process.communicate()
        second("fsck")
    second("pull", "data:1", cwd=world.tree)
    same(noise, second)
    second("fsck")


@pytest.mark.parametrize("place", ["directory", long("serve"), long("s3"), "oci"])
def test_no_space_at_this_side_is_a_clear_error(world: World, place: str, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue(place)
    request.getfixturevalue("noise")
    second = world.machine("second")
    second.home.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=10m", "none", second.home], check=True)
    try:
        failed = second("pull", "data:1", status=None, cwd=world.tree)
        assert failed.status in (4, 5)
        assert "no-space]" in failed.err
        assert "data:1" not in second("images").out
        second("fsck")
    finally:
        subprocess.run(["umount", second.home], check=True)


@pytest.mark.ordinary_user
def test_an_ordinary_user_pulls_what_root_pushed(world: World, noise: Program, ordinary_home: Path) -> None:
    """The same tree, owners and modes too, through a user namespace."""
    place = ordinary_home.parent / "tree"
    shutil.copytree(world.repository, place / "repository")
    configuration = f"{{name: here, type: directory, path: {place}/repository, keys: ['{world.keys}']}}"
    (place / ".boxwright-config.yaml").write_text(f"repository: {configuration}\n")
    subprocess.run(["chown", "-R", ORDINARY_USER, place], check=True)
    user = Program(ordinary_home, user=ORDINARY_USER)
    user("pull", "data:1", cwd=place)
    same(noise, user)
    user("fsck")
    user("push", "data:1", cwd=place)
