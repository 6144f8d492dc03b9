"""Copies and backups of volumes on LXD: whatever fails or is killed at whatever moment, a whole one is there."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from itertools import count

import pytest

from boxwright.engines.bridges import MachineSubnets
from boxwright.engines.lxdclient.failures import LxdError
from boxwright.errors import BoxwrightError
from tests.unit.deploy.lxdstore import STACK, Kept, MemoryLxd, engine_of
from tests.unit.deploy.memory import KilledError

MOST = 40
"""More changes than any of these makes."""


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second goes by each time it is asked."""
    monkeypatch.setattr("boxwright.engines.deploy.lxdcopies.time.time", count(1_800_000_000.0).__next__)
    monkeypatch.setattr("boxwright.engines.deploy.lxd.machine_subnets", MachineSubnets)


def copied() -> MemoryLxd:
    """A volume with a copy of what it was once."""
    client = MemoryLxd()
    client.volumes["data", "n1"] = Kept("one", {})
    engine_of(client).copy_volume(STACK, "data", "n2")
    client.volumes["data", "n1"] = client.volumes["data", "n1"]._replace(content="two")
    return client


def without_common_snapshot() -> MemoryLxd:
    """As after a restore on a pool that removes what is newer, or after a backup took the volume's place."""
    client = copied()
    client.volumes["data", "n1"].snapshots.clear()
    return client


def refusing() -> MemoryLxd:
    """No refresh will do."""
    client = copied()
    client.fails = lambda what: LxdError("lxd.refused", "rsync: no") if what.endswith("refresh") else None
    return client


def beside() -> MemoryLxd:
    """The copy has the other name already."""
    client = refusing()
    engine_of(client).copy_volume(STACK, "data", "n2")
    client.fails = lambda _: None
    client.volumes["data", "n1"] = client.volumes["data", "n1"]._replace(content="two")
    client.volumes["data", "n1"].snapshots.clear()
    return client


def promoted(client: MemoryLxd) -> str:
    """What the copy would start with."""
    there = deepcopy(client)
    engine_of(there).promote_copy(STACK, "data", "n1", "n2")
    return there.volumes["data.G2", "n2"].content


situations = pytest.mark.parametrize("made", [copied, without_common_snapshot, refusing, beside])


@situations
def test_what_is_killed_while_it_copies_leaves_a_whole_copy(made: Callable[[], MemoryLxd]) -> None:
    killed = 0
    for moment in range(MOST):
        client = made()
        client.killed_at = client.changes + moment
        try:
            engine_of(client).copy_volume(STACK, "data", "n2")
        except KilledError:
            killed += 1
        client.killed_at = -1
        assert promoted(client) in ("one", "two"), f"killed at change {moment}: {client.log}"
        engine_of(client).copy_volume(STACK, "data", "n2")
        assert_one_copy(client)
    assert 4 < killed < MOST


@situations
@pytest.mark.parametrize("code", ["lxd.refused", "lxd.no-space", "lxd.broken"])
def test_what_fails_while_it_copies_leaves_a_whole_copy(made: Callable[[], MemoryLxd], code: str) -> None:
    """For once or for good, at each of the server's changes."""
    for moment in range(MOST):
        for lasting in (False, True):
            client = made()
            first = client.changes + moment
            client.failing, client.code = range(first, first + (MOST if lasting else 1)), code
            with suppress(LxdError):
                engine_of(client).copy_volume(STACK, "data", "n2")
            client.failing, client.fails = range(0), lambda _: None
            assert promoted(client) in ("one", "two"), f"failed at change {moment}: {client.log}"
            engine_of(client).copy_volume(STACK, "data", "n2")
            assert_one_copy(client)


def assert_one_copy(client: MemoryLxd) -> None:
    """It is whole and as new as the volume; neither member keeps snapshots that nobody needs."""
    (copy,) = [it for it in client.volumes if it[1] == "n2"]
    (left,) = client.volumes["data", "n1"].snapshots
    assert client.volumes[copy].snapshots[left] == "two"
    assert promoted(client) == "two"
    (state,) = engine_of(client).observe(STACK).states
    assert [it.member for it in state.copies] == ["n2"]


@pytest.mark.parametrize("step", ["migrate", "sending", "sent", "wait"])
def test_a_source_that_dies_while_it_is_copied_leaves_the_copy(step: str) -> None:
    """Which is what would take its place; the other member does all that it is told."""
    client = copied()
    client.fails = lambda what: LxdError("lxd.refused", "unexpected EOF") if what.startswith(step) else None
    for _ in range(3):
        with pytest.raises(LxdError, match="EOF"):
            engine_of(client).copy_volume(STACK, "data", "n2")
        assert promoted(client) == "one"
    client.fails = lambda _: None
    engine_of(client).copy_volume(STACK, "data", "n2")
    assert_one_copy(client)


