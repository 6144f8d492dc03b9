"""Stacks on the storage pools of an LXD: instances that are clones of their image, volumes on a path of the machine."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Program, Result
from tests.integration.conftest import free_port, until
from tests.integration.servers import listens
from tests.integration.test_stack_volumes import RECIPE, START

pytestmark = [pytest.mark.integration, pytest.mark.long, pytest.mark.engine("lxd")]

POOLS = Path("/var/lib/lxd/storage-pools")
MIB = 2**20
STACK = """\
name: {name}
containers:
  web: {{build: ., replicas: 2, pool: {pool}, volumes: ["data:/srv/data"], stop-grace: 1s}}
volumes:
  data: {{pool: {pool}}}
networks: {{inner: {{internal: true}}}}
cluster: {{engine: lxd}}
"""
SERVER = """\
volume files
  type storage/posix
  option directory {directory}
end-volume
volume locks
  type features/locks
  subvolumes files
end-volume
volume server
  type protocol/server
  option transport-type tcp
  option transport.socket.bind-address 127.0.0.1
  option transport.socket.listen-port {port}
  option auth.addr.locks.allow 127.0.0.1
  subvolumes locks
end-volume
"""
CLIENT = """\
volume server
  type protocol/client
  option transport-type tcp
  option remote-host 127.0.0.1
  option remote-port {port}
  option remote-subvolume locks
end-volume
"""
Pool = Callable[..., str]


@pytest.fixture
def pool() -> Iterator[Pool]:
    """Make a pool: `pool("btrfs", size="1GiB")`."""
    made: list[str] = []

    def make(driver: str, **config: str) -> str:
        name = f"bwtest{os.getpid()}{len(made)}"
        words = [f"{key}={value}" for key, value in config.items()]
        subprocess.run(["lxc", "storage", "create", name, driver, *words], check=True, capture_output=True)
        made.append(name)
        return name

    yield make
    for name in made:
        for image in json.loads(_output("lxc", "query", f"/1.0/storage-pools/{name}/volumes/image?recursion=1")):
            subprocess.run(["lxc", "image", "delete", image["name"]], check=False, capture_output=True)
        subprocess.run(["lxc", "storage", "delete", name], check=True, capture_output=True)


@pytest.fixture
def deployed(boxwright: Program, tmp_path: Path, busybox_base: Path) -> Iterator[Callable[..., Result]]:
    """`deployed("status", pool=NAME)` in a directory with the definition of a stack on that pool."""
    name = f"p{os.getpid()}{time.monotonic_ns() % 10000}"
    (tmp_path / "Recipe").write_text(RECIPE.format(base=busybox_base) + "COPY large /srv/large\n")
    (tmp_path / "large").write_bytes(os.urandom(32 * MIB))
    (tmp_path / "start").write_text(START)
    (tmp_path / "start").chmod(0o755)

    def call(*words: str, pool: str, status: int | None = 0) -> Result:
        (tmp_path / "autopilot.yaml").write_text(STACK.format(name=name, pool=pool))
        return boxwright(*words, cwd=tmp_path, status=status)

    yield call
    call("destroy", "--yes", "--volumes", pool="", status=None)


def _output(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def _written(pool: str) -> int:
    """The bytes that a pool of btrfs has given out."""
    said = _output("btrfs", "filesystem", "df", "--raw", str(POOLS / pool))
    return int(next(line for line in said.splitlines() if line.startswith("Data")).rpartition("used=")[2])


def test_instances_are_clones_of_their_image(deployed: Callable[..., Result], pool: Pool) -> None:
    name = pool("btrfs", size="1GiB")
    deployed("deploy", pool=name)
    instances = list((POOLS / name / "containers").iterdir())
    assert len(instances) == 2
    for it in instances:
        assert (it / "rootfs/srv/large").stat().st_size == 32 * MIB
    subprocess.run(["btrfs", "filesystem", "sync", POOLS / name], check=True, capture_output=True)
    assert _written(name) < 2 * 32 * MIB, "there is the file of the image, and no other"
    deployed("exec", "/web-1", "sh", "-c", "echo one >/srv/data/file; echo x >/srv/large", pool=name)
    assert deployed("exec", "/web-2", "stat", "-c", "%s", "/srv/large", pool=name).out == f"{32 * MIB}\n"
    assert deployed("deploy", pool=name).out.endswith("nothing to do\n")

    deployed("volume", "snapshot", "/data", "before", pool=name)
    deployed("exec", "/web-1", "sh", "-c", "echo two >/srv/data/file", pool=name)
    deployed("volume", "restore", "/data", "before", "--yes", pool=name)
    assert deployed("exec", "/web-1", "cat", "/srv/data/file", pool=name).out == "one\n"
    deployed("destroy", "--yes", "--volumes", pool=name)


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Path]:
    """A directory that is a mounted GlusterFS, whose one server keeps its files in another one."""
    place, kept, port = tmp_path / "mounted", tmp_path / "kept", free_port()
    place.mkdir()
    kept.mkdir()
    (tmp_path / "server.vol").write_text(SERVER.format(directory=kept, port=port))
    (tmp_path / "client.vol").write_text(CLIENT.format(port=port))
    server = ["glusterfsd", "-N", "-f", str(tmp_path / "server.vol"), "-l", str(tmp_path / "server.log")]
    client = ["glusterfs", "-N", "-f", str(tmp_path / "client.vol"), "-l", str(tmp_path / "client.log"), str(place)]
    with subprocess.Popen(server) as serving:
        until(lambda: listens(port))
        with subprocess.Popen(client) as mounting:
            try:
                until(place.is_mount)
                yield place
            finally:
                subprocess.run(["umount", place], check=True)
                mounting.wait(20)
                serving.terminate()
                serving.wait(20)


@pytest.mark.engine("glusterfs")
def test_a_pool_on_a_mounted_glusterfs(shared: Path, pool: Pool, deployed: Callable[..., Result]) -> None:
    name = pool("dir", source=str(shared))
    deployed("deploy", pool=name)
    deployed("exec", "/web-2", "sh", "-c", "echo kept >/srv/data/file", pool=name)
    assert [it.read_text() for it in shared.glob("custom/*/file")] == ["kept\n"]
    deployed("destroy", "--yes", pool=name)
    assert [it.read_text() for it in (shared.parent / "kept").glob("custom/*/file")] == ["kept\n"]
    deployed("deploy", pool=name)
    assert deployed("exec", "/web-2", "cat", "/srv/data/file", pool=name).out == "kept\n"
    deployed("destroy", "--yes", "--volumes", pool=name)


def test_a_pool_that_is_not_there_is_named_before_anything_is_made(deployed: Callable[..., Result]) -> None:
    refused = deployed("deploy", "--plan", pool="nowhere", status=None)
    assert "[deploy.pool]" in refused.err
    assert refused.status not in (0, 70)
