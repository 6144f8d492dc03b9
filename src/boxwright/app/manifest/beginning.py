"""`init`: a first manifest for the project in a directory: its language, dependencies and ports."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

MARKS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("python", ("requirements.txt", "pyproject.toml", "setup.py", "Pipfile")),
    ("node", ("package.json",)),
    ("php", ("composer.json", "index.php")),
    ("ruby", ("Gemfile",)),
    ("go", ("go.mod",)),
    ("rust", ("Cargo.toml",)),
    ("java", ("pom.xml", "build.gradle", "build.gradle.kts")),
    ("c", ("configure", "configure.ac", "CMakeLists.txt", "Makefile")),
)
"""Files that say which language it is, the surest first."""

ENDINGS = {
    ".py": "python",
    ".js": "node",
    ".php": "php",
    ".rb": "ruby",
    ".go": "go",
    ".rs": "rust",
    ".java": "java",
    ".c": "c",
}
SOURCES = frozenset(ENDINGS)
LEFT_OUT = frozenset({".git", ".venv", "venv", "node_modules", "vendor", "target", "__pycache__", "dist", "build"})
LARGEST = 1 << 20
MOST_FILES = 2000
FRAMEWORK_PORTS = {"flask": 5000, "django": 8000, "fastapi": 8000, "uvicorn": 8000, "gunicorn": 8000, "express": 3000}
SERVICES = {
    "asyncpg": "postgresql",
    "ext-pgsql": "postgresql",
    "ext-pdo_pgsql": "postgresql",
    "pg": "postgresql",
    "pgx": "postgresql",
    "postgres": "postgresql",
    "postgresql": "postgresql",
    "pq": "postgresql",
    "psycopg": "postgresql",
    "tokio-postgres": "postgresql",
    "ext-mysqli": "mysql",
    "ext-pdo_mysql": "mysql",
    "go-sql-driver-mysql": "mysql",
    "mysql": "mysql",
    "mysql-connector-j": "mysql",
    "mysql2": "mysql",
    "mysqlclient": "mysql",
    "pymysql": "mysql",
    "ext-redis": "redis",
    "go-redis": "redis",
    "ioredis": "redis",
    "jedis": "redis",
    "predis": "redis",
    "redis": "redis",
    "dalli": "memcached",
    "ext-memcached": "memcached",
    "gomemcache": "memcached",
    "pymemcache": "memcached",
}
"""Of what a dependency with this name is a client."""

PROPERTIES = ".properties"
# `listen(8080`, `port = 8080`, `PORT=8080`, `--port 8080`, `HTTPServer(("", 8080)`, `EXPOSE 8080`, `":8080"`,
# `"0.0.0.0:8080"`, `InetSocketAddress(8080)`, `([0, 0, 0, 0], 8080)`, `tcp://0.0.0.0:8080`, `htons(8080)`
_PORT = re.compile(
    r"(?:\blisten\(\s*|\bport\b['\"]?\s*[=:]\s*['\"]?|--port[ =]|Server\(\(['\"][^'\"]*['\"],\s*"
    r"|^EXPOSE\s+|['\"]:|['\"/](?:0\.0\.0\.0|127\.0\.0\.1|localhost):|SocketAddress\(|ServerSocket\("
    r"|\[0, ?0, ?0, ?0\], ?|\bhtons\()(\d{2,5})\b",
    re.IGNORECASE | re.MULTILINE,
)


class Project(NamedTuple):
    """What was found out about a project."""

    language: str
    dependencies: tuple[str, ...]
    ports: tuple[int, ...]
    services: tuple[str, ...]
    command: tuple[str, ...]
    tests: str


def look_at(directory: str) -> Project:
    """Find it out. Nothing of the project is run."""
    files = list(_files(directory))
    language = _language(directory, files)
    dependencies = _dependencies(directory, language)
    names = {_name_of(it) for it in dependencies}
    services = dict.fromkeys(
        service for name in sorted(names) for prefix, service in SERVICES.items() if _is_of(name, prefix)
    )
    usual = [FRAMEWORK_PORTS[name] for name in sorted(names) if name in FRAMEWORK_PORTS]
    ports = _ports(directory, files) or usual[:1]
    command = _command(directory, language, files)
    return Project(language, dependencies, tuple(ports), tuple(services), command, _tests(language, names))


def _name_of(dependency: str) -> str:
    """The last part of a name, without its version: ``psycopg2``, ``pq`` of ``github.com/lib/pq``."""
    path = re.split(r"[\s<>=!~;\[,]", dependency.lower())[0]
    parts = [it for it in re.split(r"[/:]", path) if it and not re.fullmatch(r"v?\d[\d.]*", it)]
    return "-".join(parts[-2:]) if parts[-2:-1] == ["go-sql-driver"] else parts[-1] if parts else ""


def _is_of(name: str, prefix: str) -> bool:
    return name == prefix or (prefix == "psycopg" and name.startswith(prefix))


def manifest_for(project: Project, name: str) -> str:
    """A manifest as text, which says what to look at."""
    lines = [f"# A first manifest for {name}, made by `boxwright init`. `boxwright build` builds it."]
    lines.append(f"language: {project.language}" if project.language != "generic" else "image: debian:bookworm")
    if project.language == "generic":
        lines.append("source: /srv/app")
    if project.dependencies:
        shown = ", ".join(project.dependencies[:8])
        lines.append(f"# found: {shown}{', ...' if len(project.dependencies) > 8 else ''}")
    if project.services:
        lines += ["services:", *(f"  - {service}" for service in project.services)]
    if project.tests:
        lines += ["script:", f"  - {project.tests}"]
    if project.ports:
        lines.append(f"ports: [{', '.join(json.dumps(str(port)) for port in project.ports)}]")
    if project.command:
        lines.append(f"command: {json.dumps(list(project.command))}")
    safe = re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-._") or "project"
    lines.append(f"artifact: {safe}:latest")
    return "\n".join(lines) + "\n"


def _files(directory: str) -> Iterator[str]:
    count = 0
    for parent, directories, names in os.walk(directory):
        directories[:] = sorted(it for it in directories if it not in LEFT_OUT and not it.startswith("."))
        for name in sorted(names):
            count += 1
            if count > MOST_FILES:
                return
            yield os.path.relpath(f"{parent}/{name}", directory)


def _language(directory: str, files: list[str]) -> str:
    for language, marks in MARKS:
        if any(os.path.isfile(os.path.join(directory, mark)) for mark in marks):
            return language
    counts: dict[str, int] = {}
    for path in files:
        language = ENDINGS.get(os.path.splitext(path)[1], "")
        if language:
            counts[language] = counts.get(language, 0) + 1
    return max(counts, key=lambda it: counts[it]) if counts else "generic"


def _read(directory: str, path: str) -> str:
    place = os.path.join(directory, path)
    if not os.path.isfile(place) or os.path.getsize(place) > LARGEST:
        return ""
    with open(place, encoding="utf-8", errors="replace") as text:
        return text.read()


def _dependencies(directory: str, language: str) -> tuple[str, ...]:
    """As the project's own files name them; those that can't be shown in a comment of a template are left out."""
    found = _LISTED[language](directory) if language in _LISTED else ()
    return tuple(dict.fromkeys(it for it in found if it.isprintable() and "{" not in it))


def _of_python(directory: str) -> Iterator[str]:
    lines = [line.partition("#")[0].strip() for line in _read(directory, "requirements.txt").splitlines()]
    yield from (line for line in lines if line and not line.startswith("-"))
    listed = _toml(directory, "pyproject.toml", "project").get("dependencies", [])
    yield from (str(it) for it in (listed if isinstance(listed, list) else ()))
    poetry = _toml(directory, "pyproject.toml", "tool", "poetry", "dependencies")
    yield from (name for name in (*poetry, *_toml(directory, "Pipfile", "packages")) if name != "python")


def _of_gradle_or_maven(directory: str) -> Iterator[str]:
    yield from re.findall(r"<dependency>.*?<artifactId>\s*([\w.-]+)", _read(directory, "pom.xml"), re.DOTALL)
    coordinates = r"""^\s*(?:implementation|api|runtimeOnly|compileOnly)\s*\(?\s*['"][\w.-]+:([\w.-]+)"""
    for name in ("build.gradle", "build.gradle.kts"):
        yield from re.findall(coordinates, _read(directory, name), re.MULTILINE)


_LISTED: Mapping[str, Callable[[str], Iterable[str]]] = {
    "python": _of_python,
    "node": lambda it: _json(it, "package.json", "dependencies"),
    "php": lambda it: (name for name in _json(it, "composer.json", "require") if name != "php"),
    "ruby": lambda it: re.findall(r"^\s*gem ['\"]([^'\"]+)", _read(it, "Gemfile"), re.MULTILINE),
    "go": lambda it: re.findall(r"^\s*(?:require )?(\S+\.\S+/\S+) v", _read(it, "go.mod"), re.MULTILINE),
    "rust": lambda it: _toml(it, "Cargo.toml", "dependencies"),
    "java": _of_gradle_or_maven,
}


def _toml(directory: str, file: str, *sections: str) -> dict[str, object]:
    import tomllib

    try:
        found: object = tomllib.loads(_read(directory, file))
    except (tomllib.TOMLDecodeError, RecursionError):
        return {}
    for name in sections:
        found = found.get(name, {}) if isinstance(found, dict) else {}
    return found if isinstance(found, dict) else {}


def _json(directory: str, file: str, key: str) -> dict[str, object]:
    try:
        data = json.loads(_read(directory, file) or "{}")
    except (ValueError, RecursionError):
        return {}
    below = data.get(key, {}) if isinstance(data, dict) else {}
    return below if isinstance(below, dict) else {}


def _ports(directory: str, files: list[str]) -> list[int]:
    found: dict[int, None] = {}
    for path in files:
        name = os.path.basename(path)
        is_test = path.startswith(("test", "tests/")) or name.startswith("test_")
        known = os.path.splitext(path)[1] in (*SOURCES, PROPERTIES) or name in ("Procfile", "Dockerfile", "Recipe")
        if is_test or not known:
            continue
        for text in _PORT.findall(_read(directory, path)):
            if 80 <= int(text) < 65536:
                found[int(text)] = None
    return list(found)[:4]


def _command(directory: str, language: str, files: list[str]) -> tuple[str, ...]:
    if language == "python":
        for name in ("app.py", "main.py", "server.py", "manage.py", "run.py"):
            if name in files:
                return ("python", name, "runserver", "0.0.0.0:8000") if name == "manage.py" else ("python", name)
    if language == "node":
        if "start" in _json(directory, "package.json", "scripts"):
            return ("npm", "start")
        return next((("node", name) for name in ("server.js", "index.js", "app.js") if name in files), ())
    if language == "php" and "index.php" in files:
        return ("php", "-S", "0.0.0.0:8080", "-t", "/srv/app")
    if language == "ruby" and "config.ru" in files:
        return ("bundle", "exec", "rackup", "--host", "0.0.0.0")  # noqa: S104 - inside the container
    return ()


def _tests(language: str, names: set[str]) -> str:
    """A test command that is better than the language's default."""
    return "pytest" if language == "python" and "pytest" in names else ""


def describe(project: Project) -> str:
    """In words."""
    ports = ", ".join(map(str, project.ports)) or "none"
    services = ", ".join(project.services) or "none"
    return f"{project.language}; dependencies: {len(project.dependencies)}; ports: {ports}; services: {services}"
