"""From a definition's file to everything that its build is: base, version, architecture, flags, sources, phases."""

from __future__ import annotations

import re

from boxwright.frontends.package.convert import convert, key_place, place_of
from boxwright.frontends.package.document import Mapping, Scalar
from boxwright.frontends.package.flags import Additions, apply_flags, phase_arguments
from boxwright.frontends.package.merge import alone, merge
from boxwright.frontends.package.problem import nearest, wrong
from boxwright.frontends.package.schema import PHASES, Changes, Definition, Owner, Test, Toolchain
from boxwright.frontends.package.sources import resolve_files, resolve_patches, resolve_sources
from boxwright.frontends.package.systems import DEFAULTS
from boxwright.frontends.package.wanted import Found, PackageFiles, Requirement, Resolved
from boxwright.model.debianname import is_package
from boxwright.model.span import Span
from boxwright.model.step import BuildPackage, PackageOwner, PackageUser, TestPackage

CONSTANT_EPOCH = 315532800
"""1980-01-01: the time of packages that don't say another."""

TRIPLETS = {
    "amd64": "x86_64-linux-gnu",
    "arm64": "aarch64-linux-gnu",
    "386": "i386-linux-gnu",
    "arm": "arm-linux-gnueabihf",
    "riscv64": "riscv64-linux-gnu",
    "ppc64le": "powerpc64le-linux-gnu",
    "s390x": "s390x-linux-gnu",
}

DEFAULT_PACKAGES = (
    "autoconf", "automake", "bison", "build-essential", "bzip2", "cmake", "file", "flex", "gettext", "libtool", "m4",
    "meson", "ninja-build", "patch", "perl", "pkgconf", "python3", "python3-pip", "python3-setuptools",
    "python3-wheel", "unzip", "xz-utils", "zstd",
)  # fmt: skip
"""What the toolchain holds beside the base, where the definition doesn't say: what the build systems need."""

PARTS: dict[str, tuple[str, ...]] = {
    "dbg": ("usr/lib/debug/**",),
    "dev": (
        "usr/include/**", "usr/lib/**/*.a", "usr/lib/**/*.so@", "usr/lib/**/pkgconfig/**", "usr/lib/**/cmake/**",
        "usr/share/pkgconfig/**", "usr/share/cmake/**", "usr/share/aclocal/**", "usr/share/man/man3/**",
        "usr/bin/*-config",
    ),
    "doc": ("usr/share/doc/**", "usr/share/man/**", "usr/share/info/**", "usr/share/gtk-doc/**"),
}  # fmt: skip
"""Parts that every package has. ``@`` at the end of a glob: symbolic links alone."""

MOST_BASES = 16


def resolve(found: Found, platform: str, files: PackageFiles) -> Resolved:
    """Decide everything about the package in `found`. Raises DefinitionError with the place."""
    document, category = _with_bases(found, files)
    whole = convert(document, Definition)
    architecture = platform.split("/")[1]
    version = _version(whole, document, found)
    document = _narrowed(document, "versions", version, required=False)
    document = _narrowed(document, "architectures", architecture, required=True)
    definition = convert(document, Definition)
    if not definition.name:
        raise wrong("missing-key", "the key 'name' is missing", document.place.span)
    additions = apply_flags(definition, document)
    step = _step(definition, version, additions, document, files)
    step = step._replace(platform=platform, category=category)
    step = _with_environment(step, definition, additions, architecture)
    test, test_needs = _test(definition, document, found, files)
    return Resolved(
        found.path,
        step,
        _requirements(definition, additions, document, found, files),
        _toolchain(definition, document, platform, files),
        test,
        test_needs,
        _watch(definition, document),
    )


def _watch(definition: Changes, document: Mapping) -> tuple[str, str, str]:
    """Raises `package.value` where it is not one place and a pattern with one group."""
    watch = definition.watch
    if watch is None:
        return ("", "", "")
    where = place_of(document, "watch").span
    if bool(watch.url) == bool(watch.git):
        raise wrong("value", "`watch` has one of url and git", where)
    try:
        groups = re.compile(watch.pattern.replace("{version}", "()")).groups
    except re.error as error:
        raise wrong("value", f"{watch.pattern!r} is no regular expression: {error}", where) from error
    if groups != 1:
        raise wrong("value", f"{watch.pattern!r} needs one group, or {{version}}", where)
    return (watch.url, watch.git, watch.pattern)


