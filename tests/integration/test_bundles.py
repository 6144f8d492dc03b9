"""Bundles: the same ZIP for the same revision, and what is refused while it is made."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import zipfile
from pathlib import Path

import pytest

from tests.conftest import Program
from tests.integration.web import commit, git, serving

pytestmark = pytest.mark.integration

FILES: dict[str, str | None] = {
    "index.html": "<p>one</p>\n",
    "bin/tool": "#!/bin/sh\n",
    "tests/big": "x" * 1000,
    "secret.txt": "no\n",
    ".gitattributes": "tests export-ignore\nversion.txt export-subst\n*.crlf text eol=crlf\n",
    "version.txt": "$Format:%h %d$\n",
    "lines.crlf": "one\ntwo\n",
    ".bundleignore": "secret.*\n.gitattributes\n",
}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    place = tmp_path / "shop"
    place.mkdir()
    git(place, "init", "-q", ".")
    os.makedirs(place / "bin")
    (place / "bin/tool").touch(mode=0o755)
    os.symlink("index.html", place / "start.html")
    commit(place, FILES)
    git(place, "tag", "v1")
    return place


def bundle(program: Program, *words: str | Path, status: int = 0) -> Path:
    out = program("bundle", *words, status=status).out
    return Path(out.split(" sha256:")[0])


def error_code(program: Program, *words: str | Path, status: int = 1) -> str:
    return program("bundle", *words, status=status).err.rpartition("[")[2].partition("]")[0]


def content(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def test_two_clones_at_other_paths_and_times_give_the_same_bytes(
    repository: Path, tmp_path: Path, boxwright: Program
) -> None:
    first = bundle(boxwright, repository, "-o", tmp_path / "a")
    os.makedirs(tmp_path / "elsewhere/deep")
    clone = tmp_path / "elsewhere/deep/shop"
    git(tmp_path, "clone", "-q", str(repository), str(clone))
    # What a repository's owner configured, and names that only one clone has, change nothing.
    git(clone, "config", "core.autocrlf", "true")
    git(clone, "config", "core.abbrev", "7")
    (clone / ".git/info/attributes").write_text("index.html export-ignore\n")
    git(clone, "tag", "other")
    os.utime(clone / "index.html", (1, 1))
    second = bundle(boxwright, clone, "--rev", "v1", "-o", tmp_path / "b")
    assert first.read_bytes() == second.read_bytes()
    head = git(repository, "rev-parse", "HEAD").strip()
    assert first.name == second.name == f"shop-{head[:12]}.zip"

    found = content(first)
    assert set(found) == {".bundle/bundle.json", "bin/tool", "index.html", "lines.crlf", "start.html", "version.txt"}
    assert found["version.txt"].decode().split() == [head[:12]]
    assert found["lines.crlf"] == b"one\r\ntwo\r\n"
    assert json.loads(found[".bundle/bundle.json"]) == {"project": "shop", "revision": head}
    listed = subprocess.run(["unzip", "-Z", first], capture_output=True, text=True, check=True).stdout.splitlines()
    assert [line.split()[0] for line in listed if line.endswith(" bin/tool")] == ["-rwxr-xr-x"]
    assert [line.split()[0] for line in listed if line.endswith(" start.html")] == ["lrwxrwxrwx"]


def test_a_repository_elsewhere(repository: Path, tmp_path: Path, boxwright: Program) -> None:
    """By a tag, a commit's first digits, and without a revision; private parts of the address are not shown."""
    local = bundle(boxwright, repository, "-o", tmp_path / "a")
    with serving(tmp_path) as web:
        url = f"{web.url}/git/shop/.git"
        head = git(repository, "rev-parse", "HEAD").strip()
        for number, words in enumerate(([], ["--rev", "v1"], ["--rev", head[:9]], ["--rev", head])):
            assert bundle(boxwright, url, *words, "-o", tmp_path / f"b{number}").read_bytes() == local.read_bytes()
        assert error_code(boxwright, url, "--rev", "nowhere", "-o", tmp_path / "c", status=5) == "git.ref"
        secret = url.replace("//", "//me:s3cret@").replace("shop", "missing")
        assert "s3cret" not in boxwright("bundle", secret, "-o", tmp_path / "d", status=5).err


