"""Containers composed of packages: built, run, exported, looked into, and refused where they can't be right."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.alpinemirror import served
from tests.conftest import Program

IMAGE = "sysadmin42/hello-production:2.0-p1"
TOOLCHAIN = "toolchain: {base: debian:bookworm, packages: [gcc, libc6-dev, patch]}\nlicense: MIT\n"
LIBRARY = """\
#include <stdio.h>
const char *greet(void) { return "hello from a package"; }
"""
PROGRAM = """\
#include <stdio.h>
const char *greet(void);
int main(int count, char **words) {
    char line[200];
    FILE *file = count > 1 ? fopen(words[1], "r") : NULL;
    puts(greet());
    while (file && fgets(line, sizeof line, file)) fputs(line, stdout);
    return 0;
}
"""
PATCH = """\
--- a/hello.c
+++ b/hello.c
@@ -1,3 +1,4 @@
 #include <stdio.h>
+/* patched */
 const char *greet(void);
 int main(int count, char **words) {
"""


def library(name: str, *, version: str = "1.0", symbols: str = "") -> dict[str, str]:
    """A package of a shared library libgreet.so.1."""
    script = f"-Wl,--version-script={name}.map " if symbols else ""
    return {
        f"pkgs/{name}/src/greet.c": LIBRARY,
        f"pkgs/{name}/src/{name}.map": f"{symbols or 'ANY'} {{ global: greet; local: *; }};\n",
        f"pkgs/{name}/pkg.yaml": f"""\
name: {name}
version: {version}
{TOOLCHAIN}sources: [{{local: src}}]
phases:
  build: cc $CFLAGS -shared -fPIC {script}-Wl,-soname,libgreet.so.1 -o libgreet.so.1.0 greet.c
  install: |
    mkdir -p "$DESTDIR$LIBDIR" "$DESTDIR/usr/include"
    cp libgreet.so.1.0 "$DESTDIR$LIBDIR/"
    ln -s libgreet.so.1.0 "$DESTDIR$LIBDIR/libgreet.so.1"
    ln -s libgreet.so.1 "$DESTDIR$LIBDIR/libgreet.so"
    echo 'const char *greet(void);' >"$DESTDIR/usr/include/greet.h"
""",
    }


def program(name: str, needs: str) -> dict[str, str]:
    """A package of the program hello, with the given lines of dependencies."""
    return {
        f"pkgs/{name}/src/hello.c": PROGRAM,
        f"pkgs/{name}/hello.patch": PATCH,
        f"pkgs/{name}/pkg.yaml": f"""\
name: {name}
version: 2.0
{TOOLCHAIN}sources: [{{local: src}}]
{needs}
patches: {{hello.patch: "Say that it is patched"}}
users: {{greeter: {{uid: 950}}}}
phases:
  build: cc $CFLAGS -o hello hello.c -lgreet
  install: |
    mkdir -p "$DESTDIR/usr/bin"
    cp hello "$DESTDIR/usr/bin/"
""",
    }


def files(name: str, script: str, more: str = "") -> dict[str, str]:
    """A package of files that a script makes."""
    text = "\n".join(f"    {line}" for line in script.splitlines())
    return {f"pkgs/{name}/pkg.yaml": f"name: {name}\nversion: 1.0\n{TOOLCHAIN}{more}phases:\n  install: |\n{text}\n"}


CONTAINER = """\
- vars: {author: Sysadmin42, name: hello-production, version: 2.0-p1, os: linux, arch: amd64}
- package: {type: embedded, path: ./pkgs/hello}
- sync:
    {src: ./files/hello.conf, dest: /etc/hello/hello.conf, recursive: true, chmod: 0640, chown: greeter,
     templates: true}
- image:
    type: aci
    content: |
      {"acKind": "ImageManifest", "acVersion": "0.6.1", "name": "{{ name }}-{{ version }}",
       "labels": [{"name": "os", "value": "{{ os }}"}, {"name": "arch", "value": "{{ arch }}"}],
       "app": {"exec": ["/usr/bin/hello", "/etc/hello/hello.conf"], "user": "0", "group": "0"}}
"""
HELLO = {
    **library("libgreet"),
    **program("hello", "depends: [../libgreet]"),
    "files/hello.conf": "name={{ name }}\n",
    "container.yaml": CONTAINER,
}
Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Make a directory with a definition: `make(HELLO, {"container.yaml": ...})`."""

    def make(*parts: Mapping[str, str], name: str = "hello-prod") -> Path:
        for relative, text in {key: text for part in parts for key, text in part.items()}.items():
            path = tmp_path / name / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        (tmp_path / "out").mkdir(exist_ok=True)
        return tmp_path / name

    return make


def test_a_container_of_two_packages(boxwright: Program, make: Make, tmp_path: Path) -> None:
    directory = make(HELLO)
    built = boxwright("build", directory, cwd=tmp_path / "out", timeout=600)
    lines = built.err.splitlines()
    assert lines[0] == "Building Sysadmin42/hello-production-2.0-p1"
    assert "Processing package from './pkgs/hello' for linux/amd64." in lines
    assert any(line.startswith("    HASH: ") and len(line) == 74 for line in lines)
    last = "Packaging Sysadmin42/hello-production-2.0-p1 as ACI..."
    assert lines[-1] == f"{last:<75}[OK]"
    assert boxwright("run", "--rm", IMAGE).out == "hello from a package\nname=hello-production\n"

    aci = tmp_path / "out/hello-production-2.0-p1-linux-amd64.aci"
    before = aci.stat()
    again = boxwright("build", directory, cwd=tmp_path / "out")
    assert "    Found HASH in the local store...                                       [OK]" in again.err.splitlines()
    assert aci.stat() == before, "an image that is there is not written again"
    check_aci(aci, tmp_path)

    boxwright("build", directory, "-t", "hello-oci", "-o", f"oci,compression=gzip:{tmp_path}/oci")
    tag = json.loads((tmp_path / "oci/index.json").read_text())["manifests"][0]["annotations"]
    image = f"{tmp_path}/oci:{tag['org.opencontainers.image.ref.name']}"
    subprocess.run(["umoci", "unpack", "--image", image, tmp_path / "bundle"], check=True, capture_output=True)
    root = tmp_path / "bundle/rootfs"
    said = subprocess.run(["chroot", root, "/usr/bin/hello"], check=True, capture_output=True, text=True)
    assert said.stdout == "hello from a package\n"
    config = (root / "etc/hello/hello.conf").stat()
    assert (config.st_mode & 0o7777, config.st_uid) == (0o640, 950)
    assert (root / "etc/passwd").read_text().splitlines()[1].startswith("greeter:x:950:950:")
    assert not (root / "usr/include").exists(), "the part dev stays out"
    assert not (root / "usr/lib/debug").exists(), "the part dbg stays out"


def check_aci(aci: Path, tmp_path: Path) -> None:
    """An ACI is a compressed tar of `manifest` and rootfs/ alone; ldconfig reads the cache in it."""
    with gzip.open(aci) as stream, tarfile.open(fileobj=stream) as archive:
        names = archive.getnames()
        assert {name.partition("/")[0] for name in names} == {"manifest", "rootfs"}
        assert names.count("manifest") == 1
        manifest = json.load(archive.extractfile("manifest") or pytest.fail("no manifest"))
        cache = archive.extractfile("rootfs/etc/ld.so.cache") or pytest.fail("no cache")
        (tmp_path / "cache").write_bytes(cache.read())
    assert manifest["acKind"] == "ImageManifest"
    assert manifest["name"] == "hello-production-2.0-p1"
    assert manifest["app"]["exec"][0] == "/usr/bin/hello"
    said = subprocess.run(["ldconfig", "-p", "-C", tmp_path / "cache"], check=True, capture_output=True, text=True)
    assert "libgreet.so.1 (libc6,x86-64) => /usr/lib/x86_64-linux-gnu/libgreet.so.1\n" in said.stdout
    assert "libc.so.6 (libc6,x86-64) => /usr/lib/x86_64-linux-gnu/libc.so.6\n" in said.stdout


def test_what_is_inside(boxwright: Program, make: Make, tmp_path: Path) -> None:
    boxwright("build", make(HELLO), cwd=tmp_path / "out", timeout=600)
    listed = json.loads(boxwright("list", IMAGE, "--json").out)
    packages = {package["name"]: package for package in listed["packages"]}
    libc = next(name for name in packages if name.startswith("debian/libc6="))
    assert set(packages) == {"hello-2.0", "libgreet-1.0", libc}
    assert packages["hello-2.0"]["licence"] == "MIT"
    assert packages["hello-2.0"]["patches"] == [["hello.patch", "Say that it is patched"]]
    assert packages["hello-2.0"]["identity"].startswith("sha256:")
    assert [path for paths in listed["steps"].values() for path in paths] == ["etc/hello/hello.conf"]
    assert listed["unowned"] == []
    owned = boxwright("owns", IMAGE, "/lib/x86_64-linux-gnu/libgreet.so.1", "/etc/hello/hello.conf", "/etc/passwd").out
    first, second, third = owned.splitlines()
    assert first == "/usr/lib/x86_64-linux-gnu/libgreet.so.1.0: libgreet-1.0"
    assert "sync ./files/hello.conf" in second
    assert "composition" in third
    why = boxwright("why", IMAGE, "libgreet.so.1").out
    assert "hello-2.0 needs it: /usr/bin/hello" in why
    assert "libgreet-1.0 is there because hello-2.0 needs it when it runs" in why
    assert "which /usr/bin/hello of hello-2.0 needs" in boxwright("why", IMAGE, libc).out
    assert boxwright("owns", IMAGE, "/etc/nothing", status=1).err.count("image.no-file") == 1
    assert boxwright("why", IMAGE, "libnone.so.9", status=1).err.count("image.no-file") == 1


def test_two_images_compared(boxwright: Program, make: Make, tmp_path: Path) -> None:
    boxwright("build", make(HELLO), "-t", "one", cwd=tmp_path / "out", timeout=600)
    other = {
        "pkgs/libgreet/pkg.yaml": HELLO["pkgs/libgreet/pkg.yaml"].replace("version: 1.0", "version: 1.1"),
        "files/hello.conf": "other={{ name }}\n",
        "container.yaml": CONTAINER.replace('"user": "0"', '"user": "950"'),
    }
    boxwright("build", make(HELLO, other), "-t", "two", cwd=tmp_path / "out", timeout=600)
    found = json.loads(boxwright("diff", "one", "two", "--json").out)
    versions = {change["name"]: (change["before"][:3], change["after"][:3]) for change in found["packages"]}
    assert versions["libgreet"] == ("1.0", "1.1")
    changed = {change["path"]: change for change in found["files"]}
    assert changed["etc/hello/hello.conf"]["what"] == ["content"]
    assert changed["etc/hello/hello.conf"]["size"] == 1
    assert found["configuration"]["user"] == ["", "950:0"]
    assert json.loads(boxwright("diff", "one", "one", "--json").out)["files"] == []
    assert "~ package libgreet 1.0" in boxwright("diff", "one", "two").out


def test_bills_of_materials_are_valid(boxwright: Program, make: Make, tmp_path: Path) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator
    from spdx_tools.spdx.parser.parse_anything import parse_file
    from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

    boxwright("build", make(HELLO), cwd=tmp_path / "out", timeout=600)
    for form in ("spdx", "cyclonedx"):
        boxwright("sbom", IMAGE, "--format", form, "-o", tmp_path / f"{form}.json")
        assert boxwright("sbom", IMAGE, "--format", form).out == (tmp_path / f"{form}.json").read_text()
    document = parse_file(f"{tmp_path}/spdx.json")
    assert validate_full_spdx_document(document) == []
    assert {package.name for package in document.packages} >= {IMAGE, "hello", "libgreet", "libc6"}
    text = (tmp_path / "cyclonedx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    parts = {part["name"]: part for part in json.loads(text)["components"]}
    assert parts["libc6"]["purl"].startswith("pkg:deb/debian/libc6@2.")
    assert (
        parts["hello"]["licenses"] == [{"expression": "MIT"}] or parts["hello"]["licenses"][0]["license"]["id"] == "MIT"
    )


def test_a_recipe_on_debian(boxwright: Program, context: Callable[..., Path]) -> None:
    recipe = (
        "FROM debian:bookworm\nRUN echo run >/made-by-run; echo '# more' >>/etc/bash.bashrc\nCOPY copied /etc/copied\n"
    )
    boxwright("build", context(recipe, {"copied": "x"}), "-t", "looked-into", timeout=600)
    listed = json.loads(boxwright("list", "looked-into", "--json").out)
    packages = {package["package"]: package for package in listed["packages"]}
    assert {"base-files", "dpkg", "libc6", "bash"} <= set(packages)
    assert packages["bash"]["licence"].startswith("GPL-3")
    assert packages["bash"]["files"] > 10
    assert sorted(path for paths in listed["steps"].values() for path in paths) == ["etc/copied", "made-by-run"]
    assert list(listed["changed"].values()) == [["etc/bash.bashrc"]]
    assert "etc/passwd" in listed["unowned"]
    assert "usr/bin/bash" not in listed["unowned"]
    assert boxwright("owns", "looked-into", "/bin/bash").out.startswith("/usr/bin/bash: debian/bash=5.")
    assert "RUN echo run" in boxwright("owns", "looked-into", "/made-by-run").out
    assert ", changed by RUN echo run" in boxwright("owns", "looked-into", "/etc/bash.bashrc").out
    assert re.search("it came with .*debian:bookworm", boxwright("why", "looked-into", "bash").out)
    table = boxwright("list", "looked-into").out.splitlines()
    assert table[0].split() == ["PACKAGE", "HASH", "LICENCE", "SIZE", "SOURCE"]
    assert "1 file of packages changed by: RUN echo run" in "\n".join(table)
    assert "libc6 depends on it" not in boxwright("why", "looked-into", "libc6").out
    assert "is linked with its libc.so.6" in boxwright("why", "looked-into", "libc6").out


CONFLICTS: dict[str, tuple[dict[str, str], str, str]] = {
    "path": (
        {
            **files("one", 'mkdir -p "$DESTDIR/usr/share"\necho 1 >"$DESTDIR/usr/share/same"'),
            **files("two", 'mkdir -p "$DESTDIR/usr/share"\necho 2 >"$DESTDIR/usr/share/same"'),
        },
        "compose.conflict",
        "/usr/share/same belongs to one-1.0 and to two-1.0",
    ),
    "library": (
        {**library("one"), **library("two", version="2.0")},
        "compose.conflict",
        "/usr/lib/x86_64-linux-gnu/libgreet.so.1.0 belong to one-1.0 and to two-2.0",
    ),
    "soname at two paths": (
        {
            **library("one"),
            **{path: text.replace("$DESTDIR$LIBDIR", "$DESTDIR/usr/lib") for path, text in library("two").items()},
        },
        "compose.soname",
        "libgreet.so.1 is in one-1.0 (/usr/lib/x86_64-linux-gnu/libgreet.so.1) and two-1.0 (/usr/lib/libgreet.so.1)",
    ),
    "missing library": (
        {**library("libgreet"), **program("one", "build-depends: [../libgreet]"), **files("two", ":")},
        "compose.missing-library",
        "/usr/bin/hello of one-2.0 needs libgreet.so.1",
    ),
    "missing version": (
        {
            **library("libgreet", symbols="GREET_2"),
            **program("one", "build-depends: [../libgreet]"),
            **library("two", symbols="GREET_1"),
        },
        "compose.missing-version",
        "/usr/bin/hello of one-2.0 needs libgreet.so.1 with GREET_2",
    ),
    "user": (
        {
            **files("one", ":", "users: {first: {uid: 960}}\n"),
            **files("two", ":", "users: {second: {uid: 960}}\n"),
        },
        "compose.user",
        "960",
    ),
}


@pytest.mark.parametrize("case", CONFLICTS)
def test_what_does_not_fit_together(case: str, boxwright: Program, make: Make) -> None:
    definitions, code, said = CONFLICTS[case]
    tasks = "".join(f"- package: {{type: embedded, path: pkgs/{name}}}\n" for name in ("one", "two"))
    failed = boxwright("build", make(definitions, {"container.yaml": tasks}), status=1, timeout=600)
    assert f"[{code}]" in failed.err
    assert said in failed.err


def test_a_package_may_replace_another(boxwright: Program, make: Make, tmp_path: Path) -> None:
    definitions, _, _ = CONFLICTS["path"]
    tasks = (
        "- package: {type: embedded, path: pkgs/one, replaces: [two]}\n- package: {type: embedded, path: pkgs/two}\n"
    )
    boxwright("build", make(definitions, {"container.yaml": tasks}), "-t", "replaced", timeout=600)
    assert boxwright("owns", "replaced", "/usr/share/same").out == "/usr/share/same: one-1.0\n"
    boxwright("export", "replaced", f"tar:{tmp_path}/replaced.tar")
    with tarfile.open(tmp_path / "replaced.tar") as archive:
        assert (archive.extractfile("usr/share/same") or pytest.fail("not there")).read() == b"1\n"


def test_a_replaced_library_is_left_out(boxwright: Program, make: Make) -> None:
    definitions, _, _ = CONFLICTS["soname at two paths"]
    for more in ("", "- package: one-per-container\n"):
        tasks = (
            more + "- package: {type: embedded, path: pkgs/one}\n"
            "- package: {type: embedded, path: pkgs/two, replaces: [one]}\n"
        )
        boxwright("build", make(definitions, {"container.yaml": tasks}), "-t", "replaced-library", timeout=600)
        assert boxwright("owns", "replaced-library", "/usr/lib/libgreet.so.1").out.endswith(": two-1.0\n")
        gone = boxwright("owns", "replaced-library", "/usr/lib/x86_64-linux-gnu/libgreet.so.1.0", status=1)
        assert "[image.no-file]" in gone.err


def test_tests_of_packages_are_run(boxwright: Program, make: Make, tmp_path: Path) -> None:
    definition = HELLO["pkgs/hello/pkg.yaml"] + "test:\n  - [hello, /etc/none]\n  - exit 3\n"
    directory = make(HELLO, {"pkgs/hello/pkg.yaml": definition, "container.yaml": CONTAINER})
    failed = boxwright("build", directory, "-t", "untested", cwd=tmp_path / "out", status=1, timeout=600)
    assert "[package.test-failed]" in failed.err
    assert "Testing package hello-2.0 with its run-time closure." in failed.err.splitlines()
    assert f"{'    Running its tests...':<71}[FAILED]" in failed.err.splitlines()
    assert "hello from a package" in failed.err
    assert "untested:latest" not in boxwright("images", "--names").out
    assert list((tmp_path / "out").iterdir()) == []
    boxwright("build", directory, "-t", "untested", "--no-test", cwd=tmp_path / "out")
    passing = definition.replace("exit 3", "hello | { read -r line; test \"$line\" = 'hello from a package'; }")
    (directory / "pkgs/hello/pkg.yaml").write_text(passing)
    boxwright("build", directory, "-t", "tested", cwd=tmp_path / "out")


LINKED = files(
    "linked",
    """\
mkdir -p "$DESTDIR/usr/bin" "$DESTDIR/usr/include" "$DESTDIR/usr/share/linked"
echo 'int main(void) { return 0; }' >a.c
cc $CFLAGS -o "$DESTDIR/usr/bin/one" a.c
ln "$DESTDIR/usr/bin/one" "$DESTDIR/usr/bin/two"
echo data >"$DESTDIR/usr/include/linked.h"
ln "$DESTDIR/usr/include/linked.h" "$DESTDIR/usr/share/linked/b"
ln "$DESTDIR/usr/include/linked.h" "$DESTDIR/usr/share/linked/c" """,
)


@pytest.mark.parametrize("each", ["", "- package: one-per-container\n"], ids=["together", "each"])
def test_hard_links_stay(each: str, boxwright: Program, make: Make, tmp_path: Path) -> None:
    other = files("other", 'mkdir -p "$DESTDIR/usr/share/linked"\necho other >"$DESTDIR/usr/share/linked/c"')
    tasks = each + "- package: {type: embedded, path: pkgs/linked}\n"
    tasks += "- package: {type: embedded, path: pkgs/other, replaces: [linked]}\n"
    boxwright("build", make(LINKED, other, {"container.yaml": tasks}), "-t", "linked", timeout=600)
    boxwright("export", "linked", f"tar:{tmp_path}/linked.tar")
    (tmp_path / "root").mkdir()
    subprocess.run(["tar", "-C", tmp_path / "root", "-xpf", tmp_path / "linked.tar"], check=True)
    one, two = (tmp_path / "root/usr/bin" / name for name in ("one", "two"))
    assert one.stat().st_ino == two.stat().st_ino
    notes = subprocess.run(["readelf", "--sections", one], check=True, capture_output=True, text=True).stdout
    assert ".debug_info" not in notes, "stripped"
    shared = tmp_path / "root/usr/share/linked"
    assert (shared / "b").read_text() == "data\n"
    assert (shared / "c").read_text() == "other\n"
    assert boxwright("owns", "linked", "/usr/bin/two", "/usr/share/linked/c").out.splitlines() == [
        "/usr/bin/two: linked-1.0",
        "/usr/share/linked/c: other-1.0",
    ]
    assert boxwright("run", "--rm", "--network", "none", "linked", "/usr/bin/two").out == ""


def test_what_is_said_is_what_was_asked_for(boxwright: Program, make: Make, tmp_path: Path) -> None:
    """A package that comes out with the same bytes leaves the image's tree; what is said of it is of now."""
    low = files("low", 'mkdir -p "$DESTDIR/usr/share"\necho 1 >"$DESTDIR/usr/share/low"')
    top = files("top", 'mkdir -p "$DESTDIR/usr/share"\necho 1 >"$DESTDIR/usr/share/top"', "depends: [../low]\n")
    tasks = "- package: {type: embedded, path: pkgs/top}\n- sync: {src: same, dest: /p, recursive: true}\n"
    directory = make(
        low, top, {"container.yaml": tasks, "same/f": "x\n", "recipe/Dockerfile": "FROM said\nLABEL a=b\n"}
    )

    def build(*options: str) -> str:
        return boxwright("build", directory, *options, cwd=tmp_path / "out", timeout=600).err

    def said(image: str) -> dict[str, tuple[str, str]]:
        listed = json.loads(boxwright("list", image, "--json").out)["packages"]
        return {one["package"]: (one["licence"], one["identity"].removeprefix("sha256:")) for one in listed}

    first = build("-t", "said")
    build("-t", "said-old", "--label", "old=yes")
    boxwright("build", directory / "recipe", "-t", "said-from")
    bill = json.loads(boxwright("sbom", "said").out)

    make({name: text.replace("license: MIT", "license: GPL-2.0-only") for name, text in low.items()})
    second = build("-t", "said")
    assert second.count("Defaulting to local build") == 1
    now, hashes = said("said"), re.findall("HASH: ([0-9a-f]{64})", second)
    assert now["low"][0] == "GPL-2.0-only"
    assert now["top"] == ("MIT", hashes[-1]), "its HASH is another one with that of what it needs"
    assert hashes[-1] not in first
    assert said("said-old")["low"][0] == said("said-from")["low"][0] == "MIT", "what was built before says what it said"
    boxwright("build", directory / "recipe", "-t", "said-from")
    assert said("said-from") == now
    again = json.loads(boxwright("sbom", "said").out)
    images = [
        next(one for one in document["packages"] if one["SPDXID"] == "SPDXRef-image") for document in (bill, again)
    ]
    assert images[0] == images[1], "the image is the one that was there"
    assert again["documentNamespace"] != bill["documentNamespace"]
    licences = {one["name"]: one.get("licenseDeclared") for one in again["packages"]}
    assert (licences["low"], licences["top"]) == ("GPL-2.0-only", "MIT")


def test_files_may_come_before_packages(boxwright: Program, make: Make, tmp_path: Path) -> None:
    tasks = """\
- sync: {src: files/hello.conf, dest: /etc/hello/hello.conf, chmod: 0600}
- package: {type: embedded, path: ./pkgs/hello}
- image: {type: oci, content: '{"config": {"Cmd": ["/usr/bin/hello", "/etc/hello/hello.conf"]}}', output: image.oci}
"""
    directory = make(HELLO, {"container.yaml": tasks, "files/hello.conf": "first\n"})
    boxwright("build", directory, "-t", "files-first", cwd=tmp_path / "out", timeout=600)
    assert boxwright("run", "--rm", "--network", "none", "files-first").out == "hello from a package\nfirst\n"
    assert boxwright("export", "files-first", f"rootfs:{tmp_path}/tree").status == 0
    assert (tmp_path / "tree/etc/passwd").read_text().startswith("root:x:0:0:")
    assert (tmp_path / "tree/lib64").readlink() == Path("usr/lib64")


def test_a_directory_of_templates_is_copied_whole(boxwright: Program, make: Make, tmp_path: Path) -> None:
    tasks = """\
- vars: {who: world}
- sync: {src: files, dest: /srv, recursive: true, templates: true}
- image: {type: rootfs, output: tree}
"""
    directory = make({"container.yaml": tasks, "files/b/hello": "{{ who }}\n"})
    (directory / "files/a/empty").mkdir(parents=True)
    (directory / "files/a/empty").chmod(0o750)
    boxwright("build", directory, cwd=tmp_path)
    modes = {str(path.relative_to(tmp_path)): path.stat().st_mode & 0o777 for path in (tmp_path / "tree").rglob("*")}
    directories = {"tree/srv": 0o755, "tree/srv/a": 0o755, "tree/srv/a/empty": 0o750, "tree/srv/b": 0o755}
    assert modes == {**directories, "tree/srv/b/hello": 0o644}
    assert (tmp_path / "tree/srv/b/hello").read_text() == "world\n"


def test_on_a_base(boxwright: Program, make: Make) -> None:
    tasks = """\
- vars: {who: world}
- base: debian:bookworm
- package: {type: embedded, path: pkgs/hello}
- user: {name: web, uid: 951}
- sync: {src: files, dest: /srv/files, recursive: true, chmod: 0640, chown: web}
- run: echo {{ who }} >/srv/run
- user: web
- run: {command: [/usr/bin/hello], network: none}
- image:
    type: oci
    content: '{"config": {"Cmd": ["/bin/sh", "-c", "id -un; cat /srv/run; hello /srv/files/sub/f"]}}'
    output: OUT
"""
    more = {"container.yaml": tasks.replace("OUT", "image.oci"), "files/sub/f": "a file\n"}
    directory = make(HELLO, more)
    boxwright("build", directory, "-t", "based", cwd=directory.parent / "out", timeout=600)
    assert (directory.parent / "out/image.oci/oci-layout").is_file()
    assert boxwright("run", "--rm", "based").out == "web\nworld\nhello from a package\na file\n"
    assert boxwright("run", "--rm", "based", "stat", "-c", "%a %U", "/srv/files/sub", "/srv/files/sub/f").out == (
        "750 web\n640 web\n"
    )
    assert boxwright("run", "--rm", "-u", "0", "based", "ldconfig", "-p").out.count("libgreet.so.1 ") == 1
    listed = json.loads(boxwright("list", "based", "--json").out)
    assert {"hello", "libgreet", "bash"} <= {package["package"] for package in listed["packages"]}


def test_a_base_has_owners_too(boxwright: Program, make: Make) -> None:
    taken = files("taken", 'mkdir -p "$DESTDIR/etc"\necho x >"$DESTDIR/etc/debian_version"')
    tasks = "- base: debian:bookworm\n- package: {type: embedded, path: pkgs/taken}\n"
    failed = boxwright("build", make(taken, {"container.yaml": tasks}), status=1, timeout=600)
    assert "[compose.conflict]" in failed.err
    assert "debian/base-files=" in failed.err
    tasks = tasks.replace("taken}", "taken, replaces: [debian/base-files]}")
    boxwright("build", make(taken, {"container.yaml": tasks}), "-t", "taken", timeout=600)
    assert boxwright("run", "--rm", "taken", "cat", "/etc/debian_version").out == "x\n"


def test_an_image_of_each_package(boxwright: Program, make: Make) -> None:
    tasks = "- package: one-per-container\n" + CONTAINER
    directory = make(HELLO, {"container.yaml": tasks})
    boxwright("build", directory, "-t", "union", cwd=directory.parent / "out", timeout=600)
    names = boxwright("images", "--names").out.split()
    assert {"hello:2.0", "libgreet:1.0", "union:latest"} <= set(names)
    assert boxwright("run", "--rm", "union").out == "hello from a package\nname=hello-production\n"
    listed = json.loads(boxwright("list", "union", "--json").out)
    assert {"hello", "libgreet", "libc6"} == {package["package"] for package in listed["packages"]}
    assert boxwright("owns", "union", "/usr/bin/hello").out == "/usr/bin/hello: hello-2.0\n"


def test_packages_of_the_distribution(boxwright: Program, make: Make) -> None:
    policy = subprocess.run(
        ["apt-cache", "show", "--no-all-versions", "libc6", "zlib1g", "busybox"],
        check=False,
        capture_output=True,
        text=True,
    ).stdout
    versions: dict[str, str] = {}
    for stanza in policy.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in stanza.splitlines() if line[:1] > " " and ": " in line)
        versions.setdefault(fields.get("Package", ""), fields.get("Version", ""))
    if not shutil.which("apt-cache") or "zlib1g" not in versions:
        pytest.fail("apt has no lists here: run `apt-get update`")
    alone = f"- package: {{type: debian, name: zlib1g, version: '{versions['zlib1g']}'}}\n"
    failed = boxwright("build", make({"container.yaml": alone}), status=1, timeout=600)
    assert "[compose.missing-library]" in failed.err
    assert "needs libc.so.6" in failed.err
    both = alone + f"- package: {{type: debian, name: libc6, version: '{versions['libc6']}'}}\n"
    boxwright("build", make({"container.yaml": both}), "-t", "distribution", timeout=600)
    assert boxwright("owns", "distribution", "/lib/x86_64-linux-gnu/libz.so.1").out.endswith(
        f": debian/zlib1g={versions['zlib1g']}\n"
    )


def test_a_container_is_locked(boxwright: Program, make: Make, tmp_path: Path) -> None:
    directory = make(HELLO)
    boxwright("lock", directory, timeout=600)
    lock = json.loads((directory / "boxwright.lock").read_text())
    assert [base.split()[0] for base in lock["bases"]] == ["debian:bookworm"]
    assert set(lock["packages"]) == {"hello-2.0", "libgreet-1.0"}
    boxwright("build", directory, cwd=tmp_path / "out", timeout=600)
    (directory / "pkgs/libgreet/pkg.yaml").write_text(
        HELLO["pkgs/libgreet/pkg.yaml"].replace("packages: [gcc", "packages: [make, gcc")
    )
    assert "[lock.missing]" in boxwright("build", directory, cwd=tmp_path / "out", status=2).err


def test_a_patch_from_a_url_is_pinned(boxwright: Program, make: Make, tmp_path: Path) -> None:
    """The second patch of formats.md's example: its checksum stands in the lock file beside container.yaml."""
    (tmp_path / "web").mkdir()
    fix = tmp_path / "web/fix.patch"
    fix.write_text(PATCH.replace("patched", f"fixed {tmp_path}"))
    with served(tmp_path / "web") as address:
        patches = f'patches:\n  hello.patch: "Say it"\n  {address}/fix.patch: "Fix buffer overruns"\n'
        definition = HELLO["pkgs/hello/pkg.yaml"].replace('patches: {hello.patch: "Say that it is patched"}\n', patches)
        directory = make(HELLO, {"pkgs/hello/pkg.yaml": definition})
        digest = hashlib.sha256(fix.read_bytes()).hexdigest()
        missing = boxwright("build", directory, cwd=tmp_path / "out", status=2, timeout=600)
        assert "[package.no-checksum]" in missing.err
        assert f"{address}/fix.patch: {{reason: ..., sha256: {digest}}}" in missing.err
        boxwright("lock", directory, timeout=600)
        lock = json.loads((directory / "boxwright.lock").read_text())
        assert lock["urls"] == {f"{address}/fix.patch": digest}

        fix.write_text("something else\n")
        (boxwright.home / "blobs" / digest).unlink()
        changed = boxwright("build", directory, cwd=tmp_path / "out", status=5)
        assert "[source.checksum]" in changed.err
        fix.write_text(PATCH.replace("patched", f"fixed {tmp_path}"))
        boxwright("build", directory, "-t", "url-patch", cwd=tmp_path / "out")
        moved = definition.replace("/fix.patch", "/other.patch")
        (directory / "pkgs/hello/pkg.yaml").write_text(moved)
        assert "[lock.missing]" in boxwright("build", directory, cwd=tmp_path / "out", status=2).err
    (package,) = [
        one
        for one in json.loads(boxwright("list", "url-patch", "--json").out)["packages"]
        if one["name"] == "hello-2.0"
    ]
    assert package["patches"] == [["hello.patch", "Say it"], ["fix.patch", "Fix buffer overruns"]]


def test_what_these_tests_made_is_whole(boxwright: Program) -> None:
    """Once, since it reads the whole store: replaced libraries, hard links, images of each package."""
    boxwright("fsck")