def _with_bases(found: Found, files: PackageFiles) -> tuple[Mapping, str]:
    """The document with what it is based on below it, each checked on its own so that errors name the right file."""
    chain: list[Mapping] = []
    seen: list[str] = []
    category = ""
    here = found
    while True:
        document = files.document(here.path)
        own = convert(document, Definition)
        if here.version and here is not found:
            document = _chosen(document, here.version)
        chain.append(document)
        seen.append(here.path)
        category = category or files.category(here.path)
        if not own.base:
            break
        where = place_of(document, "base").span
        here = files.find(own.base, here.path, where)
        if here.path in seen or len(seen) > MOST_BASES:
            raise wrong("cycle", f"a definition is based on itself: {' <- '.join([*seen, here.path])}", where)
    merged = alone(chain.pop())
    while chain:
        merged = merge(merged, chain.pop())
    return merged, category


def _chosen(document: Mapping, version: str) -> Mapping:
    """A base's document with the version that was asked for."""
    scalar = Scalar(version, document.place)
    return Mapping({**document.items, "version": scalar}, document.place, {"version": document.place, **document.keys})


def _version(definition: Definition, document: Mapping, found: Found) -> str:
    known = list(dict.fromkeys(([definition.version] if definition.version else []) + list(definition.versions)))
    if not known:
        raise wrong("missing-key", "the key 'version' is missing", document.place.span)
    wanted = found.version or definition.version or known[0]
    if definition.versions and wanted not in definition.versions and wanted not in files_version(definition):
        where = place_of(document, "version").span if definition.version == wanted else document.place.span
        raise wrong("unknown-version", f"there is no version {wanted} here", where, hint=nearest(wanted, known))
    if not definition.versions and wanted != definition.version:
        hint = f"it is {definition.version}"
        raise wrong("unknown-version", f"there is no version {wanted} here", document.place.span, hint=hint)
    return wanted


def files_version(definition: Definition) -> tuple[str, ...]:
    """The version that the definition itself is, where its other versions are beside it."""
    return (definition.version,) if definition.version and definition.sources else ()


def _narrowed(document: Mapping, key: str, name: str, *, required: bool) -> Mapping:
    """The document as its part for one version or architecture changes it."""
    choices = document.items.get(key)
    if not isinstance(choices, Mapping) or not choices.items:
        return document
    if name not in choices.items:
        if required:
            where = key_place(document, key).span
            raise wrong("architecture", f"this package is not for {name}: {', '.join(choices.items)}", where)
        return document
    chosen = choices.items[name]
    return merge(document, chosen) if isinstance(chosen, Mapping) else document


def _step(
    definition: Definition, version: str, additions: Additions, document: Mapping, files: PackageFiles
) -> BuildPackage:
    given = files.epoch()
    sources = (
        *resolve_sources(definition.sources, version, document, files),
        *resolve_patches({**definition.patches, **additions.patches}, document, files),
        *resolve_files({**definition.files, **additions.files}, document, files),
    )
    users = tuple(
        PackageUser(name, user.uid, user.gid or user.uid, user.group or name, user.home, user.shell)
        for name, user in sorted(definition.users.items())
    )
    parts = {**{name: globs for name, globs in definition.split.items() if name not in PARTS}}
    parts.update({name: definition.split.get(name, globs) for name, globs in PARTS.items()})
    return BuildPackage(
        definition.name,
        version,
        "",
        sources=sources,
        options=additions.options,
        phases=_phases(definition, additions, document),
        parts=tuple((name, globs) for name, globs in parts.items()),
        owners=tuple(_owner(path, owner, users, document) for path, owner in definition.owners.items()),
        users=users,
        replaces=definition.replaces,
        strip=definition.strip,
        jobs=definition.jobs,
        epoch=given if given is not None else CONSTANT_EPOCH if definition.time is None else definition.time,
        summary=definition.summary,
        license=definition.license,
        author=definition.author,
        homepage=definition.homepage,
    )


def _phases(
    definition: Changes, additions: Additions, document: Mapping
) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    own = phase_arguments(definition.arguments)
    phases: list[tuple[str, str, tuple[str, ...]]] = []
    for phase in PHASES:
        main = getattr(definition.phases, phase)
        script = DEFAULTS[definition.build_system].get(phase, "") if main is None else main
        words = own.get(phase, ()) + additions.arguments.get(phase, ())
        if words and not script.strip():
            where = place_of(document, "arguments" if phase in own else "use").span
            hint = f"name a phase: arguments: {{build: [...]}}; build-system: {definition.build_system}"
            raise wrong("arguments", f"the phase {phase} does nothing here, and has arguments", where, hint=hint)
        for name, text, arguments in (
            (f"before-{phase}", getattr(definition.phases, f"before_{phase}"), ()),
            (phase, script, words),
            (f"after-{phase}", getattr(definition.phases, f"after_{phase}"), ()),
        ):
            if text.strip():
                phases.append((name, text, arguments))
    return tuple(phases)


