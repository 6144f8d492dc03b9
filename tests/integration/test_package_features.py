"""What a definition of a package can ask for and what its sandbox holds, each shown by a build."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from boxwright.model.step import BuildPackage
from tests import conftest
from tests.conftest import Program
from tests.integration.conftest import Tree
from tests.integration.test_packages import archive, record, text

pytestmark = pytest.mark.integration

CASES = Path(__file__).parents[1] / "cases" / "package" / "why.yaml"
WHY: list[dict[str, Any]] = yaml.safe_load(CASES.read_text("utf-8"))


def file_of(program: Program, package: str, path: str) -> str:
    """A file of a package's archive."""
    unpacked = subprocess.run(
        ["tar", "-xOf", "-", f"./{path}"], input=archive(program, package), capture_output=True, check=True
    )
    return unpacked.stdout.decode()


# Definitions ---------------------------------------------------------------------------------------------------------

PHASED = """
name: phased
version: 1
sources: [{local: src}]
arguments: {build: ["a b", --x]}
phases:
  before-prepare: echo before-prepare >> order
  prepare: echo prepare >> order
  after-prepare: echo after-prepare >> order
  before-configure: echo before-configure >> order
  configure: echo configure >> order
  after-configure: echo after-configure >> order
  before-build: echo before-build >> order
  build: echo "build $# $1" >> order
  after-build: echo after-build >> order
  before-check: echo before-check >> order
  check: echo check >> order
  after-check: echo after-check >> order
  before-install: echo before-install >> order
  install: mkdir -p $DESTDIR/usr/share && echo install >> order
  after-install: cp order $DESTDIR/usr/share/
"""


def test_every_phase_has_its_hooks(pkg: Program, tree: Tree) -> None:
    directory = tree(phased={"pkg.yaml": PHASED, "src/f": "one\n"})
    pkg("build", directory / "phased")
    order = file_of(pkg, "demo/phased-1", "usr/share/order").splitlines()
    names = ("prepare", "configure", "build", "check", "install")
    expected = [f"{when}{name}" for name in names for when in ("before-", "", "after-")][:-1]
    assert [line.partition(" ")[0] for line in order] == expected
    assert "build 2 a b" in order


def test_a_failing_check_fails_the_build(pkg: Program, tree: Tree) -> None:
    directory = tree(checked=text("checked", "true", "").replace("phases:\n", "phases:\n  check: echo no; exit 9\n"))
    failed = pkg("build", directory / "checked", status=1)
    assert "exit status 9" in failed.err
    assert "--after check" in failed.err
    line = (directory / "checked/pkg.yaml").read_text().splitlines().index("  check: echo no; exit 9") + 1
    assert f"checked/pkg.yaml:{line}:3: error" in failed.err


def test_one_definition_for_versions_architectures_and_flags(pkg: Program, tree: Tree) -> None:
    """Two versions and two variants of one of them live side by side."""
    more = """
use:
  flags:
    loud: {with: {environment: {VOICE: LOUD}}, without: {environment: {VOICE: soft}}}
    workers: {type: int, minimum: 1, maximum: 8, default: 2, with: {environment: {WORKERS: "{value}"}}}
versions:
  1.0: {environment: {NOTE: old}}
  2.0: {environment: {NOTE: new}}
architectures:
  amd64: {license: MIT}
  arm64: {license: Zlib}
"""
    script = 'echo "$VERSION $NOTE $ARCH $VOICE $WORKERS" > $DESTDIR/usr/share/multi'
    packages = tree(
        multi=text("multi", script, more).replace("version: 1\n", ""),
        both=text("both", "cat /usr/share/multi > $DESTDIR/usr/share/both", "depends: [demo/multi-2.0]\n"),
        old=text("old", "cat /usr/share/multi > $DESTDIR/usr/share/old", "depends: [demo/multi-1.0]\n"),
        variant="base: demo/multi-2.0\nuse: {with: [loud], set: {workers: 8}}\n",
    )
    for name in ("both", "old", "variant"):
        pkg("build", packages / name)
    machine = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    assert file_of(pkg, "demo/both-1", "usr/share/both") == f"2.0 new {machine} soft 2\n"
    assert file_of(pkg, "demo/old-1", "usr/share/old") == f"1.0 old {machine} soft 2\n"
    assert file_of(pkg, "demo/multi-2.0", "usr/share/multi") == f"2.0 new {machine} LOUD 8\n"
    assert record(pkg, "demo/multi-1.0")["license"] == {"amd64": "MIT", "arm64": "Zlib"}[machine]
    variants = [pkg("build", packages / name).out.split()[1] for name in ("both", "variant")]
    assert len(set(variants)) == 2
    assert "Defaulting" not in pkg("build", packages / "both").err, "a variant takes nothing from another"

    tree(variant="base: demo/multi-2.0\nuse: {set: {workers: 9}}\n")
    assert "[package.flag-value]" in pkg("build", packages / "variant", status=2).err
    tree(variant="base: demo/multi-2.0\nuse: {with: [lout]}\n")
    unknown = pkg("build", packages / "variant", status=2).err
    assert "[package.unknown-flag]" in unknown
    assert "loud" in unknown


