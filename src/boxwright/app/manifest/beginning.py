"""`init`: a first manifest for the project in a directory: its language, dependencies and ports."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from typing import NamedTuple

MARKS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("python", ("requirements.txt", "pyproject.toml", "setup.py", "Pipfile")),
    ("node", ("package.json",)),
    ("php", ("composer.json", "index.php")),
    ("ruby", ("Gemfile",)),
    ("go", ("go.mod",)),
    ("rust", ("Cargo.toml",)),
    ("java", ("pom.xml", "build.gradle")),
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
    "psycopg": "postgresql",
    "pg": "postgresql",
    "pymysql": "mysql",
    "mysqlclient": "mysql",
    "mysql2": "mysql",
    "redis": "redis",
    "ioredis": "redis",
    "pymemcache": "memcached",
}
# `listen(8080`, `port = 8080`, `PORT=8080`, `--port 8080`, `HTTPServer(("", 8080)`, `EXPOSE 8080`, `":8080"`
_PORT = re.compile(
    r"(?:\blisten\(\s*|\bport\b['\"]?\s*[=:]\s*['\"]?|--port[ =]|Server\(\(['\"][^'\"]*['\"],\s*"
    r"|^EXPOSE\s+|['\"]:)(\d{2,5})\b",
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
    names = {re.split(r"[^a-z0-9_-]", it.lower())[0] for it in dependencies}
    services = dict.fromkeys(
        service for name in sorted(names) for prefix, service in SERVICES.items() if _is_of(name, prefix)
    )
    usual = [FRAMEWORK_PORTS[name] for name in sorted(names) if name in FRAMEWORK_PORTS]
    ports = _ports(directory, files) or usual[:1]
    command = _command(directory, language, files)
    return Project(language, dependencies, tuple(ports), tuple(services), command, _tests(language, names))


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
    if language == "python":
        import tomllib

        lines = [line.partition("#")[0].strip() for line in _read(directory, "requirements.txt").splitlines()]
        found = [line for line in lines if line and not line.startswith("-")]
        try:
            project = tomllib.loads(_read(directory, "pyproject.toml")).get("project", {})
        except tomllib.TOMLDecodeError:
            project = {}
        listed = project.get("dependencies", []) if isinstance(project, dict) else []
        return tuple(dict.fromkeys((*found, *(str(it) for it in listed))))
    if language in ("node", "php"):
        file, key = ("package.json", "dependencies") if language == "node" else ("composer.json", "require")
        return tuple(_json(directory, file, key))
    if language == "ruby":
        return tuple(re.findall(r"^\s*gem ['\"]([^'\"]+)", _read(directory, "Gemfile"), re.MULTILINE))
    if language == "go":
        return tuple(re.findall(r"^\s*(?:require )?(\S+\.\S+/\S+) v", _read(directory, "go.mod"), re.MULTILINE))
    return ()


def _json(directory: str, file: str, key: str) -> dict[str, object]:
    try:
        data = json.loads(_read(directory, file) or "{}")
    except ValueError:
        return {}
    below = data.get(key, {}) if isinstance(data, dict) else {}
    return below if isinstance(below, dict) else {}


def _ports(directory: str, files: list[str]) -> list[int]:
    found: dict[int, None] = {}
    for path in files:
        name = os.path.basename(path)
        is_test = path.startswith(("test", "tests/")) or name.startswith("test_")
        if is_test or not (os.path.splitext(path)[1] in SOURCES or name in ("Procfile", "Dockerfile", "Recipe")):
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
