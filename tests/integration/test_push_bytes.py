"""What a push of a large image costs when one file changed: counted by what the other side has afterwards."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.binhosts import World, sent
from tests.integration.registries import serving

pytestmark = pytest.mark.integration

FILLER, FILLER_BYTES = 277, 1_000_000
FILES, FILE_BYTES = 200, 11_800
MOST = 2_000_000


def objects(repository: Path) -> dict[str, int]:
    """The size of each file of a repository."""
    return {str(path): path.stat().st_size for path in repository.rglob("*") if path.is_file()}


def moved(before: dict[str, int], after: dict[str, int]) -> int:
    """The bytes of what came."""
    return sum(size for name, size in after.items() if name not in before)


@pytest.mark.long
def test_one_file_of_a_large_flat_image_moves_little(
    world: World, busybox_base: Path, context: Callable[..., Path], tmp_path: Path
) -> None:
    """280 MB that don't compress; a file of 12 kB changes, then one of 1 MB."""
    noise = random.Random(1)
    place = context(f"FROM tar:{busybox_base}\nCOPY filler /srv/filler\nCOPY app /srv/app\n", {"app/note": "x"})
    (place / "filler").mkdir()
    for number in range(FILLER):
        (place / "filler" / str(number)).write_bytes(noise.randbytes(FILLER_BYTES))
    for number in range(FILES):
        path = place / f"app/{number // 20}/{number}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(noise.randbytes(FILE_BYTES))
    first = world.machine("first")
    (tmp_path / "registry").mkdir()
    with serving(tmp_path / "registry") as registry:
        name = f"{registry.host}/team/large:v1"

        def push() -> tuple[int, int, int]:
            """What came to the binary host, what was said of that, and what came to the registry."""
            first("build", place, "-q", "-t", "data:1", "-t", name)
            there, blobs = objects(world.repository), registry.blobs()
            said = sent(first("push", "data:1", cwd=world.tree).out)
            first("push", name, "--compression", "zstd")
            return moved(there, objects(world.repository)), said, moved(blobs, registry.blobs())

        whole = push()
        assert min(whole) > 280_000_000
        (place / "app/3/70.txt").write_bytes(os.urandom(FILE_BYTES))
        small = push()
        assert 0 < max(small) < MOST, small
        (place / "filler/7").write_bytes(os.urandom(FILLER_BYTES))
        large = push()
        # A registry gets whole layers: one of at most 64.
        assert 0 < max(large[:2]) < MOST, large
        assert large[2] < whole[2] / 20, large