def test_what_lies_beside_the_zip(repository: Path, tmp_path: Path, boxwright: Program) -> None:
    dist, key, public = tmp_path / "dist", tmp_path / "key.pem", tmp_path / "public.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", key], check=True)
    subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-out", public], check=True)
    first = bundle(boxwright, repository, "-o", dist, "--sign", key)
    subprocess.run(["sha256sum", "--check", "--quiet", f"{first.name}.sha256"], cwd=dist, check=True)
    manifest = json.loads((dist / f"{first.name}.json").read_text())
    assert manifest["sha256"] == hashlib.sha256(first.read_bytes()).hexdigest()
    assert manifest["size"] == first.stat().st_size
    words: list[str | Path] = [
        "-pubin",
        "-inkey",
        public,
        "-rawin",
        "-in",
        f"{first}.json",
        "-sigfile",
        f"{first}.json.sig",
    ]
    subprocess.run(["openssl", "pkeyutl", "-verify", *words], check=True, capture_output=True)

    for number in range(3):
        commit(repository, {"index.html": f"<p>{number}</p>\n"})
        newest = bundle(boxwright, repository, "-o", dist, "--keep", "2")
        assert (dist / "latest").read_text() == f"{newest.name}\n"
    listed = json.loads((dist / "index.json").read_text())["bundles"]
    assert [it["revision"] for it in listed] == git(repository, "rev-list", "--reverse", "-n2", "HEAD").split()
    assert sorted(it.name for it in dist.glob("*.zip")) == sorted(it["file"] for it in listed)
    assert not first.exists()
    assert not (dist / f"{first.name}.json.sig").exists()
    assert error_code(boxwright, repository, "-o", dist, "--name", "other") == "bundle.project"


def test_a_directory_and_its_commit_are_the_same_but_for_their_name(
    repository: Path, tmp_path: Path, boxwright: Program
) -> None:
    committed = content(bundle(boxwright, repository, "-o", tmp_path / "a"))
    (repository / "index.html").write_text("<p>edited</p>\n")
    result = boxwright("bundle", repository, "-o", tmp_path / "a")
    assert "not committed" in result.err
    working = content(bundle(boxwright, repository, "--working-tree", "-o", tmp_path / "b"))
    assert working["index.html"] == b"<p>edited</p>\n"
    assert set(working) == {*committed, "tests/big"}, "export-ignore is git's"
    again = bundle(boxwright, repository, "--working-tree", "-o", tmp_path / "c")
    assert again.name == bundle(boxwright, repository, "--working-tree", "-o", tmp_path / "b").name
    assert error_code(boxwright, tmp_path / "c", "--rev", "v1", status=2) == "bundle.no-repository"


def test_bundles_made_before_are_no_part_of_the_next(repository: Path, tmp_path: Path, boxwright: Program) -> None:
    dist = repository / "dist"
    first = boxwright("bundle", repository, "-o", dist)
    assert boxwright("bundle", repository, "-o", dist).err == first.err, "no word of changes"
    working = content(bundle(boxwright, repository, "--working-tree", "-o", tmp_path / "elsewhere"))
    assert not [name for name in working if name.startswith("dist/")]
    (repository / "dist/index.json").write_text("{}")  # the application's own
    working = content(bundle(boxwright, repository, "--working-tree", "-o", tmp_path / "elsewhere"))
    assert "dist/latest" in working


