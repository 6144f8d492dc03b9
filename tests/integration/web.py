"""A web server on a loopback address that does what a test says, and serves git repositories."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Page:
    """What is at a path. `announced` is the Content-Length that is said, where it is another than the body's."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    announced: int | None = None
    wait: threading.Event | None = None
    endless: float | None = None
    """How many seconds lie between further kilobytes, of which there is no end."""


@dataclass
class Request:
    """A request that came, and the status that it got."""

    path: str
    status: int
    headers: dict[str, str]
    body: bytes = b""


@dataclass
class Web:
    """A running server. Pages may be changed at any time; below /git/ are the repositories of a directory."""

    url: str
    pages: dict[str, Page]
    requests: list[Request]
    repositories: Path

    def asked(self, path: str) -> list[int]:
        """The statuses that requests for a path got, in order."""
        return [request.status for request in self.requests if request.path == path]


class _Handler(BaseHTTPRequestHandler):
    web: Web

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the library's name
        pass

    def do_POST(self) -> None:
        self.do_GET()

    def do_PUT(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        if self.path.startswith("/git/"):
            self._git()
            return
        page = self.web.pages.get(self.path, Page(b"nothing", 404))
        etag = page.headers.get("ETag")
        fresh = etag is not None and self.headers.get("If-None-Match") == etag
        modified = page.headers.get("Last-Modified")
        fresh = fresh or (modified is not None and self.headers.get("If-Modified-Since") == modified)
        status = 304 if fresh else page.status
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.web.requests.append(Request(self.path, status, dict(self.headers), body))
        self.send_response(status)
        for name, value in page.headers.items():
            self.send_header(name, value)
        if not fresh and page.endless is None:
            self.send_header("Content-Length", str(len(page.body) if page.announced is None else page.announced))
        self.end_headers()
        if fresh:
            return
        self.wfile.write(page.body)
        if page.endless is not None:
            self._go_on(page.endless)
        if page.wait is not None:
            self.wfile.flush()
            page.wait.wait(30)

    def _go_on(self, seconds: float) -> None:
        """Until the other side has enough."""
        self.close_connection = True
        with suppress(OSError):
            while True:
                self.wfile.write(bytes(1 << 10 if seconds else 1 << 16))
                time.sleep(seconds)

    def _git(self) -> None:
        path, _, query = self.path.partition("?")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        environment = {
            **os.environ,
            "GIT_PROJECT_ROOT": str(self.web.repositories),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path.removeprefix("/git"),
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        answer = subprocess.run(["git", "http-backend"], input=body, env=environment, capture_output=True, check=False)
        head, _, rest = answer.stdout.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
        status = int(fields.pop("Status", "200").split()[0])
        self.web.requests.append(Request(self.path, status, dict(self.headers)))
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest)


@contextmanager
def serving(repositories: Path) -> Iterator[Web]:
    """A server on a port of its own."""
    handler = type("Handler", (_Handler,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        web = Web(f"http://127.0.0.1:{server.server_address[1]}", {}, [], repositories)
        handler.web = web  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield web
        finally:
            server.shutdown()
            thread.join()


def git(directory: Path, *arguments: str) -> str:
    """Run git as somebody, at a fixed time, with nobody's configuration."""
    person = {f"GIT_{who}_{what}": "a@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    times = {"GIT_AUTHOR_DATE": "2001-02-03T04:05:06Z", "GIT_COMMITTER_DATE": "2001-02-03T04:05:06Z"}
    environment = {**os.environ, **person, **times, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
    answer = subprocess.run(
        ["git", "-c", "protocol.file.allow=always", *arguments],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return answer.stdout.strip()


def commit(repository: Path, files: dict[str, str | None], message: str = "one") -> str:
    """Make a repository where there is none, write files (a symbolic link: ``->TARGET``; None removes), commit."""
    if not (repository / ".git").exists():
        repository.mkdir(parents=True, exist_ok=True)
        git(repository, "init", "--quiet", "--initial-branch=main")
        git(repository, "config", "uploadpack.allowAnySHA1InWant", "true")
    for name, text in files.items():
        path = repository / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if text is None:
            path.unlink()
        elif text.startswith("->"):
            path.symlink_to(text[2:])
        else:
            path.write_text(text)
            path.chmod(0o755 if text.startswith("#!") else 0o644)
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--allow-empty", "--message", message)
    return git(repository, "rev-parse", "HEAD")