def test_parts(pkg: Program, tree: Tree) -> None:
    """Own parts come before the usual ones, and debug symbols have a part of their own."""
    script = """\
mkdir -p $DESTDIR/usr/bin $DESTDIR/usr/share/man/man1 $DESTDIR/usr/share/doc/parts $DESTDIR$LIBDIR
    echo 'int main(void) { return 0; }' > m.c
    cc $CFLAGS -o $DESTDIR/usr/bin/parts m.c
    cp $DESTDIR/usr/bin/parts $DESTDIR/usr/bin/parts-tool
    : > $DESTDIR$LIBDIR/libparts.a
    : > $DESTDIR/usr/share/man/man1/parts.1
    : > $DESTDIR/usr/share/doc/parts/README"""
    packages = tree(parts=text("parts", script, "split: {tools: ['usr/bin/parts-*'], doc: ['usr/share/doc/**']}\n"))
    pkg("build", packages / "parts")
    files = record(pkg, "demo/parts-1")["files"]
    assert isinstance(files, list)
    found = {item["path"].rpartition("/")[2]: item.get("part", "") for item in files if item["kind"] == "file"}
    debug = {name: part for name, part in found.items() if name.endswith(".debug")}
    assert set(debug.values()) == {"dbg"}
    assert {name: part for name, part in found.items() if name not in debug} == {
        "parts": "", "parts-tool": "tools", "libparts.a": "dev", "parts.1": "", "README": "doc",
    }  # fmt: skip


def test_parallelism_does_not_leak(pkg: Program, tree: Tree) -> None:
    """The number of processors and of builds at once is no part of the result, nor of its identity."""
    script = "env | sort > $DESTDIR/usr/share/seen"
    packages = tree(jobs=text("jobs", script))
    pkg("build", packages / "jobs", "--jobs", "1")
    first, key = archive(pkg, "demo/jobs-1"), record(pkg, "demo/jobs-1")["key"]
    words: list[str | Path] = [
        "taskset",
        "--cpu-list",
        "0",
        conftest.PROGRAM,
        "build",
        packages / "jobs",
        "--no-cache",
        "--jobs",
        "9",
    ]
    again = subprocess.run(words, env=pkg.whole_environment(), capture_output=True, check=True)
    assert b"Defaulting" in again.stderr
    assert archive(pkg, "demo/jobs-1") == first
    assert record(pkg, "demo/jobs-1")["key"] == key
    assert "JOBS=4\n" in file_of(pkg, "demo/jobs-1", "usr/share/seen")


# Why a package is rebuilt --------------------------------------------------------------------------------------------


def described(case: dict[str, Any], other: str) -> dict[str, str]:
    """The files of the package that a case has, or with no case of the one it is compared with."""
    keys: dict[str, Any] = {
        "name": "why", "version": 1, "sources": [{"local": "src"}], "use": {"flags": {"fast": {}}},
        "phases": {"install": "true"}, "users": {}, **case.get("keys", {}),
    }  # fmt: skip
    shown = yaml.safe_dump(keys, sort_keys=False).replace("OTHER", other).replace("strip: false", "strip: no")
    return {"pkg.yaml": shown, "src/f": "one\n", **case.get("files", {})}


