"""`build -i`: the prompt on a real terminal, and what it leaves."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ORDINARY_USER, Program
from tests.integration.terminal import Terminal, terminal_of

pytestmark = pytest.mark.integration

PROMPT = r"boxwright \S+> "


@pytest.fixture
def place(tmp_path: Path, busybox_base: Path) -> Callable[..., Path]:
    """A directory with a manifest; {base} and {salt} are filled in, so that no two tests have the same steps."""

    def make(text: str, name: str = "manifest.yaml") -> Path:
        salt = str(time.time_ns())
        (tmp_path / "project").mkdir(exist_ok=True)
        written = text.replace("{base}", f"tar:{busybox_base}").replace("{salt}", salt)
        (tmp_path / "project" / name).write_text(written)
        return tmp_path / "project"

    return make


def with_home(program: Program, home: Path) -> Program:
    return program.with_environment(HOME=str(home), XDG_STATE_HOME=str(home / "state"), TERM="xterm")


@pytest.fixture
def own(boxwright: Program, tmp_path: Path) -> Program:
    """The program of somebody whose history is empty."""
    return with_home(boxwright, tmp_path)


def names(program: Program) -> set[str]:
    return set(program("images", "--names").out.split())


def file_in(program: Program, image: str, path: str) -> str:
    return program("run", "--rm", "--network", "none", image, "cat", path).out


MANIFEST = """\
image: {base}
install:
  - echo {salt} >/one
  # what fails
  - run: cat /one /nothing >/two
    environment: {A: b}
  - echo three >/three
script:
  - test -f /three
