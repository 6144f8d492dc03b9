"""What each build system does in each phase, where the definition doesn't say otherwise (docs/packages.md)."""

from __future__ import annotations

# Scripts made by autoconf before 2.70 refuse --runstatedir.
_RUN_DIRECTORY = '! grep -q -e -runstatedir configure || set -- --runstatedir=/run "$@"\n'
_DIRECTORIES = '--prefix="$PREFIX" --sysconfdir=/etc --localstatedir=/var --libdir="$LIBDIR"'

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
        ' --wheel-dir "$BUILDDIR" "$@" .',
        "install": 'python3 -m pip install --no-deps --no-index --no-warn-script-location --root "$DESTDIR"'
        ' --prefix "$PREFIX" --no-compile "$@" "$BUILDDIR"/*.whl',
    },
    "perl": {
        "configure": 'perl Makefile.PL INSTALLDIRS=vendor PREFIX="$PREFIX" NO_PACKLIST=1 NO_PERLLOCAL=1 "$@"',
        "build": 'make -j"$JOBS" "$@"',
        "install": 'make DESTDIR="$DESTDIR" install "$@"',
    },
    "go": {
        "build": 'mkdir -p "$BUILDDIR" && GOFLAGS=-mod=vendor CGO_ENABLED=0'
        ' go build -trimpath -buildvcs=false -o "$BUILDDIR/" "$@" .',
        "install": 'mkdir -p "$DESTDIR$PREFIX/bin" && cp "$BUILDDIR"/* "$DESTDIR$PREFIX/bin/" && : "$@"',
    },
    "rust": {
        "build": 'cargo build --release --locked --offline --jobs "$JOBS" --target-dir "$BUILDDIR" "$@"',
        "install": 'cargo install --locked --offline --no-track --target-dir "$BUILDDIR" --path .'
        ' --root "$DESTDIR$PREFIX" "$@"',
    },
}
"""Scripts by build system and phase. No build system runs a test suite unasked: `check` is the definition's own."""