def _owner(path: str, owner: Owner, users: tuple[PackageUser, ...], document: Mapping) -> PackageOwner:
    where = key_place(document, "owners", path).span
    names = {user.name: user.uid for user in users} | {"root": 0}
    groups = {user.group: user.gid for user in users} | {"root": 0}
    own_group = {user.name: user.gid for user in users} | {"root": 0}
    mode = int(owner.mode, 8) if owner.mode else None
    uid = _number(owner.user, names, "user", where)
    gid = _number(owner.group, groups, "group", where) if owner.group else own_group.get(owner.user, uid)
    return PackageOwner(path.lstrip("/"), uid, gid, mode)


def _number(text: str, known: dict[str, int], what: str, where: Span) -> int:
    if text.isdecimal():
        return int(text)
    if text not in known:
        hint = nearest(text, known) + "; others are declared under `users`"
        raise wrong("unknown-user", f"there is no {what} {text!r}", where, hint=hint)
    return known[text]


def _with_environment(step: BuildPackage, definition: Changes, additions: Additions, architecture: str) -> BuildPackage:
    triplet = TRIPLETS.get(architecture, f"{architecture}-linux-gnu")
    environment = {
        "NAME": step.name,
        "VERSION": step.version,
        "ARCH": architecture,
        "TRIPLET": triplet,
        "PREFIX": definition.prefix,
        "LIBDIR": f"{definition.prefix}/lib/{triplet}" if definition.prefix == "/usr" else f"{definition.prefix}/lib",
        "CFLAGS": "-O2 -g",
        "CXXFLAGS": "-O2 -g",
        **definition.environment,
        **additions.environment,
    }
    return step._replace(environment=tuple(sorted(environment.items())))


def _requirements(
    definition: Changes, additions: Additions, document: Mapping, found: Found, files: PackageFiles
) -> tuple[Requirement, ...]:
    listed = [(text, "build-depends") for text in definition.build_depends + additions.build_depends]
    listed += [(text, "depends") for text in definition.depends + additions.depends]
    requirements: dict[tuple[str, str, str], Requirement] = {}
    numbers = {"build-depends": 0, "depends": 0}
    for text, key in listed:
        where = place_of(document, key, numbers[key]).span
        numbers[key] += 1
        needed = _requirement(text, found, files, where, runtime=key == "depends")
        before = requirements.get(needed[:3])
        requirements[needed[:3]] = needed._replace(runtime=needed.runtime or (before is not None and before.runtime))
    return tuple(requirements.values())


def _requirement(text: str, found: Found, files: PackageFiles, where: Span, *, runtime: bool) -> Requirement:
    if text.startswith("debian/"):
        name, equals, version = text.removeprefix("debian/").partition("=")
        if not equals or not version or not is_package(name, version):
            hint = "such as debian/libssl3=3.0.17-1~deb12u2"
            raise wrong("dependency", f"{text!r} names no exact version of a distribution's package", where, hint=hint)
        exact = f"{name}={version}"
        content = files.debian_package(exact, where)
        return Requirement("", "", exact, runtime, where.line, where.column, content)
    other = files.find(text, found.path, where)
    return Requirement(other.path, other.version, "", runtime, where.line, where.column)


def _toolchain(definition: Changes, document: Mapping, platform: str, files: PackageFiles) -> tuple[str, str]:
    given = definition.toolchain
    toolchain = Toolchain(base=given) if isinstance(given, str) else given
    is_system = toolchain.base.split(":")[0] in ("debian", "ubuntu")
    packages = toolchain.packages
    if packages is None:
        packages = DEFAULT_PACKAGES if is_system else ()
    where = place_of(document, "toolchain").span
    if packages and not is_system:
        raise wrong("toolchain", f"packages can be added to debian: and ubuntu: bases, not to {toolchain.base}", where)
    return files.toolchain(toolchain.base, tuple(sorted(set(packages))), platform, where)


def _test(
    definition: Definition, document: Mapping, found: Found, files: PackageFiles
) -> tuple[TestPackage | None, tuple[Requirement, ...]]:
    given = definition.test if isinstance(definition.test, Test) else Test(commands=definition.test)
    if not given.commands:
        return None, ()
    commands = tuple(
        ("/bin/sh", "-euc", command) if isinstance(command, str) else command for command in given.commands
    )
    where = place_of(document, "test").span
    needs = tuple(_requirement(text, found, files, where, runtime=True) for text in given.depends)
    return TestPackage(definition.name, commands, tuple(sorted(given.environment.items()))), needs