def test_why_rebuild_names_every_field(pkg: Program, tree: Tree, tmp_path: Path, busybox_base: Path) -> None:
    """One change of each field that counts, and the lines that name it."""
    packages = tree("before", why=described({}, ""), needed=text("needed", "true"))
    pkg("build", packages / "needed")
    (tmp_path / "other.tar").write_bytes(busybox_base.read_bytes())
    other = f"tar:{tmp_path}/other.tar"
    tree("other", other={"pkg.yaml": f"name: other\nversion: 1\ntoolchain: {other}\nphases: {{install: 'true'}}\n"})
    pkg("build", tmp_path / "other/packages/demo/other", status=None)  # so that this toolchain is there too
    wrong: list[str] = []
    for number, case in enumerate(WHY):
        changed = tree(f"after{number}", why=described(case, other), needed=text("needed", "true")) / "why"
        if "at" in case:
            moved = changed.parents[1] / case["at"]
            moved.parent.mkdir()
            changed = changed.rename(moved)
        lines = pkg("why-rebuild", packages / "why", changed).out.splitlines()
        if len(lines) != len(case["says"]) or any(
            not any(line.startswith(said) for line in lines) for said in case["says"]
        ):
            wrong.append(f"{case}\n  {lines}")
    assert not wrong, "\n".join(wrong)


def test_no_field_is_forgotten_in_the_cases() -> None:
    """The platform is the machine's, and in the cases of the keys."""
    assert {case["field"] for case in WHY} == {*BuildPackage._fields, "toolchain"} - {"platform"}


# Displays ------------------------------------------------------------------------------------------------------------