def test_a_volume_that_is_not_copied_for_long_keeps_no_snapshots() -> None:
    client = copied()
    client.fails = lambda what: LxdError("lxd.no-space", "no space left") if what == "sending" else None
    for _ in range(5):
        with pytest.raises(LxdError, match="no space"):
            engine_of(client).copy_volume(STACK, "data", "n2")
    assert len(client.volumes["data", "n1"].snapshots) == 2
    assert [it for it in client.log if "whole" in it] == ["migrate data.COPY.n2 whole"], "there is no room for another"


def test_half_of_a_first_copy_is_none() -> None:
    client = MemoryLxd()
    client.volumes["data", "n1"] = Kept("two", {})
    client.killed_at = 3
    with pytest.raises(KilledError):
        engine_of(client).copy_volume(STACK, "data", "n2")
    client.killed_at = -1
    assert ("data.COPY.n2", "n2") in client.volumes
    assert engine_of(client).observe(STACK).states[0].copies == ()
    with pytest.raises(BoxwrightError) as caught:
        promoted(client)
    assert caught.value.code == "volume.no-copy"
    engine_of(client).copy_volume(STACK, "data", "n2")
    assert_one_copy(client)


def test_what_lxd_still_copies_for_a_process_that_was_killed_is_waited_for() -> None:
    client = copied()
    used = ["/1.0/storage_volumes/default/volumes/custom/data.COPY.n2"]
    client.operations = {"running": [{"id": "1", "resources": {"storage_volumes": used}}]}
    with pytest.raises(BoxwrightError) as caught:
        engine_of(client).copy_volume(STACK, "data", "n2")
    assert caught.value.code == "deploy.busy"
    client.operations = {"success": client.operations["running"]}
    engine_of(client).copy_volume(STACK, "data", "n2")


def test_a_dropped_copy_goes_with_what_lies_beside_it() -> None:
    client = copied()
    client.volumes["data.COPY.n2.2", "n2"] = Kept("half", {})
    engine_of(client).drop_copy(STACK, "data", "n2")
    assert set(client.volumes) == {("data", "n1")}


def test_a_copy_with_its_usual_name_is_written_down_as_older_versions_know_it() -> None:
    client = copied()
    (fields,) = json.loads(engine_of(client).read_document(STACK, "volumes") or b"")["data"]["copies"]
    assert len(fields) == 3
    assert promoted(client) == "one"


def test_files_that_vanish_while_they_are_sent_are_no_reason_to_send_all() -> None:
    client = copied()
    client.fails = lambda what: LxdError("lxd.refused", "file has vanished") if what == "sending" else None
    with pytest.raises(LxdError):
        engine_of(client).copy_volume(STACK, "data", "n2")
    assert not [it for it in client.log if it.endswith(".2 whole")]
    assert promoted(client) == "one"


def mounted(member: str) -> MemoryLxd:
    """A volume that a stopped instance mounts, of which a backup is to be restored."""
    client = MemoryLxd()
    client.volumes["data", member] = Kept("one", {})
    device = {"type": "disk", "pool": "default", "source": "data", "path": "/srv"}
    client.instances["shop-db-1-g1"] = {
        "name": "shop-db-1-g1",
        "location": member or "none",
        "status": "Stopped",
        "devices": {"volume0": device, "root": {"type": "disk", "pool": "default", "path": "/", "source": ""}},
    }
    return client


@pytest.mark.parametrize("member", ["", "n1"])
def test_what_is_killed_while_it_restores_a_backup_leaves_one_volume(member: str) -> None:
    """What starts then mounts what is said to be the volume, whole; the other one can be removed."""
    killed = 0
    for moment in range(MOST):
        client = mounted(member)
        client.killed_at = moment
        try:
            engine_of(client).read_backup(STACK, "data", io.BytesIO(b"two"))
        except KilledError:
            killed += 1
        client.killed_at = -1
        engine = engine_of(client)
        (state,) = engine.observe(STACK).states
        engine.start("shop-db-1-g1")
        source = client.instances["shop-db-1-g1"]["devices"]["volume0"]["source"]
        assert client.volumes[source, member].content == {1: "one", 2: "two"}[state.generation], client.log
        assert client.volumes[source, member].content == ("one" if moment < 5 else "two")
        for it in state.stale:
            engine.delete_stale(STACK, "data", it)
        assert set(client.volumes) == {(source, member)}
        engine.read_backup(STACK, "data", io.BytesIO(b"three"))
        assert [it.content for it in client.volumes.values()] == ["three"]
    assert 4 < killed < MOST


def test_a_backup_that_lxd_does_not_take_leaves_the_volume_alone() -> None:
    client = mounted("n1")
    client.fails = lambda what: LxdError("lxd.refused", "no backup") if what == "importing" else None
    with pytest.raises(BoxwrightError) as caught:
        engine_of(client).read_backup(STACK, "data", io.BytesIO(b"two"))
    assert caught.value.code == "volume.backup"
    assert set(client.volumes) == {("data", "n1")}