artifact: walked/manifest
"""


def test_a_walk_from_failure_to_a_saved_manifest(own: Program, place: Callable[..., Path]) -> None:
    project = place(MANIFEST)
    with terminal_of(own, "build", "-i", project) as screen:
        screen.await_text(PROMPT)
        seen = screen.command("cont\t")
        assert "can't open '/nothing'" in seen
        assert "[step.failed]" in seen
        listed = screen.command("list")
        assert "> 3 failed" in listed
        assert "  2 done" in listed
        # The old text stands in the line: its end is taken away and typed anew.
        screen.line("edit")
        screen.await_text(r"edit> cat /one /nothing >/two")
        screen.type("\x7f" * len("/nothing >/two"))
        assert "next is 3" in screen.command("/one >/two")
        screen.command("run")
        diff = screen.command("diff")
        assert "+ /two" in diff
        assert "changed 1 path" in diff
        screen.command("! echo typed $PATH >/typed")
        seen = screen.command("continue")
        assert "all is done, but the file says something else" in seen
        assert "walked/manifest:latest" not in names(own)
        printed = screen.command("save")
        assert "- echo typed $PATH >/typed" in printed
        assert "- cat /one /one >/two" in printed
        assert "has the changes now" in screen.command("save -w")
        assert "> 1 " not in screen.command("list")
        screen.line("quit")
        assert screen.end() == 0
    text = (project / "manifest.yaml").read_text()
    assert "  # what fails\n  - run: cat /one /one >/two\n    environment: {A: b}\n" in text
    assert "  - echo typed $PATH >/typed\n  - echo three >/three\n" in text
    # What was walked is what a build of the saved file gives, from the cache alone.
    assert "never built" not in own("build", project, "--dry-run").out
    assert file_in(own, "walked/manifest", "/typed").startswith("typed /usr")


def test_what_was_changed_has_no_name(own: Program, place: Callable[..., Path]) -> None:
    project = place(MANIFEST.replace("walked/manifest", "walked/unnamed"))
    with terminal_of(own, "build", "-i", project, "-t", "walked/tagged") as screen:
        screen.await_text(PROMPT)
        screen.command("run 2")
        assert "skipped 3" in screen.command("skip")
        assert "(skipped)" not in screen.command("continue")
        assert "skipped [image] run cat" in screen.command("list").replace("> ", "  ").replace("  ", " ")
        screen.type("\x04")
        seen = screen.await_text(r"it has no name")
        assert "left out" in seen
        assert screen.end() == 1
    assert not {"walked/unnamed:latest", "walked/tagged:latest"} & names(own)
    identity = seen.partition("what was walked is ")[2].split(":")[1].split()[0].rstrip(":")
    assert json.loads(own("inspect", identity[:20]).out)
    assert file_in(own, identity[:20], "/three") == "three\n"


def test_back_retry_restore_and_words_that_are_wrong(own: Program, place: Callable[..., Path]) -> None:
    project = place(MANIFEST.replace(" /nothing", "").replace("walked/manifest", "walked/back"))
    with terminal_of(own, "build", "-i", project) as screen:
        screen.await_text(PROMPT)
        screen.command("continue 3")
        assert "next is 2" in screen.command("back 2")
        assert "cached" in screen.command("run")
        assert "done in" in screen.command("retry")
        assert "next is 4" in screen.command("edit 4 echo other >/three")
        assert "(edited)" in screen.command("list")
        assert "(edited)" not in screen.command("restore 4")
        for line, code in (
            ("nonsense", "interactive.command"),
            ("run 9", "interactive.step"),
            ("edit 1 x", "interactive.not-editable"),
            ("skip 1", "interactive.base"),
            ("set 1=2", "interactive.set"),
            ("do", "interactive.text"),
            ("diff 5", "interactive.no-state"),
            (f"save {project}/manifest.yaml", ""),
        ):
            assert code in screen.command(line)
        assert "walked/back" not in " ".join(names(own))
        screen.command("do false")
        assert "(typed)" not in screen.command("list")
        screen.command("help")
        screen.command("show 2")
        screen.command("continue")
        screen.line("q")
        assert screen.end() == 0
    assert "walked/back:latest" in names(own)


@pytest.mark.parametrize(
    ("program", "said"), [("sed -i s/before/after/", "next is 2"), ("false", "[interactive.editor]")]
)
def test_a_step_in_an_editor(own: Program, place: Callable[..., Path], program: str, said: str) -> None:
    project = place("image: {base}\ninstall:\n  - |\n    echo before >/one\n    echo {salt} >/two\n")
    with terminal_of(own.with_environment(EDITOR=program, VISUAL=""), "build", "-i", project) as screen:
        screen.await_text(PROMPT)
        assert said in screen.command("edit 2")
        if program == "false":
            screen.line("quit")
            assert screen.end() == 1
            return
        screen.command("continue")
        assert "has the changes now" in screen.command("save -w")
        screen.line("quit")
        screen.end()
    assert "  - |\n    echo after >/one\n" in (project / "manifest.yaml").read_text()


def test_ctrl_c_ends_a_step_and_not_the_prompt(own: Program, place: Callable[..., Path]) -> None:
    project = place("image: {base}\ninstall:\n  - echo begun {salt}; sleep 600\n  - echo x >/x\n")
    with terminal_of(own, "build", "-i", project) as screen:
        screen.await_text(PROMPT)
        screen.line("continue")
        screen.await_text(r"\| begun")
        screen.type("\x03")
        assert "interrupted" in screen.await_text(PROMPT)
        screen.line("edit")
        screen.await_text("edit> ")
        screen.type("\x15\x04")
        screen.await_text(PROMPT)
        screen.type("half a line")
        screen.await_text("half a line")
        screen.await_rest()  # Python's readline misses a signal that comes in the instant before it waits
        screen.type("\x03")
        screen.await_text(PROMPT)
        assert "> 2 " in screen.command("list")
        screen.command("skip")
        screen.command("continue")
        screen.type("\x04")
        assert screen.end() == 1


def test_a_shell_in_the_state_at_hand(own: Program, place: Callable[..., Path]) -> None:
    project = place("image: {base}\nenv: {WHO: me}\ninstall:\n  - echo {salt} >/one\n  - cp /one /two\n")
    with terminal_of(own, "build", "-i", project) as screen:
        screen.await_text(PROMPT)
        screen.command("run 2")
        screen.line("shell")
        screen.await_text(r"[#$] ")
        screen.line("echo I am $WHO; ls /; touch /thrown")
        assert "one" in screen.await_text(r"I am me(.|\n)*[#$] ")
        screen.line("exit 3")
        assert "ended with 3" in screen.await_text(PROMPT)
        screen.line("shell")
        screen.await_text(r"[#$] ")
        screen.line("test -e /thrown || echo it is gone")
        screen.await_text(r"\nit is gone")
        screen.line("exit")
        screen.await_text(PROMPT)
        screen.line("quit")
        assert screen.end() == 1


@pytest.mark.parametrize("where", ["step", "shell", "prompt"])
def test_killed_it_leaves_nothing(
    fresh_boxwright: Program, tmp_path: Path, place: Callable[..., Path], where: str
) -> None:
    """The fixture that looks for processes and mounts is the judge."""
    own = with_home(fresh_boxwright, tmp_path)
    project = place("image: {base}\ninstall:\n  - echo begun {salt}; sleep 600\n")
    with terminal_of(own, "build", "-i", project) as screen:
        screen.await_text(PROMPT)
        screen.command("run 1")
        if where != "prompt":
            screen.line("run" if where == "step" else "shell")
            screen.await_text(r"\| begun" if where == "step" else r"[#$] ")
        screen.process.send_signal(signal.SIGKILL)
        screen.process.wait()
    own("fsck")


def test_history_and_completion(own: Program, place: Callable[..., Path], tmp_path: Path) -> None:
    project = place("image: {base}\ninstall: [echo {salt} >/one]\n")
    with terminal_of(own, "build", "-i", project) as screen:
        screen.await_text(PROMPT)
        screen.command("do echo first >/first {salt}")
        screen.command(" do echo hidden >/hidden")
        screen.type("sh\t")
        screen.await_text(r"sh(\a|)")
        screen.type("ow\t1\r")
        screen.await_text(PROMPT)
        screen.line("quit")
        screen.end()
    history = tmp_path / "state/boxwright/history"
    assert history.stat().st_mode & 0o777 == 0o600
    assert "do echo first" in history.read_text()
    assert "hidden" not in history.read_text()
    with terminal_of(own, "build", "-i", project) as screen:
        screen.await_text(PROMPT)
        screen.type("\x1b[A")
        screen.await_text("quit")
        screen.type("\r")
        screen.end()


def test_a_terminal_that_can_do_nothing(own: Program, place: Callable[..., Path]) -> None:
    project = place(MANIFEST.replace("walked/manifest", "walked/dumb"))
    with terminal_of(own.with_environment(TERM="dumb"), "build", "-i", project) as screen:
        screen.await_text(PROMPT)
        screen.command("continue")
        screen.line("edit 3")
        screen.await_text("cat /one /nothing >/two\nedit> ")
        screen.line("cp /one /two")
        screen.await_text(PROMPT)
        screen.command("continue")
        screen.line("save -w")
        screen.await_text(PROMPT)
        screen.line("quit")
        assert screen.end() == 0
        assert "\x1b" not in screen.seen
    assert "walked/dumb:latest" in names(own)


def test_commands_from_a_pipe(own: Program, place: Callable[..., Path]) -> None:
    project = place("image: {base}\ninstall: [echo {salt} >/one]\nartifact: walked/pipe\n")
    done = own("build", "-i", project, stdin="continue\nshell\ncat /one\nexit\nquit\n")
    assert done.out.split()[0].isdigit()
    assert "walked/pipe:latest" in done.out
    assert own("build", "-i", place("image: {base}\ninstall: [echo {salt}]\n"), stdin="", status=1).err


def test_debug_opens_the_prompt_at_the_step_that_failed(own: Program, place: Callable[..., Path]) -> None:
    project = place(MANIFEST.replace("walked/manifest", "walked/debug"))
    with terminal_of(own, "build", "--debug", "--progress", "plain", project) as screen:
        screen.await_text(r"\[step.failed\]")
        assert "> 3 failed" in screen.await_text(PROMPT)
        screen.command("edit cp /one /two")
        screen.command("continue")
        screen.command("save -w")
        screen.line("quit")
        assert screen.end() == 0
    assert "walked/debug:latest" in names(own)


RECIPE = """\
FROM {base} AS one
ENV A=1
RUN echo $A {salt} >/one
FROM {base}
COPY --from=one /one /srv/
ENV B=2
RUN cat /srv/one /nothing
# validate
FROM one
RUN test -f /one
"""


def test_a_recipe(own: Program, place: Callable[..., Path]) -> None:
    project = place(RECIPE, "Recipe")
    with terminal_of(own, "build", "-i", project, "-t", "walked/recipe") as screen:
        screen.await_text(PROMPT)
        assert "RUN cat /srv/one /nothing" in screen.command("continue")
        screen.command("edit cat /srv/one")
        screen.command("continue")
        screen.command("do echo $B >/b")
        assert "RUN echo $B >/b" in screen.command("save")
        assert "has the changes now" in screen.command("save -w")
        screen.line("quit")
        assert screen.end() == 0
    assert "RUN cat /srv/one\nRUN echo $B >/b\n# validate\n" in (project / "Recipe").read_text()
    assert file_in(own, "walked/recipe", "/b") == "2\n"


LOOP = """\
image: {base}
vars: {word: plain}
install:
{% for it in ['a', 'b'] %}
  - echo {{ it }} {{ word }} {salt} >/{{ it }}
{% endfor %}
"""


def test_lines_of_no_sure_place_are_written_beside(own: Program, place: Callable[..., Path]) -> None:
    project = place(LOOP)
    before = (project / "manifest.yaml").read_text()
    with terminal_of(own, "build", "-i", project) as screen:
        screen.await_text(PROMPT)
        screen.command("edit 2 echo only this")
        assert "can't be told" in screen.command("save -w")
        assert (project / "manifest.yaml").read_text() == before
        assert "- echo only this\n" in (project / "manifest.yaml.typed").read_text()
        screen.command("restore 2")
        screen.command("do echo '{{ braces }}: \"x\" # y' >/braces")
        assert "has the changes now" in screen.command(f"save {project}/copy.yaml")
        assert "[interactive.exists]" in screen.command(f"save {project}/copy.yaml")
        assert "echo a other" in screen.command("set word=other")
        screen.line("quit")
        assert screen.end() == 1
    assert sorted(it.name for it in project.iterdir()) == ["copy.yaml", "manifest.yaml", "manifest.yaml.typed"]
    own("build", project, "-f", project / "copy.yaml", "-t", "walked/copy")
    assert file_in(own, "walked/copy", "/braces") == '{{ braces }}: "x" # y\n'


def test_a_language_with_its_own_commands(own: Program, place: Callable[..., Path], busybox_base: Path) -> None:
    """The first item of `install` takes a language's own commands away: they are written too."""
    project = place("language: c\nartifact: walked/language\n")
    (project / ".boxwright-config.yaml").write_text(
        f"languages:\n  c: {{images: {{'1': 'tar:{busybox_base}'}}, script: [],\n"
        "      install: [{run: echo made >/made}]}\n"
    )
    with terminal_of(own, "build", "-i", project) as screen:
        screen.await_text(PROMPT)
        screen.command("continue")
        screen.command("do echo typed >/typed")
        seen = screen.command("save -w")
        assert "has the changes now" in seen
        assert "`continue` does again" in seen
        screen.command("continue")
        screen.line("quit")
        assert screen.end() == 0
    assert (project / "manifest.yaml").read_text().endswith("install:\n  - echo made >/made\n  - echo typed >/typed\n")
    assert file_in(own, "walked/language", "/made") == "made\n"


