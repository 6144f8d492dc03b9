"""What --discover takes, and what a configuration of repositories may say."""

from __future__ import annotations

import http.server
import io
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from boxwright.app.discovery import Discovered, discover, parse_place
from boxwright.app.repositoryconfiguration import Way, binaries_for, binaries_of, chosen, own_key_path
from boxwright.errors import BoxwrightError
from boxwright.repositories.binary.sftp import SftpPlace
from boxwright.store.store import Store

EXAMPLE = """\
repository:
  name: mysuperbinhost
  upload-type: ssh
  upload-path: containers@mysuperbinhost.org/containers
  download-type: https
  download-path: mysuperbinhost.org/containers
"""


def code_of(call: Callable[[], object]) -> str:
    with pytest.raises(BoxwrightError) as caught:
        call()
    return caught.value.code


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("github.com/sysadmin42/containers,push=True", ("github.com/sysadmin42/containers", True)),
        ("https://example.org/x,push=false", ("https://example.org/x", False)),
        ("./here", ("./here", False)),
    ],
)
def test_places(text: str, expected: tuple[str, bool]) -> None:
    assert parse_place(text) == expected


@pytest.mark.parametrize("text", ["", ",push=True", "x,push=perhaps", "x,pull=True"])
def test_wrong_places(text: str) -> None:
    assert code_of(partial(parse_place, text)) == "usage.discover"


def test_a_git_repository(tmp_path: Path, store: Store) -> None:
    place = tmp_path / "place.git"
    (place / "packages/demo/x").mkdir(parents=True)
    (place / ".boxwright-config.yaml").write_text(EXAMPLE)
    (place / "packages/demo/x/pkg.yaml").write_text("name: x\n")
    for words in ("init -q", "add .", "-c user.name=n -c user.email=e commit -qm m"):
        subprocess.run(["git", "-C", place, *words.split()], check=True)
    found = discover([f"{place},push=1"], store, offline=False)
    assert found == Discovered((f"{place}/.boxwright-config.yaml",), (f"{place}/packages",), push=True)
    assert found.environment({"BOXWRIGHT_PACKAGES": "/a"})["BOXWRIGHT_PACKAGES"] == f"/a:{place}/packages"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

    root = tmp_path / "site"
    root.mkdir()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(root))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield root, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_web_site(site: tuple[Path, str], store: Store) -> None:
    root, address = site
    assert code_of(partial(discover, [address], store, offline=False)) == "fetch.status"
    assert code_of(partial(discover, [address], store, offline=True)) == "discover.offline"
    (root / ".buildit-config.yaml").write_text(EXAMPLE)
    assert discover([address], store, offline=False).trees == ()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        member = tarfile.TarInfo("demo/x/pkg.yaml")
        archive.addfile(member)
    (root / "packages.tar.zst").write_bytes(out.getvalue())  # any compression will do
    found = discover([address], store, offline=False)
    assert Path(found.trees[0], "demo/x/pkg.yaml").is_file()
    assert Path(found.files[0]).read_text() == EXAMPLE
    assert discover([address], store, offline=True) == found


def test_an_empty_place(tmp_path: Path, store: Store) -> None:
    assert code_of(partial(discover, [str(tmp_path)], store, offline=False)) == "discover.empty"
    assert code_of(partial(discover, ["nothing"], store, offline=False)) == "usage.discover"


# Configuration --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [".boxwright-config.yaml", ".buildit-config.yaml"])
def test_the_example(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(EXAMPLE)
    (found,) = binaries_for(str(tmp_path), {"HOME": "/home/somebody"})
    assert found.upload == Way("ssh", "containers@mysuperbinhost.org/containers")
    assert found.download == Way("https", "mysuperbinhost.org/containers")
    assert found.signing_key == "/home/somebody/.config/boxwright/signing-key.pem"
    assert SftpPlace("containers@mysuperbinhost.org/containers", 1.0, {}).where


def test_several_are_asked_in_order(tmp_path: Path) -> None:
    home = tmp_path / "home"
    tree = home / "tree"
    tree.mkdir(parents=True)
    (tree / ".git").mkdir()
    (tree / ".boxwright-config.yaml").write_text(
        "repositories:\n- {name: a, type: directory, path: ./a}\n"
        "- {type: reapi, name: farm, cas: 'grpc://127.0.0.1:1'}\n- {name: b, type: s3, path: bucket/x}\n"
    )
    (home / ".boxwright-config.yaml").write_text("repository: {name: a, type: directory, path: /other}\n")
    found = binaries_for(str(tree), {"HOME": str(home)})
    assert [(it.name, it.download) for it in found] == [
        ("a", Way("directory", f"{tree}/a")),
        ("b", Way("s3", "bucket/x")),
    ]
    assert [it.name for it in chosen(found, ["b"])] == ["b"]
    assert code_of(partial(chosen, found, ["c"])) == "repository.unknown"


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        ("repository:\n  name: x\n  tipe: ssh\n", "config.unknown-key", 3),
        ("repository:\n  name: x\n  type: ftp\n  path: y\n", "config.wrong", 3),
        ("repository:\n  name: x\n", "config.repository", 2),
        ("repository: [x]\n", "config.wrong", 1),
        ("repositories: {a: b}\n", "config.wrong", 1),
        ("repository:\n  name: x\n  type: directory\n  path: y\n  keys: ['ed25519:AAAA']\n", "key.wrong", 2),
        ("repository:\n  name: x\n  type: directory\n  path: y\n  keys: [missing.txt]\n", "config.key", 2),
    ],
)
def test_wrong_configurations(tmp_path: Path, text: str, code: str, line: int) -> None:
    path = tmp_path / ".boxwright-config.yaml"
    path.write_text(text)
    with pytest.raises(BoxwrightError) as caught:
        binaries_of([str(path)], {})
    assert caught.value.code == code
    assert caught.value.where is not None
    assert caught.value.where.line == line


def test_a_discovered_configuration_names_no_key_to_sign_with(tmp_path: Path) -> None:
    path = tmp_path / ".boxwright-config.yaml"
    path.write_text("repository: {name: x, type: directory, path: y, signing-key: /root/.ssh/id_ed25519}\n")
    (found,) = binaries_of([str(path)], {"HOME": "/h"}, foreign=[str(path)])
    assert found.signing_key == own_key_path({"HOME": "/h"})


@pytest.mark.parametrize("address", ["", "host", "-oProxyCommand=x/y", "user@-host/x", "host/-x", "a b/c"])
def test_addresses_that_ssh_does_not_get(address: str) -> None:
    assert code_of(partial(SftpPlace, address, 1.0, {})) == "repository.address"
