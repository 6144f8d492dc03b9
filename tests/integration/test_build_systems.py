"""Each build system's own defaults, with a small real project of tests/cases/systems: built, tested, built again."""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Program, bootstrap_tar, remove_tree
from tests.integration.test_packages import archive, record

pytestmark = [pytest.mark.integration, pytest.mark.long]

PROJECTS = Path(__file__).parents[1] / "cases" / "systems"
TOOLS = (
    "gcc", "libc6-dev", "make", "patch", "cmake", "meson", "libmodule-build-perl", "python3-dev", "python3-pip",
    "python3-setuptools", "python3-wheel",
)  # fmt: skip
PYTHON = ("python3-minimal", "python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib")
CLOSURES = {"python": PYTHON, "perl": ("perl-base",), "perl-build": ("perl-base",)}
FILES = {
    "cmake": {"usr/bin/greet", "usr/include/greet.h", "usr/lib/TRIPLET/libgreet.so.1.0.0"},
    "meson": {"usr/bin/greet", "usr/lib/TRIPLET/libgreet.so", "usr/lib/TRIPLET/pkgconfig/greet.pc"},
    "python": {"usr/bin/greet", "usr/lib/python3/dist-packages/greet/data/word.txt"},
    "perl": {"usr/bin/greet-perl", "usr/share/perl5/Greet/Made.pm", "usr/share/man/man3/Greet::Made.3pm"},
    "perl-build": {"usr/bin/greet-build", "usr/share/perl5/Greet/Built.pm"},
    "go": {"usr/bin/greet"},
    "rust": {"usr/bin/greet"},
}
NEVER = ("direct_url.json", "perllocal.pod", ".packlist", ".crates.toml", "__pycache__", "usr/local/")


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What CMake, Meson, Python and Perl need."""
    return bootstrap_tar(tmp_path_factory.mktemp("tools") / "toolchain.tar", *TOOLS)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """The program with a store in which that is unpacked once."""
    home = tmp_path_factory.mktemp("systems") / "store"
    yield Program(home)
    remove_tree(home)


def newest(package: str) -> str:
    shown = subprocess.run(["apt-cache", "show", package], capture_output=True, text=True, check=True).stdout
    return next(line[9:] for line in shown.splitlines() if line.startswith("Version: "))


def project(name: str, tools: Path, place: Path) -> Path:
    """A copy of a project in a package tree, with its toolchain and exact versions of what its test needs."""
    directory = place / "packages" / "demo" / name
    shutil.copytree(PROJECTS / name, directory)
    text = (directory / "pkg.yaml").read_text()
    needs = ", ".join(f"debian/{package}={newest(package)}" for package in CLOSURES.get(name, ()))
    toolchain = f"toolchain: tar:{tools}"
    text = text.replace("DISTRIBUTION", needs).replace("toolchain: TOOLCHAIN", "") + toolchain + "\n"
    (directory / "pkg.yaml").write_text(text)
    return directory


def built_twice(program: Program, name: str, tools: Path, tmp_path: Path) -> None:
    package = f"demo/greet-{name}-1.0"
    program("build", project(name, tools, tmp_path))
    first = archive(program, package)
    files = record(program, package)["files"]
    assert isinstance(files, list)
    paths = {item["path"].replace("x86_64-linux-gnu", "TRIPLET") for item in files}
    assert FILES[name] <= paths
    assert not [path for path in paths if any(word in path for word in NEVER)]

    elsewhere = project(name, tools, tmp_path / "another/place")
    again = program.with_environment(TZ="Asia/Tokyo", LC_ALL="C")("build", elsewhere, "--no-cache")
    assert "Defaulting to local build" in again.err
    assert archive(program, package) == first


@pytest.mark.parametrize("name", ["cmake", "meson", "python", "perl", "perl-build"])
def test_a_project_by_its_build_systems_defaults(name: str, program: Program, tools: Path, tmp_path: Path) -> None:
    built_twice(program, name, tools, tmp_path)


@pytest.mark.parametrize(("name", "package"), [("go", "golang-go"), ("rust", "cargo")])
def test_a_project_of_a_large_toolchain(name: str, package: str, program: Program, tmp_path: Path) -> None:
    tools = bootstrap_tar(tmp_path / "toolchain.tar", package, "patch")
    built_twice(program, name, tools, tmp_path)
    if name == "go":
        go_module_cache(program, tools, tmp_path)


def go_module_cache(program: Program, tools: Path, tmp_path: Path) -> None:
    """The same program with a module cache in place of vendored modules."""
    directory = project("go", tools, tmp_path / "cached")
    shutil.move(directory / "src/vendor/example.org/word/word.go", tmp_path)
    shutil.rmtree(directory / "src/vendor")
    module = b"module example.org/word\n\ngo 1.18\n"
    files = {"go.mod": module, "word.go": (tmp_path / "word.go").read_bytes()}
    place = directory / "modules/cache/download/example.org/word/@v"
    place.mkdir(parents=True)
    (place / "v1.0.0.mod").write_bytes(module)
    (place / "v1.0.0.info").write_text('{"Version":"v1.0.0","Time":"2020-01-01T00:00:00Z"}')
    with zipfile.ZipFile(place / "v1.0.0.zip", "w") as out:
        for name, data in files.items():
            out.writestr(f"example.org/word@v1.0.0/{name}", data)
    whole = module_hash({f"example.org/word@v1.0.0/{name}": data for name, data in files.items()})
    (place / "v1.0.0.ziphash").write_text(whole)
    sums = f"example.org/word v1.0.0 {whole}\nexample.org/word v1.0.0/go.mod {module_hash({'go.mod': module})}\n"
    (directory / "src/go.sum").write_text(sums)
    text = (directory / "pkg.yaml").read_text().replace("version: 1.0", "version: 1.1")
    text = text.replace("[{local: src}]", "[{local: src}, {local: modules, into: modules}]")
    (directory / "pkg.yaml").write_text(f"{text}environment: {{GOMODCACHE: /build/src/modules}}\n")
    program("build", directory)


def module_hash(files: dict[str, bytes]) -> str:
    """The h1 hash of go.sum (golang.org/x/mod/sumdb/dirhash)."""
    lines = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(files.items()))
    return "h1:" + base64.b64encode(hashlib.sha256(lines.encode()).digest()).decode()


def test_a_python_build_fetches_nothing(program: Program, tools: Path, tmp_path: Path) -> None:
    """What a project wants to be built with must be there: it is neither fetched nor left out."""
    directory = project("python", tools, tmp_path)
    file = directory / "src/pyproject.toml"
    file.write_text(file.read_text().replace('"setuptools.build_meta"', '"hatchling.build"'))
    failed = program("build", directory, status=1)
    assert "[package.failed]" in failed.err
    assert "hatchling" in failed.err
