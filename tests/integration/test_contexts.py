"""Build contexts of every kind, named ones, and what is left out of them."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import PROGRAM, Program
from tests.integration.web import Page, Web, commit, serving

pytestmark = pytest.mark.integration

Context = Callable[..., Path]


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    (tmp_path / "repositories").mkdir()
    with serving(tmp_path / "repositories") as server:
        yield server


def tar_of(path: Path, **files: str) -> bytes:
    """A tar of files (``->TARGET``: a symbolic link), written to `path`."""
    with tarfile.open(path, "w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.mode = 0o644
            member.uid = 1234
            if text.startswith("->"):
                member.type, member.linkname = tarfile.SYMTYPE, text[2:]
                tar.addfile(member)
            else:
                member.size = len(text)
                tar.addfile(member, io.BytesIO(text.encode()))
    return path.read_bytes()


def build(program: Program, *arguments: str | Path, stdin: bytes | None = None, status: int = 0) -> str:
    """Build with bytes on standard input; what was said."""
    done = subprocess.run(
        [PROGRAM, "build", "-q", *map(str, arguments)],
        input=stdin or b"",
        capture_output=True,
        env=program.whole_environment(),
        check=False,
    )
    said = done.stderr.decode() + done.stdout.decode()
    assert done.returncode == status, said
    assert "Traceback" not in said
    return said


def files_in(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if not path.is_dir()}


RECIPE = "FROM scratch\nCOPY a /\n"


def test_one_context_in_many_ways(
    boxwright: Program, context: Context, web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = context("", {"Dockerfile": RECIPE, "a": "A"})
    (place / "Recipe").unlink()
    data = tar_of(tmp_path / "c.tgz", Dockerfile=RECIPE, a="A")
    web.pages["/c.tgz"] = Page(data)
    commit(web.repositories / "x.git", {"Dockerfile": RECIPE, "a": "A", "sub/Dockerfile": RECIPE, "sub/a": "A"})
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")
    expected = build(boxwright, place)
    assert build(boxwright, "-", stdin=data) == expected
    assert build(boxwright, tmp_path / "c.tgz") == expected
    assert build(boxwright, f"{web.url}/c.tgz") == expected
    assert build(boxwright, f"{web.url}/git/x.git") == expected
    assert build(boxwright, f"{web.url}/git/x.git#main:sub") == expected
    assert build(boxwright, "-f", "-", place, stdin=RECIPE.encode()) == expected
    assert build(boxwright, "-f", "sub/Dockerfile", f"{web.url}/git/x.git") == expected


def test_a_definition_alone(boxwright: Program, web: Web, tmp_path: Path) -> None:
    text = b"FROM scratch\nLABEL a=b\n"
    web.pages["/Dockerfile"] = Page(text)
    expected = build(boxwright, "-", stdin=text)
    assert build(boxwright, f"{web.url}/Dockerfile") == expected
    assert "[copy.not-found]" in build(boxwright, "-", stdin=RECIPE.encode(), status=1)
    assert "[usage.file]" in build(boxwright, "-", "-f", "x", stdin=text, status=2)
    assert "[usage.stdin]" in build(boxwright, "-", "-f", "-", stdin=text, status=2)
    assert "[usage.stdin]" in build(boxwright, "-", stdin=b"", status=2)
    (tmp_path / "noise").write_bytes(bytes(range(256)))
    assert "[definition.encoding]" in build(boxwright, tmp_path / "noise", status=2)


def test_rules_of_a_fetched_context_count(boxwright: Program, web: Web, tmp_path: Path) -> None:
    recipe = "FROM scratch\nCOPY . /\n"
    commit(web.repositories / "x.git", {"Dockerfile": recipe, "a": "A", "b": "B", ".dockerignore": "b\n.d*\n"})
    build(boxwright, f"{web.url}/git/x.git", "-o", f"rootfs:{tmp_path / 'out'}")
    assert files_in(tmp_path / "out") == {"Dockerfile", "a"}


def test_the_time_of_a_repository_is_its_commits(boxwright: Program, web: Web) -> None:
    commit(web.repositories / "x.git", {"Dockerfile": RECIPE, "a": "of its time"})
    build(boxwright, f"{web.url}/git/x.git", "-t", "timed")
    assert json.loads(boxwright("inspect", "timed").out)[0]["created"] == 981173106


def test_a_stranger_does_not_get_out_of_a_context(boxwright: Program, web: Web, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "Dockerfile").write_text("FROM scratch\nLABEL secret=1\n")
    tar_of(tmp_path / "a.tgz", Dockerfile=f"->{outside}/Dockerfile")
    assert "[definition.outside]" in build(boxwright, tmp_path / "a.tgz", status=2)
    tar_of(tmp_path / "b.tgz", Dockerfile=RECIPE, a=f"->{outside}/Dockerfile")
    assert "[copy.not-found]" in build(boxwright, tmp_path / "b.tgz", status=1)
    tar_of(tmp_path / "c.tgz", **{"../escaped": "x", "Dockerfile": RECIPE})
    assert "[unpack.escape]" in build(boxwright, tmp_path / "c.tgz", status=5)
    assert not (tmp_path / "escaped").exists()
    commit(web.repositories / "x.git", {"Dockerfile": RECIPE, "up": f"->{outside}"})
    assert "[context.not-found]" in build(boxwright, f"{web.url}/git/x.git#main:up", status=2)
    assert "[context.not-found]" in build(boxwright, f"{web.url}/git/x.git#main:../..", status=2)
    assert "[definition." in build(boxwright, f"{web.url}/git/x.git", "-f", "up/Dockerfile", status=2)
    assert "[definition." in build(boxwright, tmp_path / "b.tgz", "-f", outside / "Dockerfile", status=2)


def test_an_error_in_a_fetched_definition_has_its_place(boxwright: Program, tmp_path: Path) -> None:
    data = tar_of(tmp_path / "c.tgz", **{"x/Dockerfile": "FROM scratch\nCOPY missing /\n"})
    said = build(boxwright, "-", "-f", "x/Dockerfile", stdin=data, status=1)
    assert said.count("x/Dockerfile:2") >= 1
    assert "scratch-" not in said
    assert "the context holds no definition" in build(boxwright, "-", stdin=data, status=2)


def test_nothing_of_a_fetched_context_is_left(fresh_boxwright: Program, tmp_path: Path) -> None:
    data = tar_of(tmp_path / "c.tgz", Dockerfile=RECIPE, a="A")
    build(fresh_boxwright, "-", stdin=data)
    assert not [path for path in (fresh_boxwright.home / "work").iterdir() if path.is_dir()]
    assert not list((fresh_boxwright.home / "contexts").iterdir())


def test_named_contexts(boxwright: Program, context: Context, web: Web, busybox_base: Path, tmp_path: Path) -> None:
    place = context(
        "FROM alpine:latest AS one\nRUN echo one > /one\n"
        "FROM scratch\n"
        "COPY --from=directory x /directory\n"
        "COPY --from=archive a /archive\n"
        "COPY --from=page a /page\n"
        "COPY --from=repository a /repository\n"
        "COPY --from=one one /one\n"
        "COPY --from=registry.example/other one /alias\n"
        "COPY --from=image bin/busybox /image\n",
        {"more/x": "X", "more/left": "out", "more/.dockerignore": "left\n"},
    )
    data = tar_of(tmp_path / "c.tgz", a="A")
    web.pages["/c.tgz"] = Page(data)
    commit(web.repositories / "x.git", {"a": "G"})
    given = {
        "docker.io/library/alpine": f"docker-image://tar:{busybox_base}",
        "directory": place / "more",
        "archive": tmp_path / "c.tgz",
        "page": f"{web.url}/c.tgz",
        "repository": f"{web.url}/git/x.git#main",
        "registry.example/other:latest": "target:one",
        "image": f"docker-image://tar:{busybox_base}",
        "unused": "http://127.0.0.1:9/nothing.tar",
    }
    options = [word for name, value in given.items() for word in ("--build-context", f"{name}={value}")]
    build(boxwright, place, "-o", f"rootfs:{tmp_path / 'out'}", *options)
    out = tmp_path / "out"
    assert files_in(out) == {"directory", "archive", "page", "repository", "one", "alias", "image"}
    assert (out / "repository").read_text() == "G"
    assert (out / "alias").read_text() == "one\n"
    left = context("FROM scratch\nCOPY --from=directory left /\n", name="left")
    directory = f"directory={place / 'more'}"
    assert "[copy.not-found]" in build(boxwright, left, "--build-context", directory, status=1)


def test_a_layout_and_a_local_image_as_named_contexts(
    boxwright: Program, context: Context, busybox_base: Path, tmp_path: Path
) -> None:
    layout = tmp_path / "layout"
    base = context(f"FROM tar:{busybox_base}\nENV A=b\nRUN echo x > /x\n", name="base")
    build(boxwright, base, "-t", "named-base", "-o", f"oci:{layout}")
    place = context("FROM whatever\nRUN echo $A > /a\n")
    for number, value in enumerate((f"oci-layout://{layout}:named-base:latest", "docker-image://named-base")):
        out = tmp_path / f"out{number}"
        build(boxwright, place, "--build-context", f"whatever={value}", "-o", f"rootfs:{out}")
        assert ((out / "a").read_text(), (out / "x").read_text()) == ("b\n", "x\n")


def test_a_context_instead_of_a_stage(boxwright: Program, context: Context, tmp_path: Path) -> None:
    place = context("FROM nowhere.invalid/x AS assets\nRUN false\nFROM assets\nCOPY --from=0 y /z\n", {"more/y": "Y"})
    build(boxwright, place, "--build-context", f"assets={place / 'more'}", "-o", f"rootfs:{tmp_path / 'out'}")
    assert files_in(tmp_path / "out") == {"y", "z"}


@pytest.mark.parametrize(
    ("value", "code"),
    [("x", "usage.pair"), ("x=input:y", "usage.build-context"), ("x=s3://y", "usage.build-context"), ("x=-", "usage.")],
)
def test_wrong_named_contexts(boxwright: Program, context: Context, value: str, code: str) -> None:
    assert f"[{code}" in build(boxwright, context("FROM scratch\n"), "--build-context", value, status=2)


def test_what_is_left_out(boxwright: Program, context: Context, tmp_path: Path) -> None:
    files = dict.fromkeys(("a.md", "keep.md", "d/a.md", "d/keep.md", "d/e/x", "tmp/a", "tmp/b", "#x"), "x")
    place = context(
        "FROM scratch\nCOPY . /\n", {**files, ".dockerignore": "**/*.md\n!**/keep.md\ntmp/*\n!tmp/b\nRecipe*"}
    )
    build(boxwright, place, "-o", f"rootfs:{tmp_path / 'one'}")
    assert files_in(tmp_path / "one") == {"keep.md", "d/keep.md", "d/e/x", "tmp/b", "#x", ".dockerignore"}
    (place / "other.recipe").write_text("FROM scratch\nCOPY . /\n")
    (place / "other.recipe.dockerignore").write_text("*\n!keep.md\n!d\nd/*\n!d/e\nkeep.md\n!keep.md\n")
    build(boxwright, place, "-f", place / "other.recipe", "-o", f"rootfs:{tmp_path / 'two'}")
    assert files_in(tmp_path / "two") == {"keep.md", "d/e/x"}


def test_copy_with_parents_and_without_some(boxwright: Program, context: Context, tmp_path: Path) -> None:
    names = ["x/a.txt", "x/y/b.txt", "x/y/c.md", "z/d.txt", "x/empty.md"]
    place = context(
        "FROM scratch\n"
        "COPY --parents x/y/b.txt z/d.txt /1/\n"
        "COPY --parents x/./y/b.txt /2/\n"
        "COPY --parents ./x/**/*.txt /3/\n"
        "COPY --parents x/y /4/\n"
        "COPY --exclude=*.md --exclude=y x /5/\n"
        "COPY --exclude=**/*.md x /6/\n"
        "COPY --exclude=*.md x/*.* /7/\n"
        "COPY --parents --exclude=**/b.* x/y /8/\n"
        "COPY --from=0 --exclude=* --exclude=!z . /9/\n".replace("--from=0 ", ""),
        dict.fromkeys(names, "x"),
    )
    (place / "x/y").chmod(0o750)
    out = tmp_path / "out"
    build(boxwright, place, "-o", f"rootfs:{out}")
    assert {number: files_in(out / str(number)) for number in range(1, 10)} == {
        1: {"x/y/b.txt", "z/d.txt"},
        2: {"y/b.txt"},
        3: {"x/a.txt", "x/y/b.txt"},
        4: {"x/y/b.txt", "x/y/c.md"},
        5: {"a.txt"},
        6: {"a.txt", "y/b.txt"},
        7: {"a.txt"},
        8: {"x/y/c.md"},
        9: {"z/d.txt"},
    }
    assert (out / "1/x/y").stat().st_mode & 0o777 == 0o750
    (place / "x/y/c.md").write_text("changed")
    plan = [line.split()[0] for line in boxwright("build", place, "--dry-run").out.splitlines()]
    assert plan == ["CACHED", "CACHED", "CACHED", "CACHED", *["RUN"] * 6]
    missing = context("FROM scratch\nCOPY --parents x/nothing /\n", {"x/a": "a"}, name="missing")
    assert "[copy.not-found]" in build(boxwright, missing, status=1)


def test_symbolic_modes(fresh_boxwright: Program, context: Context, tmp_path: Path) -> None:
    place = context(
        "FROM scratch\nCOPY --chmod=u=rwX,go=rX d /1/\nCOPY --chmod=go= d/a /2\nCOPY --chmod=640 d /3/\n",
        {"d/a": "a", "d/e/b": "b"},
    )
    (place / "d/a").chmod(0o700)
    (place / "d/link").symlink_to("a")
    out = tmp_path / "out"
    build(fresh_boxwright, place, "-o", f"rootfs:{out}")
    modes = {name: oct((out / name).lstat().st_mode & 0o7777) for name in ("1/a", "1/e", "1/e/b", "2", "3/a", "3/e")}
    assert modes == {"1/a": "0o755", "1/e": "0o755", "1/e/b": "0o644", "2": "0o700", "3/a": "0o640", "3/e": "0o640"}
    assert (out / "3/link").is_symlink()
    fresh_boxwright("fsck")


def test_metadata_and_flags_of_others(boxwright: Program, context: Context, tmp_path: Path) -> None:
    place = context("FROM scratch\nLABEL a=1\nCOPY a /\n", {"a": "A"})
    file, iid = tmp_path / "m.json", tmp_path / "iid"
    labels = ("--label", "a=2", "--label", "a=3")
    out = ("-o", f"oci:{tmp_path / 'layout'}", "--metadata-file", file, "--iidfile", iid)
    said = build(boxwright, "--context", place, "--destination", "meta:1", "--squash", "--load", *labels, *out)
    assert "--load" in said
    found = json.loads(file.read_text())
    index = json.loads((tmp_path / "layout/index.json").read_text())
    manifest = index["manifests"][0]["digest"]
    document = json.loads((tmp_path / "layout/blobs/sha256" / manifest.removeprefix("sha256:")).read_text())
    assert found["containerimage.digest"] == manifest
    assert found["containerimage.config.digest"] == document["config"]["digest"]
    assert found["image.name"] == "meta:1"
    assert found["boxwright.identity"] == iid.read_text()
    assert json.loads(boxwright("inspect", "meta:1").out)[0]["config"]["labels"] == {"a": "3"}
    assert "[usage.foreign-flag]" in build(boxwright, place, "--volume=a:b", status=2)
    assert "[usage.platform]" in build(boxwright, place, "--platform", "linux/s390x", status=2)


@pytest.mark.ordinary_user
def test_fetched_contexts_as_an_ordinary_user(ordinary_boxwright: Program, web: Web, tmp_path: Path) -> None:
    data = tar_of(tmp_path / "c.tgz", Dockerfile=RECIPE, a="A")
    web.pages["/c.tgz"] = Page(data)
    web.pages["/page"] = Page(b"P")
    commit(web.repositories / "x.git", {"a": "G"})
    text = f"FROM scratch\nCOPY a /\nADD {web.url}/page {web.url}/git/x.git /d/\n"
    web.pages["/d.tgz"] = Page(tar_of(tmp_path / "d.tgz", Dockerfile=text, a="A"))
    ordinary_boxwright("build", f"{web.url}/c.tgz", "-q")
    ordinary_boxwright("build", f"{web.url}/d.tgz", "-q")
