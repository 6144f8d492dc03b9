"""The one action that a package build is: a script, its environment, and where its inputs lie (decision 5).

The action unpacks, builds and archives with the tools of its own root file system, so it can run in a sandbox here or
on a Remote Execution server, with the same result. `FORMAT` counts in keys: it changes when any of this does.
"""

from __future__ import annotations

import shlex

from boxwright.model.step import BuildPackage, PackageOwner, PackageSource

FORMAT = 1
OUTPUT = "out/package.tar"
HOME = "/build"
BEFORE, AFTER = "before", "after"

DIRECTORIES = ("src", "dest", "out", "home", "sources", "action")
"""What lies in /build when the action begins."""

_HEAD = """\
umask 022
cd /build
"""

_TIMES = """\
find src -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
"""

_APPLY = """\
apply() {  # FILE DIRECTORY LEVEL
    level=$3
    if [ "$level" = -1 ]; then
        for level in 1 0 2 3 none; do
            [ "$level" != none ] || { echo "boxwright: $1 does not apply at any level" >&2; exit 1; }
            ! patch -d "$2" --dry-run --force --silent -p"$level" -i "$1" >/dev/null 2>&1 || break
        done
    fi
    echo "patch -p$level ${1##*/}"
    patch -d "$2" --force --no-backup-if-mismatch -p"$level" -i "$1"
}
"""

_FINISH = """\
cd /build/dest
for name in bin sbin lib lib32 lib64; do
    if [ -d "$name" ] && [ ! -L "$name" ]; then
        mkdir -p "usr/$name"
        cp -a "$name/." "usr/$name/"
        rm -rf "$name"
    fi
done
[ ! -e usr/share/info/dir ] || rm usr/share/info/dir
"""

_LOOK = """\
found=$(find . -type f -name '*.la' -delete \\
    -o \\( -type f -o -type d \\) \\( -perm /7000 -o ! -perm -044 \\) {declared}-printf 'mode %m /%P\\n' \\
    -o ! -type f ! -type d ! -type l -printf 'special /%P\\n' \\
    -o -type f \\( -perm -100 -o -name '*.so*' -o -name '*.a' \\) ! -path './usr/lib/debug/*' -printf 'code ./%P\\n')
case "$found" in
    *"mode "[0-7]*)
        echo "boxwright: these have a mode that must be declared under 'owners':" >&2
        printf '%s\\n' "$found" | sed -n 's/^mode /  /p' | sort -k 2 >&2
        exit 1 ;;
    *"special /"*)
        echo "boxwright: a package holds files, directories and links alone:" >&2
        printf '%s\\n' "$found" | sed -n 's/^special /  /p' | sort >&2
        exit 1 ;;
esac
"""

_STRIP = """\
if [ -n "$found" ] && command -v objcopy >/dev/null; then
    printf '%s\\n' "$found" | sed -n 's/^code //p' | sort | while IFS= read -r file; do
        case "$file" in
            *.a) strip --strip-debug --enable-deterministic-archives "$file" 2>/dev/null || true; continue ;;
        esac
        id=$(readelf -n "$file" 2>/dev/null | sed -n 's/^ *Build ID: //p') || continue
        [ -n "$id" ] || { strip --strip-unneeded "$file" 2>/dev/null || true; continue; }
        rest=${id#??}
        debug="usr/lib/debug/.build-id/${id%"$rest"}/$rest.debug"
        mkdir -p "${debug%/*}"
        if [ ! -e "$debug" ] && objcopy --only-keep-debug --compress-debug-sections "$file" "$debug" 2>/dev/null; then
            chmod 644 "$debug"
            strip --strip-unneeded "$file"
            objcopy --add-gnu-debuglink="$debug" "$file" 2>/dev/null || true
        fi
    done
fi
"""

_TAR = 'tar --format=gnu --sort=name --numeric-owner --mtime="@$SOURCE_DATE_EPOCH"'


def environment(step: BuildPackage) -> tuple[tuple[str, str], ...]:
    """Everything that the action's environment holds."""
    fixed = {
        "HOME": "/build/home",
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "USER": "build",
        "LOGNAME": "build",
        "SHELL": "/bin/sh",
        "TMPDIR": "/tmp",  # noqa: S108 - the sandbox's own
        "SOURCE_DATE_EPOCH": str(step.epoch),
        "DESTDIR": "/build/dest",
        "BUILDDIR": "/build/obj",
        "SOURCES": "/build/sources",
        "JOBS": str(step.jobs),
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "GOFLAGS": "-mod=vendor",
    }
    return tuple(sorted({**fixed, **dict(step.environment)}.items()))


