from __future__ import annotations

import json
from pathlib import Path

import pytest

from boxwright.app.outputs import parse_output
from boxwright.app.upkeep import parse_size
from boxwright.cli.main import main
from boxwright.errors import UsageError
from tests.unit.store.made import image, snapshot, store_at


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    store = store_at(tmp_path)
    base = snapshot(store, "base", {"a/file": b"1"})
    image(store, snapshot(store, "top", {"b": b"2"}, base), "hello:latest", "other:1")
    image(store, snapshot(store, "unnamed", {"c": b"3"}, base))
    store.close()
    monkeypatch.setenv("BOXWRIGHT_HOME", store.home.root)
    return Path(store.home.root)


@pytest.mark.parametrize(
    ("text", "size"), [("10GB", 10**10), ("512MiB", 512 << 20), ("1.5k", 1500), ("7", 7), ("2 tb", 2 * 10**12)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1", "1XB", "1 0"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UsageError):
        parse_size(text)


def test_outputs_are_parsed() -> None:
    request = parse_output("oci-archive,compression=gzip,level=9:a:b.tar", "n")
    assert (request.kind, str(request.destination), dict(request.options)) == (
        "oci-archive",
        "a:b.tar",
        {"compression": "gzip", "level": "9"},
    )


@pytest.mark.parametrize("text", ["oci", "oci:", "nothing:x", ":x", "oci,level:x"])
def test_what_is_no_output(text: str) -> None:
    with pytest.raises(UsageError):
        parse_output(text, "")


@pytest.mark.usefixtures("home")
def test_images_inspect_and_tag(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tag", "hello", "third"]) == 0
    assert main(["images", "--names"]) == 0
    assert capsys.readouterr().out.split() == ["hello:latest", "other:1", "third:latest"]
    assert main(["images"]) == 0
    assert capsys.readouterr().out.splitlines()[0].split() == ["NAME", "DIGEST", "SIZE", "CREATED"]
    assert main(["images", "-q"]) == 0
    digests = capsys.readouterr().out.split()
    assert len(digests) == 2
    assert main(["inspect", "hello"]) == 0
    found = json.loads(capsys.readouterr().out)[0]
    assert found["names"] == ["hello:latest", "other:1", "third:latest"]
    assert found["identity"] in digests
    assert main(["inspect", "nothing"]) == 1
    assert "[image.unknown]" in capsys.readouterr().err


@pytest.mark.usefixtures("home")
def test_gc_says_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gc", "--all", "--dry-run"]) == 0
    assert "2 states and 1 layers would be removed" in capsys.readouterr().out
    assert main(["gc", "--all", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["snapshots"] == 2
    assert main(["gc", "--max-size", "some"]) == 2
    assert main(["fsck"]) == 0
    assert "1 states are well" in capsys.readouterr().out


def test_fsck_names_the_damage_and_repairs(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    next(home.glob("l/*/b")).write_bytes(b"X")
    assert main(["fsck"]) == 4
    assert "(hello:latest, other:1): /b has other bytes" in capsys.readouterr().out
    assert main(["fsck", "--repair"]) == 0
    assert "image hello:latest: removed" in capsys.readouterr().out
    assert main(["fsck"]) == 0
    assert main(["images", "--names"]) == 0
    assert "hello" not in capsys.readouterr().out.splitlines()[-1]
