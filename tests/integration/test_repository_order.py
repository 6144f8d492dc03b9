"""Several binary repositories: asked in their order, and where one fails the next is used."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.conftest import Program
from tests.integration.binhosts import World, archives


class Two:
    """Repositories `one` and `two`, each with its own build of `lib`: no two builds are the same."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.path = world.path
        self._publishers = {name: world.machine(f"builds-{name}") for name in ("one", "two")}
        self.places = {name: f"type: directory, path: {world.path / name}" for name in self._publishers}
        self.keys = {name: machine("repo", "key").out.strip() for name, machine in self._publishers.items()}
        for name, machine in self._publishers.items():
            self.configure(name)
            machine("build", world.tree / "pkgs/lib", "--push")

    def configure(self, *names: str) -> None:
        entries = "".join(
            f"- {{name: {name}, {self.places[name]}, keys: ['{self.keys[name]}'], time-limit: 2}}\n" for name in names
        )
        (self._world.tree / ".boxwright-config.yaml").write_text(f"repositories:\n{entries}")

    def archives(self, name: str) -> dict[str, bytes]:
        """What the publisher of `name` built."""
        return archives(self._publishers[name])

    def machine(self, name: str, *names: str) -> Program:
        """Another machine, which asks these repositories."""
        found = self._world.machine(name)
        self.configure(*names)
        return found


@pytest.fixture
def two(world: World) -> Two:
    return Two(world)


def test_repositories_are_asked_in_their_order(world: World, two: Two) -> None:
    assert two.archives("one") != two.archives("two")
    for number, order in enumerate((("one", "two"), ("two", "one"))):
        built = two.machine(f"asks-{number}", *order)("build", world.tree / "pkgs/lib")
        assert f"Found HASH in '{order[0]}'" in built.err
        assert "warning" not in built.err
    # What the first lacks comes from the next; what it has still comes from it.
    machine = two.machine("more", "one")
    machine("build", world.tree / "pkgs/app")
    two.configure("one", "two")
    machine("push", "app-2.0", "two", cwd=world.tree)
    two.keys["two"] += f"', '{machine('repo', 'key').out.strip()}"
    last = two.machine("last", "one", "two")
    built = last("build", world.tree / "pkgs/app")
    assert "Found HASH in 'one'" in built.err
    assert "Found HASH in 'two'" in built.err
    assert archives(last) == archives(machine)


def unsigned(two: Two) -> None:
    """Somebody signed it whom nobody knows."""
    two.keys["one"] = two.keys["two"]


def altered(two: Two) -> None:
    """Every record says something else than what was signed."""
    for path in two.path.glob("one/records/*/*/*"):
        path.write_bytes(path.read_bytes().replace(b"lib-1.0", b"lib-1.1"))


def corrupt(two: Two) -> None:
    """Records are whole, content isn't."""
    for path in two.path.glob("one/blobs/*/*"):
        path.write_bytes(path.read_bytes()[:-7])


def collected(two: Two) -> None:
    """Records are there, content isn't."""
    for path in two.path.glob("one/blobs/*/*"):
        path.unlink()


def down(two: Two) -> None:
    """Nobody is there."""
    two.places["one"] = "type: http, path: '127.0.0.1:1'"


def foreign(two: Two) -> None:
    """It is of a format that nobody knows."""
    (two.path / "one/boxwright-repository.json").write_text('{"format": 99, "id": "x"}')


FIRST_FAILS = [
    (unsigned, "repository.untrusted"),
    (altered, "repository.untrusted"),
    (corrupt, "repository.truncated"),
    (collected, "repository.missing"),
    (down, "repository.unreachable"),
    (foreign, "repository.format"),
]


@pytest.mark.parametrize(("harm", "code"), FIRST_FAILS, ids=lambda it: getattr(it, "__name__", ""))
def test_where_the_first_fails_the_next_is_used(world: World, two: Two, harm: Callable[[Two], None], code: str) -> None:
    harm(two)
    second = two.machine("second", "one", "two")
    built = second("build", world.tree / "pkgs/lib")
    assert "Found HASH in 'two'" in built.err
    assert "warning: " in built.err
    assert f"[{code}]" in built.err
    assert archives(second) == two.archives("two")
    second("fsck")
    third = two.machine("third", "one", "two")
    got = third("pull", "lib-1.0", cwd=world.tree)
    assert "received from two" in got.out
    assert "two" in third("search", "lib", cwd=world.tree).out
    two.configure("one")
    failed = two.machine("fourth", "one")("pull", "lib-1.0", status=5, cwd=world.tree)
    assert f"[{code}]" in failed.err