def test_submodules_and_large_file_pointers(repository: Path, tmp_path: Path, boxwright: Program) -> None:
    library = tmp_path / "library"
    library.mkdir()
    git(library, "init", "-q", ".")
    commit(library, {"lib.txt": "library\n"})
    git(repository, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", "../library", "vendor/library")
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"
    commit(repository, {"picture.png": pointer})
    result = boxwright("bundle", repository, "-o", tmp_path / "a")
    assert "picture.png" in result.err
    first = Path(result.out.split(" sha256:")[0])
    assert content(first)["vendor/library/lib.txt"] == b"library\n"
    # A clone without the submodule fetches it: `../library` stands on the address that it was cloned from.
    git(tmp_path, "clone", "-q", str(repository), str(tmp_path / "clone"))
    second = bundle(boxwright, tmp_path / "clone", "-o", tmp_path / "b")
    assert first.read_bytes() == second.read_bytes()


def test_a_directory_below_the_root_of_its_repository(repository: Path, tmp_path: Path, boxwright: Program) -> None:
    commit(
        repository,
        {"web/page.html": "page\n", "web/bundle.yaml": "name: web\nstart: [serve, 'a b']\ninstall: make x\n"},
    )
    path = bundle(boxwright, repository / "web", "-o", tmp_path / "a")
    assert path.name.startswith("web-")
    found = content(path)
    assert set(found) == {"page.html", ".bundle/bundle.json", ".bundle/install", ".bundle/start"}
    assert found[".bundle/start"] == b"#!/bin/sh\nexec serve 'a b'\n"
    assert found[".bundle/install"] == b"#!/bin/sh\nmake x\n"


@pytest.mark.parametrize(
    ("lies", "reason"),
    [("ignored", "ignores"), ("new", "not committed"), ("web", "not committed"), ("nothing yet", "no commit yet")],
)
def test_a_directory_that_its_revision_does_not_have(
    repository: Path, tmp_path: Path, boxwright: Program, lies: str, reason: str
) -> None:
    """Nothing that nobody committed passes for a revision; it is bundled where somebody asks for it."""
    commit(repository, {".gitignore": "ignored/\n", "web/page.html": "page\n"})
    if lies == "nothing yet":
        repository = tmp_path / "other"
        repository.mkdir()
        git(repository, "init", "-q", ".")
    place = repository / lies
    place.mkdir(exist_ok=True)
    (place / "page.html").write_text("other page\n")
    revision = ["--rev", "v1"] if lies == "web" else []
    refused = boxwright("bundle", place, *revision, "-o", tmp_path / "a", status=2)
    assert "[bundle.not-committed]" in refused.err
    assert reason in refused.err
    assert "--working-tree" in refused.err
    assert not list((tmp_path / "a").iterdir())
    assert content(bundle(boxwright, place, "--working-tree", "-o", tmp_path / "a"))["page.html"] == b"other page\n"


def test_build_steps_run_in_a_container_first(tmp_path: Path, boxes: Program, repository: Path) -> None:
    text = "build: {image: tool, run: ['cat index.html > made.html', 'rm index.html']}\nexclude: [start.html]\n"
    commit(repository, {"bundle.yaml": text})
    found = content(bundle(boxes, repository, "-o", tmp_path / "a"))
    assert found["made.html"] == b"<p>one</p>\n"
    assert "index.html" not in found
    first = bundle(boxes, repository, "-o", tmp_path / "b").read_bytes()
    assert first == bundle(boxes, repository, "-o", tmp_path / "c").read_bytes()
    commit(repository, {"bundle.yaml": "build: {image: tool, run: ['false']}\n"})
    assert error_code(boxes, repository, "-o", tmp_path / "d") == "bundle.build"
    assert not list((tmp_path / "d").iterdir()), "nothing is left of what failed"


REFUSED = {
    "absolute link": ("ln -s /etc/passwd l", "bundle.link"),
    "link that leads out": ("mkdir d; ln -s ../../x d/l", "bundle.link"),
    "fifo": ("mkfifo f", "bundle.special"),
    "backslash": ("touch 'a\\b'", "bundle.name"),
    "line feed": ("touch \"$(printf 'a\\nb')\"", "bundle.name"),
    "no UTF-8": ("touch \"$(printf 'a\\377')\"", "bundle.name"),
    "unknown key": ("echo 'nmae: x' > bundle.yaml", "package.unknown-key"),
    "no YAML": ("echo 'a: [' > bundle.yaml", "package.yaml"),
    "own directory": ("mkdir .bundle; echo > .bundle/start", "bundle.own"),
}


@pytest.mark.parametrize(("script", "code"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_bundled(script: str, code: str, tmp_path: Path, boxwright: Program) -> None:
    place = tmp_path / "app"
    place.mkdir()
    subprocess.run(["sh", "-c", script], cwd=place, check=True)
    status = 2 if code.startswith("package.") else 1
    assert error_code(boxwright, place, "-o", tmp_path / "dist", status=status) == code
    assert not list((tmp_path / "dist").iterdir())


def test_wrong_use(tmp_path: Path, repository: Path, boxwright: Program) -> None:
    assert error_code(boxwright, repository, "--rev", "nowhere", status=5) == "git.ref"
    assert error_code(boxwright, repository, "--rev=--output=x", status=5) == "git.ref"
    assert error_code(boxwright, tmp_path / "missing", status=2) == "bundle.location"
    assert error_code(boxwright, repository, "-o", repository) == "bundle.output"
    key = tmp_path / "key"
    subprocess.run(["openssl", "genpkey", "-algorithm", "x25519", "-out", key], check=True)
    assert error_code(boxwright, repository, "--sign", key, "-o", tmp_path / "d") == "bundle.key"
    damaged = tmp_path / "d/index.json"
    damaged.parent.mkdir(exist_ok=True)
    damaged.write_text("{}")
    assert error_code(boxwright, repository, "-o", tmp_path / "d") == "bundle.index"
