"""Volumes with copies on a three-member LXD cluster: made, taken over when a member is gone, and cleaned up after."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from boxwright.model.volumes import PROMISED_SECONDS
from tests.conftest import Program
from tests.integration.cluster import Cluster
from tests.integration.conftest import until
from tests.integration.test_clusters import Place as Meshed
from tests.integration.test_clusters import all_instances, cluster, program
from tests.integration.test_stack_volumes import RECIPE

__all__ = ["cluster", "program"]

pytestmark = [pytest.mark.integration, pytest.mark.engine("lxd"), pytest.mark.long]

NAME = "held"
TAKEN_OVER = 30
QUICKLY = ("--stop-after", "10", "--take-over-after", "18")
STACK = f"""\
name: {NAME}
containers:
  db:
    build: ./db
    volumes: ["data:/srv/data"]
    failover: replica
    stop-grace: 1s
    healthcheck: {{command: "test -e /srv/data/file", interval: 300ms}}
volumes:
  data: {{replicate: REPLICATE, copy-every: EVERY, snapshots: {{every: 1h}}}}
cluster: {{engine: lxd}}
"""
# It writes all the time, in steps of one file: what runs on two members at once would show in the count.
START = """\
#!/bin/sh
trap 'exit 0' TERM
count=$(cat /srv/data/count 2>/dev/null)
[ -e /srv/data/file ] || echo none > /srv/data/file
while :; do
    count=$((count + 1))
    echo $count > /srv/data/new && busybox mv /srv/data/new /srv/data/count
    busybox sleep 0.2 & wait $!
done
"""


class Place(Meshed):
    """The stack with its volume."""

    watch = ("watch", NAME, "--engine", "lxd", "--interval", "1", *QUICKLY)

    def write(self, replicate: int = 2, every: str = "2s") -> None:
        text = STACK.replace("REPLICATE", str(replicate)).replace("EVERY", every)
        (self.directory / "autopilot.yaml").write_text(text)

    def shell(self, script: str, member: int = 1) -> str:
        """LXD's members hear each other's events again some seconds after their leader was replaced."""
        done = self.on(member)("exec", "/db", "busybox", "sh", "-c", script, status=None)
        for _ in range(20):
            if "Missing event connection" not in done.err:
                break
            time.sleep(0.5)
            done = self.on(member)("exec", "/db", "busybox", "sh", "-c", script, status=None)
        assert done.status == 0, done.err
        return str(done.out)

    def whole(self, member: int = 1) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.on(member)("status", "--json", status=None).out)
        return found

    def volume(self, member: int = 1) -> dict[str, Any]:
        (found,) = self.whole(member)["volumes"]
        return dict(found)

    def home(self) -> int:
        return int(self.status()["db-1"]["member"][-1])

    def lying(self, member: int = 1) -> dict[str, str]:
        """LXD's own volumes of the stack, with their members."""
        path = f"/1.0/storage-pools/default/volumes/custom?recursion=1&project=boxwright-{NAME}"
        found = self.cluster.members[member - 1].query(path)
        return {it["name"]: it["location"] for it in found if "/" not in it["name"]}


@pytest.fixture
def place(
    cluster: Cluster,
    program: Program,
    tmp_path_factory: pytest.TempPathFactory,
    busybox_base: Path,
) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp(NAME)
    (directory / "db").mkdir()
    (directory / "db/Recipe").write_text(RECIPE.format(base=busybox_base))
    (directory / "db/start").write_text(START)
    (directory / "db/start").chmod(0o755)
    made = Place(cluster, program, directory)
    made.write()
    made.on(1)("deploy")
    made.shell("echo kept > /srv/data/file; chown 7:8 /srv/data/file")
    yield made
    made.on(1)("destroy", "--yes", "--volumes", status=None)
    with pytest.raises(subprocess.CalledProcessError):
        made.lying()  # its project is gone, with all that was in it


def others(member: int) -> list[int]:
    return [it for it in (1, 2, 3) if it != member]


def copied(place: Place, member: int, count: int = 1) -> bool:
    """Whether there are so many copies, none of them older than some copies take."""
    found = place.volume(member)["copies"]
    return len(found) == count and all(it["age"] < 15 for it in found)


def no_twins(place: Place, member: int) -> bool:
    names = [re.sub(r"-g\d+$", "", it) for it in all_instances(place, member)]
    return len(names) == len(set(names))


