"""What tests share: the program, the engines it is tried with, the check that nothing is left behind."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import pytest
from hypothesis import settings

pytest_plugins = ["tests.integration.binhosts"]

ROOT = Path(__file__).parents[1]
PROGRAM = ROOT / "boxwright"
ENGINES = Path(os.environ.get("BOXWRIGHT_ENGINES", "/run/boxwright-engines"))
IN_CI = os.environ.get("CI") == "true"
ORDINARY_USER = "boxwright-test"  # scripts/engines.sh adds it
MARK = "BOXWRIGHT_TEST"  # in the environment of everything that a test starts
APPLETS = ["cat", "chmod", "echo", "env", "id", "ln", "ls", "mkdir", "rm", "sh", "sleep", "stat", "test", "touch"]
GRACE = 5.0  # seconds in which what a test stopped may still be going away

# What each engine is asked to find out whether it answers. (docker: the distribution's own client, which has BuildKit.)
QUESTIONS: Mapping[str, tuple[str, ...]] = {
    "docker": ("/usr/bin/docker", "info"),
    "podman": ("podman", "info"),
    "buildah": ("buildah", "info"),
    "lxd": ("lxc", "query", "/1.0"),
    "lxc": ("lxc-create", "--version"),
    "registry": ("curl", "-fsS", "http://127.0.0.1:5000/v2/"),
    "etcd": ("etcd", "--version"),
    "glusterfs": ("glusterfsd", "--version"),
    "ovn": ("ovn-nbctl", "--version"),
    "graphviz": ("dot", "-V"),
    "ssh": ("ssh-keyscan", "-p", "2222", "127.0.0.1"),
    "buildgrid": (str(ENGINES / "buildgrid/bin/bgd"), "--help"),
}


# Engines -------------------------------------------------------------------------------------------------------------


@cache
def engine_answers(name: str) -> bool:
    try:
        asked = subprocess.run(QUESTIONS[name], capture_output=True, stdin=subprocess.DEVNULL, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.returncode == 0


@cache
def has_ordinary_user() -> bool:
    try:
        pwd.getpwnam(ORDINARY_USER)
    except KeyError:
        return False
    return os.geteuid() == 0 and f"\n{ORDINARY_USER}:" in "\n" + Path("/etc/subuid").read_text()


def pytest_configure() -> None:
    """Podman and buildah read what scripts/engines.sh wrote for this machine, not the user's own configuration.

    A shell's background jobs ignore SIGINT, and what they start does too: the tests of Ctrl-C need it.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # A busy machine is slow: how long an example takes says nothing about the program.
    settings.register_profile("untimed", deadline=None)
    settings.load_profile("untimed")
    configuration = ENGINES / "containers.conf"
    if configuration.exists():
        os.environ.setdefault("CONTAINERS_CONF", str(configuration))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What stands in tests/integration is an integration test."""
    for item in items:
        if "integration" in item.path.parts:
            item.add_marker(pytest.mark.integration)


def pytest_runtest_setup(item: pytest.Item) -> None:
    lacking = [f"engine {mark.args[0]}" for mark in item.iter_markers("engine") if not engine_answers(mark.args[0])]
    if item.get_closest_marker("ordinary_user") and not has_ordinary_user():
        lacking.append(f"user {ORDINARY_USER}")
    if not lacking:
        return
    reason = f"{', '.join(lacking)} not there; `make engines` sets it up"
    if IN_CI:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


# The program ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Result:
    """What the program left: its status and what it said."""

    arguments: tuple[str, ...]
    status: int
    out: str
    err: str
    seconds: float

    def __str__(self) -> str:
        return f"boxwright {' '.join(self.arguments)}\nstatus {self.status}\n-- out\n{self.out}\n-- err\n{self.err}"


@dataclass(frozen=True)
class Program:
    """The checkout's program with a store. Calling it runs it and checks its exit status (`status=None`: any)."""

    home: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str = ""

    def __call__(
        self,
        *arguments: str | Path,
        status: int | None = 0,
        cwd: Path | None = None,
        stdin: str | None = None,
        timeout: float = 300,
    ) -> Result:
        words = tuple(map(str, arguments))
        started = time.monotonic()
        with self.start(*words, cwd=cwd, stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL) as process:
            try:
                out, err = process.communicate(stdin, timeout=timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                out, err = process.communicate()
                pytest.fail(f"no end after {timeout} s: boxwright {' '.join(words)}\n{out}\n{err}")
        result = Result(words, process.returncode, out, err, time.monotonic() - started)
        assert status is None or result.status == status, f"expected status {status}\n{result}"
        return result

    def start(
        self, *arguments: str | Path, cwd: Path | None = None, stdin: int = subprocess.DEVNULL
    ) -> subprocess.Popen[str]:
        """Start it and return at once: for signals, kills and many at a time."""
        return subprocess.Popen(
            [PROGRAM, *arguments],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=cwd,
            env=self.whole_environment(),
            user=self.user or None,
            group=self.user or None,
            extra_groups=[] if self.user else None,
        )

    def whole_environment(self) -> dict[str, str]:
        own = {"BOXWRIGHT_HOME": str(self.home), "LC_ALL": "C.UTF-8", "AWS_EC2_METADATA_DISABLED": "true"}
        if self.user:
            own |= {"HOME": pwd.getpwnam(self.user).pw_dir, "USER": self.user, "LOGNAME": self.user}
            own["XDG_RUNTIME_DIR"] = ""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("BOXWRIGHT_")}
        return inherited | own | {MARK: os.environ.get(MARK, "")} | dict(self.environment)

    def at(self, home: Path) -> Program:
        """The same with another store."""
        return replace(self, home=home)

    def with_environment(self, **variables: str) -> Program:
        return replace(self, environment={**self.environment, **variables})