def test_the_file_is_read_anew(own: Program, place: Callable[..., Path]) -> None:
    project = place("image: {base}\ninstall:\n  - echo {salt} >/one\n  - echo two\n  - echo three\n")
    manifest = project / "manifest.yaml"
    with terminal_of(own, "build", "-i", project) as screen:
        screen.await_text(PROMPT)
        screen.command("run 2")
        screen.command("edit 3 echo changed")
        screen.command("skip 4")
        manifest.write_text(manifest.read_text().replace("  - echo two\n", "").replace("three", "three\n  - echo four"))
        seen = screen.command("reload")
        assert "'run echo two'" in seen
        assert "skipped" in seen
        assert "echo four" in seen
        manifest.write_text("image: [\n")
        assert "[manifest.yaml]" in screen.command("reload")
        screen.command("list")
        screen.line("quit")
        assert screen.end() == 1


def test_what_cannot_be_walked(own: Program, place: Callable[..., Path], tmp_path: Path) -> None:
    project = place("image: {base}\nmatrix: {n: ['1', '2']}\ninstall: [echo {{ matrix.n }}]\n")
    assert "[interactive.matrix]" in own("build", "-i", project, status=2).err
    assert "[interactive.engine]" in own("build", "-i", project, "--engine", "docker", status=2).err
    for option in ("--watch", "--dry-run", "-q", "--pull"):
        assert "[interactive.option]" in own("build", "-i", project, option, status=2).err
    (tmp_path / "package").mkdir()
    (tmp_path / "package/pkg.yaml").write_text("name: x\nversion: 1\n")
    assert "[interactive.definition]" in own("build", "-i", tmp_path / "package", status=2).err
    (tmp_path / "container").mkdir()
    (tmp_path / "container/container.yaml").write_text("title: x\n")
    assert "[interactive.definition]" in own("build", "-i", tmp_path / "container", status=2).err
    assert "[interactive.context]" in own("build", "-i", "-", status=2).err