def test_copies_are_made_on_time_and_status_says_how_old_they_are(place: Place) -> None:
    home = place.home()
    assert place.volume()["copies"] == []
    place.on(others(home)[0])("watch", "--once")
    (copy,) = place.volume()["copies"]
    assert copy["member"] != f"node{home}"
    assert copy["age"] < 30
    shown = place.on(1)("status").out
    assert re.search(rf"volume data on node{home}; copies: \d+ s old on {copy['member']}", shown), shown
    time.sleep(2)
    place.shell("echo changed > /srv/data/other")
    place.on(home)("watch", "--once")
    (again,) = place.volume()["copies"]
    assert again["member"] == copy["member"]
    assert place.lying() == {"data": f"node{home}", f"data.COPY.{copy['member']}": copy["member"]}
    target = place.cluster.members[int(copy["member"][-1]) - 1]
    stored = f"storage-pools/default/custom/boxwright-{NAME}_data.COPY.{copy['member']}"
    lies = target.directory / stored
    assert (lies / "other").read_text() == "changed\n"
    taken = json.loads(place.on(1)("volume", "ls", ".", "--json").out)[0]["snapshots"]
    assert [it.startswith("auto-") for it in taken] == [True], taken
    # Where the snapshot that both have is gone a whole copy is made beside, and takes its place.
    source = place.cluster.members[home - 1]
    where = f"project=boxwright-{NAME}&target=node{home}"
    for it in source.query(f"/1.0/storage-pools/default/volumes/custom/data/snapshots?{where}"):
        if "copy-" in it:
            words = ["lxc", "query", "-X", "DELETE", "--wait", f"{it.partition('?')[0]}?{where}"]
            subprocess.run(words, env={**os.environ, **source.environment}, check=True, timeout=60)
    place.shell("echo again > /srv/data/other")
    place.on(home)("volume", "copy", "/data")
    assert place.lying() == {"data": f"node{home}", f"data.COPY.{copy['member']}.2": copy["member"]}
    assert (lies.with_name(f"{lies.name}.2") / "other").read_text() == "again\n"
    assert len(place.volume()["copies"]) == 1
    # More members, and fewer again: all of it without anything being restarted.
    before = all_instances(place, 1)
    place.write(replicate=3)
    assert "release 2" in place.on(1)("deploy").out
    assert place.on(1)("volume", "copy", "/data").out.count("node") == 2
    assert len(place.volume()["copies"]) == 2
    place.write(replicate=1)
    place.on(1)("deploy", status=2)  # what may start from a copy needs one
    place.write(replicate=2)
    place.on(1)("deploy")
    place.on(1)("watch", "--once")
    assert len(place.volume()["copies"]) == 1
    assert all_instances(place, 1) == before
    place.write(replicate=5)
    assert "volume data: there are 3 members" in place.on(1)("deploy", "--plan").err


def test_a_snapshot_and_a_backup_are_restored_on_another_member(place: Place) -> None:
    away = others(place.home())[0]
    place.on(away)("volume", "snapshot", "/data", "first")
    backup = place.directory / "kept"
    place.on(away)("volume", "backup", "/data", backup)
    for words in (("first",), ("--file", backup)):
        place.shell("echo lost > /srv/data/file; chown 9:9 /srv/data/file")
        place.on(away)("volume", "restore", "-y", "/data", *words)
        assert place.shell("cat /srv/data/file; busybox stat -c '%u %g' /srv/data/file") == "kept\n7 8\n"
    until(lambda: place.well(1, {"db-1"}))
    assert place.lying() == {"data.G2": place.status()["db-1"]["member"]}
    place.on(away)("watch", "--once")
    assert len(place.volume()["copies"]) == 1
    assert place.on(1)("deploy").out == f"{NAME}: nothing to do\n"


@pytest.mark.parametrize("leads", [False, True], ids=["another leads", "it leads"])
def test_a_dead_members_volume_is_taken_over_from_its_newest_copy(place: Place, leads: bool) -> None:  # noqa: FBT001
    """Within 30 s; what it starts from is named; the stale instance and volume go when the member is back."""
    home = put_on_leader(place, leads)
    left = others(home)
    with place.watched(1, 2, 3):
        until(lambda: copied(place, left[0]), 60)
        until(lambda: guards(place, left[0]) == {"node1", "node2", "node3"}, 20)
        count = int(place.shell("cat /srv/data/count"))
        generation = place.status()["db-1"]["generation"]
        time.sleep(6)
        place.cluster.kill(place.cluster.members[home - 1])
        until(lambda: running_elsewhere(place, left, home), TAKEN_OVER)
        found = place.volume(left[0])
        assert found["generation"] == 2
        assert 0 <= found["started_from_copy"]["lost"] < TAKEN_OVER
        assert "ago a copy took its place that was" in place.on(left[0])("status", status=None).out
        assert place.shell("cat /srv/data/file; busybox stat -c '%u %g' /srv/data/file", left[0]) == "kept\n7 8\n"
        until(lambda: int(place.shell("cat /srv/data/count", left[0]) or 0) >= count)
        assert place.status(left[0])["db-1"]["generation"] == generation + 1
        place.cluster.start(place.cluster.members[home - 1])
        until(lambda: cleaned_up(place, left[0]), 120)
        assert place.status(left[0])["db-1"]["member"] != f"node{home}"
        until(lambda: copied(place, left[0]), 60)
    assert place.on(left[0])("deploy").out == f"{NAME}: nothing to do\n"
    assert place.on(left[0])("watch", "--once").err.count("failed") == 0