def remove_tree(path: Path) -> None:
    """Also what an ordinary user's store left, and directories without write permission."""
    subprocess.run(["chmod", "-R", "u+rwX", "--", path], check=False, capture_output=True)
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def session_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One store for the whole session, so that each base system is made only once."""
    home = tmp_path_factory.mktemp("store")
    yield home
    remove_tree(home)


@pytest.fixture
def boxwright(session_home: Path) -> Program:
    """The program with the session's store: for tests that don't mind what others built."""
    return Program(session_home)


@pytest.fixture
def fresh_boxwright(tmp_path: Path) -> Iterator[Program]:
    """The program with an empty store of this test's own."""
    home = tmp_path / "own-store"
    yield Program(home)
    remove_tree(home)


@pytest.fixture(scope="session")
def ordinary_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home = Path(pwd.getpwnam(ORDINARY_USER).pw_dir) / tmp_path_factory.getbasetemp().name / "store"
    home.parent.mkdir(exist_ok=True)
    shutil.chown(home.parent, ORDINARY_USER, ORDINARY_USER)
    yield home
    remove_tree(home.parent)


@pytest.fixture
def ordinary_boxwright(ordinary_home: Path) -> Program:
    """The program as an ordinary user with a store of that user's. Mark the test `ordinary_user`."""
    return Program(ordinary_home, user=ORDINARY_USER)


@pytest.fixture
def context(tmp_path: Path) -> Callable[..., Path]:
    """Make a build context: `context("FROM scratch", {"a/b": "text"})`."""

    def make(recipe: str, files: Mapping[str, str | bytes] | None = None, name: str = "context") -> Path:
        directory = tmp_path / name
        for relative, content in {"Recipe": recipe, **(files or {})}.items():
            path = directory / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return directory

    return make


def bootstrap_tar(archive: Path, *packages: str) -> Path:
    """A minimal root file system of the distribution with these packages besides, as a tar."""
    options = ["--quiet", "--variant=minbase", "--dpkgopt=force-unsafe-io"]
    options += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale", "info") if packages]
    options += [f"--include={','.join(packages)}"] if packages else []
    subprocess.run(["mmdebstrap", *options, "bookworm", archive], check=True, timeout=580)
    return archive


@pytest.fixture(scope="session")
def busybox_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root file system of one static program, so that most tests need no distribution."""
    root = tmp_path_factory.mktemp("busybox")
    for name in ("bin", "etc", "tmp", "proc", "dev", "sys"):
        (root / "root" / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "root/bin/busybox")
    for applet in APPLETS:
        (root / "root/bin" / applet).symlink_to("busybox")
    (root / "root/etc/passwd").write_text("root:x:0:0::/:/bin/sh\napp:x:1000:1001::/:/bin/sh\n")
    (root / "root/etc/group").write_text("root:x:0:\napp:x:1001:\n")
    archive = root / "base.tar"
    subprocess.run(["tar", "--owner=0", "--group=0", "-C", root / "root", "-cf", archive, "."], check=True)
    return archive


# Nothing is left behind ----------------------------------------------------------------------------------------------


def mounts() -> set[str]:
    """Mount points of overlays and of pinned namespaces that this machine shows."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return {line.split()[4] for line in lines if line.partition(" - ")[2].split()[0] in {"overlay", "nsfs", "fuse"}}


def named_network_namespaces() -> set[str]:
    directory = Path("/run/netns")
    return {path.name for path in directory.iterdir()} if directory.is_dir() else set()


def processes_of_this_test() -> set[str]:
    """Those that carry the test's mark in their environment or live below such a process's namespaces."""
    marked = f"{MARK}={os.environ[MARK]}".encode()
    found: set[str] = set()
    for directory in Path("/proc").glob("[0-9]*"):
        if directory.name == str(os.getpid()):
            continue
        try:
            if marked in (directory / "environ").read_bytes().split(b"\0"):
                words = (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found.add(f"{directory.name} {words.strip()}")
        except OSError:
            continue  # it has ended meanwhile
    return found


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each integration test: no mount, no process and no network namespace more than before it."""
    if not request.node.get_closest_marker("integration"):
        yield
        return
    os.environ[MARK] = f"{os.getpid()}-{request.node.nodeid}"
    before = mounts() | named_network_namespaces()
    yield
    deadline = time.monotonic() + GRACE
    while left := (mounts() | named_network_namespaces()) - before | processes_of_this_test():
        if time.monotonic() > deadline:
            pytest.fail("left behind:\n" + "\n".join(sorted(left)), pytrace=False)
        time.sleep(0.05)