def on_terminal(
    program: Program, *words: str | Path, columns: int = 100, act: Callable[[int, bytes], None] = lambda *_: None
) -> tuple[int, str]:
    """Run it on a pseudo-terminal; `act` may answer what was read. Returns the exit status and all that was shown."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(
        [conftest.PROGRAM, *words], env={**program.whole_environment(), "TERM": "xterm"}, stdin=follower,
        stdout=follower, stderr=follower, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - no threads here
    )  # fmt: skip
    os.close(follower)
    shown = b""
    deadline = time.monotonic() + 120
    try:
        while time.monotonic() < deadline:
            try:
                data = os.read(leader, 4096)
            except OSError:  # the last one who had it open is gone
                break
            shown += data
            act(leader, shown)
        return process.wait(30), shown.decode(errors="replace")
    finally:
        process.kill()
        process.wait()
        os.close(leader)


def test_a_terminal_shows_what_runs_and_keeps_what_is_finished(pkg: Program, tree: Tree) -> None:
    slow = "for n in 1 2 3; do echo part $n of NAME; sleep 0.3; done; echo NAME > $DESTDIR/usr/share/NAME"
    names = ("one", "two")
    packages = tree(
        **{name: text(name, slow.replace("NAME", name)) for name in names},
        all=text("all", "true", "depends: [demo/one, demo/two]\n"),
    )
    status, shown = on_terminal(pkg, "build", packages / "all", "--jobs", "2")
    assert status == 0
    assert "2 running" in shown
    assert "build demo/one-1: install" in shown
    assert "| part 2 of two" in shown
    blocks = [line.strip() for line in shown.splitlines() if line.strip().endswith("[OK]")]
    assert len(blocks) == 3, shown
    end = shown[shown.rindex("Defaulting") :]
    assert "running" not in end, "the painting is taken away"
    assert "\x1b[?25h" in shown, "the cursor is back"


def test_json_of_a_package(pkg: Program, tree: Tree) -> None:
    packages = tree(json=text("json", "echo said; echo j > $DESTDIR/usr/share/j"))
    done = pkg("build", packages / "json", "--progress", "json")
    events = [json.loads(line) for line in done.out.splitlines()]
    assert events[0]["event"] == "plan"
    assert any(item["event"] == "output" and "said" in item["text"] for item in events)
    last = events[-1]
    assert (last["event"], last["package"]) == ("result", "demo/json-1")
    assert last["archive"] == record(pkg, "demo/json-1")["archive"]
    assert last["hash"] == str(record(pkg, "demo/json-1")["definition"]).removeprefix("sha256:")


def test_keep_going_says_everything_that_failed_and_what_is_not_built(pkg: Program, tree: Tree) -> None:
    packages = tree(
        bad=text("bad", "echo bad is broken; exit 7"),
        worse=text("worse", "sleep 0.3; echo worse is broken; exit 8"),
        fine=text("fine", "sleep 0.6; echo f > $DESTDIR/usr/share/f"),
        above=text("above", "true", "depends: [demo/bad]\n"),
        all=text("all", "true", "depends: [demo/above, demo/worse, demo/fine]\n"),
    )
    result = pkg("build", packages / "all", "--keep-going", "--jobs", "3", status=1)
    assert "exit status 7" in result.err
    assert "exit status 8" in result.err
    assert "  bad is broken" in result.err
    assert "  worse is broken" in result.err
    assert result.err.count("[FAILED]") == 2
    assert "[STOPPED]" not in result.err
    assert "not built, since they need what failed: demo/above-1, demo/all-1" in result.err
    assert record(pkg, "demo/fine-1")


TIOCSTI = 0x5412 | 1 << 32
"""The kernel takes 32 bits of a request (ioctl_tty(2))."""
NUMBER_OF_IOCTL = 16 if os.uname().machine == "x86_64" else 29
KEYSTROKE = f"perl -e '$c = chr 120; syscall({NUMBER_OF_IOCTL}, 0, {TIOCSTI}, $c); print qq(refused: $!)'"


def test_a_shell_on_a_terminal_after_a_failure(pkg: Program, tree: Tree) -> None:
    broken = text("fails", "echo left > here; exit 3", "sources: [{local: src}]\n")
    packages = tree(fails={"pkg.yaml": broken, "src/f": "one\n"})
    pkg("build", packages / "fails", status=1)
    sent: list[str] = []

    def act(leader: int, shown: bytes) -> None:
        prompts = shown.count(b"$ ") + shown.count(b"# ")
        for number, words in enumerate(("tty; cat here; id -u", KEYSTROKE, "exit 4")):
            if prompts > number and len(sent) == number:
                sent.append(words)
                os.write(leader, f"{words}\r".encode())

    status, shown = on_terminal(pkg, "shell", packages / "fails", "--after", "install", act=act)
    assert status == 4, shown
    assert "== install ended with 3" in shown
    assert "left" in shown
    assert "/dev/pts/" in shown or "/dev/console" in shown
    assert "1000" in shown
    assert "refused: Operation not permitted" in shown, "it can't type for its user"


# Toolchains ----------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_a_toolchain_is_an_image_like_any_other(
    pkg: Program, tree: Tree, context: Callable[..., Path], toolchain: Path, tmp_path: Path
) -> None:
    """A local image, and the same as an OCI layout; the lock holds which one."""
    recipe = f"FROM tar:{toolchain}\nRUN echo {{}} > /usr/share/made\n"
    layout = tmp_path / "layout"
    pkg("build", context(recipe.format("one")), "-q", "-t", "tools:1", "-o", f"oci:{layout}", "--network", "none")
    definition = text("made", "cp /usr/share/made $DESTDIR/usr/share/")
    packages = tree(made=f"{definition}\ntoolchain: tools:1\n")
    first = pkg("build", packages / "made")
    assert file_of(pkg, "demo/made-1", "usr/share/made") == "one\n"
    assert "Defaulting" not in pkg("build", packages / "made").err
    pkg("lock", packages / "made")
    names = list(json.loads((packages / "made/boxwright.lock").read_text())["bases"])
    assert [name.partition("@")[0] for name in names] == ["image+local:tools:1"]

    elsewhere = tree("other", made=f"{definition}\ntoolchain: oci:{layout}\n")
    same = pkg("build", elsewhere / "made")
    assert "Defaulting" not in same.err, "the same tree from elsewhere is the same toolchain"
    assert "Found HASH" in same.err
    assert same.out.split()[1] == first.out.split()[1]

    pkg("build", context(recipe.format("two"), name="again"), "-q", "-t", "tools:1", "--network", "none")
    assert pkg("build", packages / "made").out.split()[1] == first.out.split()[1], "the lock holds"
    (packages / "made/boxwright.lock").unlink()
    assert pkg("build", packages / "made").out.split()[1] != first.out.split()[1]
    assert file_of(pkg, "demo/made-1", "usr/share/made") == "two\n"

    tree(made=f"{definition}\ntoolchain: no-such-image:1\n")
    pkg("lock", packages / "made", status=None)
    wrong = pkg("build", packages / "made", status=None)
    assert wrong.status != 0
    assert "no-such-image" in wrong.err
    assert "Traceback" not in wrong.err
    tree(made=f"{definition}\ntoolchain: {{base: tools:1, packages: [gcc]}}\n")
    assert "[package.toolchain]" in pkg("build", packages / "made", status=2).err


def test_an_interrupted_build_says_so(pkg: Program, tree: Tree) -> None:
    slow = {name: text(name, "echo begun; sleep 60", "") for name in ("one", "two")}
    directory = tree(**slow, both=text("both", "true", "build-depends: [demo/one, demo/two]\n"))
    with pkg.start("build", directory / "both", "--progress", "plain") as process:
        assert process.stderr is not None
        said = ""
        for line in process.stderr:
            said += line
            if line.endswith("begun\n") and said.count("begun\n") == 2:
                process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130, said
    assert "[interrupted]" in said
    assert "FAILED" not in said