@pytest.mark.parametrize("leads", [False, True], ids=["another leads", "it leads"])
def test_a_member_that_is_cut_off_stops_its_own_before_others_take_over(place: Place, leads: bool) -> None:  # noqa: FBT001
    """At no moment two of them run; what is stale is removed when the member is back, the live one stays."""
    home = put_on_leader(place, leads)
    left = others(home)
    cut = place.cluster.members[home - 1]
    with place.watched(1, 2, 3):
        until(lambda: copied(place, left[0]), 60)
        until(lambda: guards(place, left[0]) == {"node1", "node2", "node3"}, 20)
        (before,) = running()
        began = time.monotonic()
        place.cluster.part(cut)
        try:
            while running() in (set(), {before}):
                assert time.monotonic() - began < 90
                time.sleep(0.02)
            (after,) = running()
            assert after != before
            until(lambda: running_elsewhere(place, left, home), 60)
            assert place.shell("cat /srv/data/file", left[0]) == "kept\n"
            place.shell("echo new > /srv/data/after", left[0])
            assert running() == {after}
        finally:
            place.cluster.mend(cut)
        until(lambda: cleaned_up(place, left[0]), 120)
        assert no_twins(place, left[0])
    assert place.shell("cat /srv/data/file /srv/data/after", left[0]) == "kept\nnew\n"
    assert place.on(home)("deploy").out == f"{NAME}: nothing to do\n"


def test_where_the_watch_of_the_member_was_killed_nobody_takes_over_until_it_is_fenced(place: Place) -> None:
    home = place.home()
    left = others(home)
    cut = place.cluster.members[home - 1]
    place.on(left[0])("watch", "--once")
    with place.watched(home) as (killed,):
        until(lambda: f"node{home}" in guards(place, left[0]), 20)
        killed.kill()
        killed.wait()
    time.sleep(PROMISED_SECONDS + 1)
    before = running()
    fenced = place.directory / "fenced"
    fence = f'echo "$BOXWRIGHT_MEMBER" >> {fenced}; test -e {fenced}.done'
    place.cluster.part(cut)
    try:
        with place.watched(left[0], more=("--fence", fence)):
            until(fenced.exists, 90)
            time.sleep(14)
            assert running() == before, "its member may run it still"
        assert fenced.read_text() == f"node{home}\n", "it is asked once"
        (fenced.parent / "fenced.done").touch()
        place.cluster.kill(cut)
        with place.watched(left[0], more=("--fence", fence)):
            until(lambda: running_elsewhere(place, left[:1], home), 90)
    finally:
        place.cluster.mend(cut)
        place.cluster.kill(cut)
        place.cluster.start(cut)
    until(lambda: place.on(left[0])("cluster", "status", status=None).status == 0, 60)
    place.on(left[0])("watch", "--once")
    until(lambda: cleaned_up(place, left[0]), 60)
    assert place.shell("cat /srv/data/file", left[0]) == "kept\n"


def put_on_leader(place: Place, leads: bool) -> int:  # noqa: FBT001
    """See that the volume's member is the leader of the cluster's database, or is not; returns its number."""
    found = json.loads(place.on(1)("cluster", "status", "--json").out)
    leader = int(next(it["name"] for it in found if "database-leader" in it["roles"])[-1])
    wanted = leader if leads else others(leader)[0]
    if place.home() != wanted:
        file = place.directory / "autopilot.yaml"
        text = file.read_text()
        place.on(1)("destroy", "--yes", "--volumes")
        file.write_text(text.replace("    failover", f"    placement: {{on: [node{wanted}]}}\n    failover"))
        place.on(1)("deploy")
        place.shell("echo kept > /srv/data/file; chown 7:8 /srv/data/file")
        file.write_text(text)
        place.on(1)("deploy")
    assert place.home() == wanted
    return wanted


def guards(place: Place, member: int) -> set[str]:
    """Members whose `watch` would stop instances."""
    found = place.cluster.members[member - 1].query("/1.0/profiles")
    return {it.rpartition(".")[2] for it in found if "/boxwright-guard-" in it}


def running() -> set[str]:
    """The stack's instances of which processes run, on whichever member: as the kernel shows them."""
    found: set[str] = set()
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (directory / "cmdline").read_bytes():
                found.update(
                    re.findall(rf"lxc\.payload\.boxwright-{NAME}_([^/\s]+)", (directory / "cgroup").read_text())
                )
    return found


def running_elsewhere(place: Place, left: list[int], home: int) -> bool:
    return place.well(left[0], {"db-1"}) and place.status(left[0])["db-1"]["member"] != f"node{home}"


def cleaned_up(place: Place, member: int) -> bool:
    """One instance, one volume, whole copies."""
    found = place.lying(member)
    volumes = [it for it in found if "COPY" not in it]
    return len(all_instances(place, member)) == 1 and len(volumes) == 1 and place.well(member, {"db-1"})