def test_services_beside_typed_commands(own: Program, place: Callable[..., Path]) -> None:
    """What a typed command writes into a service is there for the next step."""
    serve = "busybox nc -ll -p 7000 -e sh -c 'cat /data 2>/dev/null; cat >>/data' "
    project = place(
        "image: {base}\nservices:\n  box: {image: '{base}', port: 7000, command: \"" + serve + '"}\n'
        "install:\n  - echo one {salt} | busybox nc -w 1 box 7000\n  - echo | busybox nc -w 1 box 7000 >/seen\n"
    )
    with terminal_of(own, "build", "-i", project) as screen:
        screen.await_text(PROMPT)
        screen.command("run 2")
        screen.command("do echo typed | busybox nc -w 1 box 7000")
        screen.command("run")
        _seen(screen, "/seen", ("one", "typed"))
        assert "has the changes now" in screen.command("save -w")
        screen.command("quit", prompt="sha256:")
        assert screen.end() == 0


@pytest.mark.ordinary_user
def test_an_ordinary_user(ordinary_boxwright: Program, busybox_base: Path, ordinary_home: Path) -> None:
    """In a namespace of their own from the first step on; the file that is written stays theirs."""
    project = ordinary_home.parent / "walked"
    project.mkdir()
    base = shutil.copy(busybox_base, project / "base.tar")
    (project / "manifest.yaml").write_text(f"image: tar:{base}\ninstall:\n  - id -u >/one\n")
    for path in (project, *project.iterdir()):
        shutil.chown(path, ORDINARY_USER, ORDINARY_USER)
    with terminal_of(ordinary_boxwright, "build", "-i", project, "--network", "none") as screen:
        screen.await_text(PROMPT)
        screen.command("continue")
        screen.command("do id -un >/two")
        _seen(screen, "/one", ("0",))
        assert "has the changes now" in screen.command("save -w")
        screen.line("quit")
        assert screen.end() == 0
    assert (project / "manifest.yaml").owner() == ORDINARY_USER
    assert "  - id -un >/two\n" in (project / "manifest.yaml").read_text()


def _seen(screen: Terminal, path: str, words: tuple[str, ...]) -> None:
    screen.line("shell")
    screen.await_text(r"[#$] ")
    screen.line(f"cat {path}")
    seen = screen.await_text(r"cat .*\n(.|\n)*[#$] ")
    assert all(word in seen for word in words), seen
    screen.line("exit")
    screen.await_text(PROMPT)