def script(step: BuildPackage, stop: tuple[str, str] | None = None) -> str:
    """The action's script. With `stop` (``before`` or ``after``, and a phase) a shell is opened there instead."""
    parts = ["set -eu\n", _HEAD]
    parts += [_prepare(number, source) for number, source in enumerate(step.sources)]
    if any(source.kind in ("archive", "file", "debian") for source in step.sources):
        parts.append(_TIMES)
    patches = [_patch(number, source) for number, source in enumerate(step.sources) if source.kind == "patch"]
    if patches:
        parts += [_APPLY, *patches, _TIMES]
    for number, (name, _, arguments) in enumerate(step.phases):
        if stop == (BEFORE, name):
            return "".join([*parts, _SHELL])
        words = " ".join(map(shlex.quote, arguments))
        line = f"echo '== {name}'\n(cd /build/src && exec sh -eu /build/action/{number}-{name} {words})"
        if stop == (AFTER, name):
            return "".join([*parts, f'{line} || echo "== {name} ended with $?"\n', _SHELL])
        parts.append(f"{line} || exit $?\n")
    parts += [_install(number, source) for number, source in enumerate(step.sources) if source.kind == "install"]
    declared = "".join(f"! -path {shlex.quote('./' + owner.path)} " for owner in step.owners)
    parts += [_FINISH, _LOOK.replace("{declared}", declared), _STRIP if step.strip else ""]
    return "".join([*parts, _archive(step.owners)])


_SHELL = """\
cd /build/src
[ ! -x /bin/bash ] || exec /bin/bash --norc -i
exec /bin/sh -i
"""


def phase_files(step: BuildPackage) -> tuple[tuple[str, str], ...]:
    """The scripts of the phases, by their names beside the action's own."""
    return tuple((f"{number}-{name}", f"{text}\n") for number, (name, text, _) in enumerate(step.phases))


def source_name(number: int, name: str) -> str:
    """Under which name a source lies in ``/build/sources``."""
    return f"{number}-{name}"


def _path(number: int, source: PackageSource, index: int = 0) -> str:
    return shlex.quote(f"/build/sources/{source_name(number, source.files[index][0])}")


def _prepare(number: int, source: PackageSource) -> str:
    into = shlex.quote(f"src/{source.into}")
    first = source.files[0][0]
    if source.kind == "file":
        return f"mkdir -p {into}\ncp {_path(number, source)} {into}/{shlex.quote(first)}\n"
    if source.kind == "debian":
        return _debian(number, source, into)
    if source.kind != "archive":
        return ""
    if first.endswith((".zip", ".whl")):
        unzip = f"mkdir -p {into} zip\nunzip -q -d zip {_path(number, source)}\n"
        move = "zip/*/." if source.strip else "zip/."
        return f"{unzip}cp -a {move} {into}/\nrm -rf zip\n"
    strip = f" --strip-components={source.strip}" if source.strip else ""
    return f"mkdir -p {into}\ntar -xf {_path(number, source)} -C {into}{strip} --no-same-owner --no-same-permissions\n"


def _debian(number: int, source: PackageSource, into: str) -> str:
    """dpkg-source wants the files under their own names, and a directory that is not there."""
    links = "".join(
        f"ln -s {_path(number, source, index)} debian-{number}/{shlex.quote(name)}\n"
        for index, (name, _) in enumerate(source.files)
    )
    dsc = next(name for name, _ in source.files if name.endswith(".dsc"))
    skip = "" if dict(source.options).get("patched") == "true" else "--skip-patches "
    return (
        f"mkdir -p debian-{number} {into}\n{links}"
        f"(cd debian-{number} && dpkg-source --no-check {skip}-x {shlex.quote(dsc)} tree >/dev/null)\n"
        f"cp -a debian-{number}/tree/. {into}/\nrm -rf debian-{number}\n"
    )


def _patch(number: int, source: PackageSource) -> str:
    return f"apply {_path(number, source)} {shlex.quote(f'/build/src/{source.into}')} {source.strip}\n"


def _install(number: int, source: PackageSource) -> str:
    target = shlex.quote(f"/build/dest/{source.into}")
    mode = dict(source.options)["mode"]
    return f'mkdir -p "$(dirname {target})"\ncp {_path(number, source)} {target}\nchmod {mode} {target}\n'


def _archive(owners: tuple[PackageOwner, ...]) -> str:
    """The last lines: everything in one deterministic archive, what has an owner or mode of its own after the rest."""
    declared = " ".join(f"! -path {shlex.quote('./' + owner.path)}" for owner in owners)
    plain = f"{_TAR} --owner=0 --group=0 --mode=u=rwX,go=rX"
    if not owners:
        return f"{plain} -cf ../{OUTPUT} .\n"
    lines = [f"find . {declared} -print0 | LC_ALL=C sort -z >../plain\n"]
    lines.append(f"{plain} --no-recursion --null --verbatim-files-from -T ../plain -cf ../{OUTPUT}\n")
    for number, owner in enumerate(owners):
        path = shlex.quote("./" + owner.path)
        others = " ".join(f"! -path {shlex.quote('./' + later.path)}" for later in owners[number + 1 :])
        mode = f"{owner.mode:04o}" if owner.mode is not None else "u=rwX,go=rX"
        lines.append(f"find . -path {path} {others} -print0 | LC_ALL=C sort -z >../owned\n")
        lines.append(f"[ -s ../owned ] || {{ echo 'boxwright: owners: no file is '{path} >&2; exit 1; }}\n")
        lines.append(
            f"{_TAR} --owner={owner.uid} --group={owner.gid} --mode={mode} --no-recursion --null"
            f" --verbatim-files-from -T ../owned -rf ../{OUTPUT}\n"
        )
    return "".join(lines)
