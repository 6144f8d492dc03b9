"""What ADD fetches: files and git repositories, served on loopback."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Mapping
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.conformance.cases import write_tree

_GIT = {
    "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@example.org", "GIT_AUTHOR_DATE": "2024-01-01T00:00:00Z",
    "GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@example.org", "GIT_COMMITTER_DATE": "2024-01-01T00:00:00Z",
    "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null",
}  # fmt: skip


class _Handler(SimpleHTTPRequestHandler):
    """Files; below ``NAME.git`` what git's own program answers (git-http-backend)."""

    def do_GET(self) -> None:
        if ".git/" in self.path:
            self._git(b"")
        else:
            super().do_GET()

    def do_POST(self) -> None:
        self._git(self.rfile.read(int(self.headers.get("Content-Length", "0"))))

    def _git(self, body: bytes) -> None:
        url = urlsplit(self.path)
        environment = {
            **os.environ,
            "GIT_PROJECT_ROOT": self.directory,
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": url.path,
            "QUERY_STRING": url.query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        asked = subprocess.run(["git", "http-backend"], input=body, env=environment, capture_output=True, check=True)
        head, _, content = asked.stdout.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().splitlines())
        self.send_response(int(fields.pop("Status", "200").split()[0]))
        for name, value in fields.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name that the base class gives it
        """Nothing."""


class Server:
    """Serves one directory, with a directory for each case."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=str(directory)))
        self._thread = threading.Thread(target=self._http.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def offer(self, name: str, files: Mapping[str, Any], repositories: Mapping[str, Any]) -> str:
        """Serve the files and repositories of one case; returns their URL."""
        place = self._directory / name
        write_tree(place, files)
        for repository, commits in repositories.items():
            _repository(place / f"{repository}.git", place / f"{repository}-work", commits)
        host, port = self._http.server_address[:2]
        return f"http://{host!s}:{port}/{name}"


def _repository(bare: Path, work: Path, commits: list[Mapping[str, Any]]) -> None:
    """A repository whose commits are fixed to the last digit: `files`, and perhaps `tag` or `branch`."""
    environment = {**os.environ, **_GIT}

    def git(*words: str | Path, cwd: Path = work) -> None:
        subprocess.run(["git", *words], cwd=cwd, env=environment, check=True, capture_output=True)

    work.mkdir(parents=True)
    git("init", "-q", "-b", "main")
    for number, commit in enumerate(commits):
        if "branch" in commit:
            git("checkout", "-q", "-B", commit["branch"])
        write_tree(work, commit["files"])
        git("add", "-A")
        git("commit", "-q", "-m", f"commit {number}")
        if "tag" in commit:
            git("tag", commit["tag"])
    git("checkout", "-q", "main")
    git("clone", "-q", "--bare", work, bare, cwd=work.parent)
    git("config", "uploadpack.allowAnySHA1InWant", "true", cwd=bare)
