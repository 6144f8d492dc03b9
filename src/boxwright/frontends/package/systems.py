"""What each build system does in each phase, where the definition doesn't say otherwise (docs/packages.md)."""

from __future__ import annotations

# Scripts made by autoconf before 2.70 refuse --runstatedir.
_RUN_DIRECTORY = '! grep -q -e -runstatedir configure || set -- --runstatedir=/run "$@"\n'
_DIRECTORIES = '--prefix="$PREFIX" --sysconfdir=/etc --localstatedir=/var --libdir="$LIBDIR"'

_PYTHON_INSTALL = """\
export DEB_PYTHON_INSTALL_LAYOUT=deb  # else the distribution's Python installs below /usr/local
python3 -m pip install --no-deps --no-index --no-warn-script-location --disable-pip-version-check \\
    --root "$DESTDIR" --prefix "$PREFIX" --no-compile --root-user-action ignore "$@" "$BUILDDIR"/*.whl
find "$DESTDIR" -path '*.dist-info/direct_url.json' -type f | while IFS= read -r file; do
    rm "$file"  # it names the wheel in the sandbox (PEP 610)
    sed -i '/\\.dist-info\\/direct_url\\.json,/d' "${file%/*}/RECORD"
done"""

_GO_BUILD = """\
mkdir -p "$BUILDDIR"
export CGO_ENABLED="${CGO_ENABLED:-0}" GOPROXY=off GOTOOLCHAIN=local
[ -d vendor ] || export GOFLAGS=-mod=readonly  # then the modules are in the definition's own GOMODCACHE
packages=.
ls ./*.go >/dev/null 2>&1 || packages=./cmd/...
go build -p "$JOBS" -trimpath -buildvcs=false -o "$BUILDDIR/" "$@" "$packages"
"""

DEFAULTS: dict[str, dict[str, str]] = {
    "none": {},
    "autotools": {
        "prepare": "[ -x configure ] || autoreconf --force --install",
        "configure": f'{_RUN_DIRECTORY}./configure --build="$TRIPLET" {_DIRECTORIES} "$@"',
        "build": 'make -j"$JOBS" "$@"',
        "install": 'make DESTDIR="$DESTDIR" install "$@"',
    },
    "cmake": {
        "configure": 'cmake -S . -B "$BUILDDIR" -DCMAKE_INSTALL_PREFIX="$PREFIX" -DCMAKE_INSTALL_LIBDIR="$LIBDIR"'
        " -DCMAKE_INSTALL_SYSCONFDIR=/etc -DCMAKE_INSTALL_LOCALSTATEDIR=/var -DCMAKE_BUILD_TYPE=None"
        ' -DCMAKE_SKIP_INSTALL_RPATH=ON "$@"',
        "build": 'cmake --build "$BUILDDIR" --parallel "$JOBS" "$@"',
        "install": 'DESTDIR="$DESTDIR" cmake --install "$BUILDDIR" "$@"',
    },
    "meson": {
        "configure": f'meson setup "$BUILDDIR" {_DIRECTORIES} --buildtype=plain --wrap-mode=nodownload "$@"',
        "build": 'meson compile -C "$BUILDDIR" -j "$JOBS" "$@"',
        "install": 'DESTDIR="$DESTDIR" meson install -C "$BUILDDIR" --no-rebuild "$@"',
    },
    "make": {
        "build": 'make -j"$JOBS" prefix="$PREFIX" PREFIX="$PREFIX" "$@"',
        "install": 'make DESTDIR="$DESTDIR" prefix="$PREFIX" PREFIX="$PREFIX" install "$@"',
    },
    "python": {
        "build": "python3 -m pip wheel --no-deps --no-build-isolation --no-index --no-cache-dir"
        ' --disable-pip-version-check --wheel-dir "$BUILDDIR" "$@" .',
        "install": _PYTHON_INSTALL,
    },
    "perl": {
        "configure": "if [ -f Build.PL ] && [ ! -f Makefile.PL ]; then\n"
        '    perl Build.PL --installdirs vendor --prefix "$PREFIX" --create_packlist 0 "$@"\n'
        "else\n"
        '    perl Makefile.PL INSTALLDIRS=vendor PREFIX="$PREFIX" NO_PACKLIST=1 NO_PERLLOCAL=1 "$@"\n'
        "fi",
        "build": 'if [ -f Build ]; then ./Build "$@"; else make -j"$JOBS" "$@"; fi',
        "install": 'if [ -f Build ]; then ./Build install --destdir "$DESTDIR" "$@"'
        '; else make DESTDIR="$DESTDIR" install "$@"; fi',
    },
    "go": {
        "build": _GO_BUILD,
        "install": 'mkdir -p "$DESTDIR$PREFIX/bin" && cp "$BUILDDIR"/* "$DESTDIR$PREFIX/bin/" && : "$@"',
    },
    "rust": {
        "build": 'cargo build --release --locked --offline --jobs "$JOBS" --target-dir "$BUILDDIR" "$@"',
        "install": 'cargo install --locked --offline --no-track --jobs "$JOBS" --target-dir "$BUILDDIR" --path .'
        ' --root "$DESTDIR$PREFIX" "$@"',
    },
}
"""Scripts by build system and phase. No build system runs a test suite unasked: `check` is the definition's own."""
