"""Base images whose stacks are large: Node and Java, built and run (`make long`)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.bundles import running
from tests.integration.conftest import Base, until

pytestmark = [pytest.mark.integration, pytest.mark.long]

SERVER = """require('http').createServer((request, answer) => answer.end('node ' + process.env.GREETING + '\\n'))
  .listen(process.env.PORT)
"""
JAVA = """import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;

public class App {
    public static void main(String[] words) throws Exception {
        HttpServer server = HttpServer.create(new InetSocketAddress(Integer.parseInt(System.getenv("PORT"))), 0);
        server.createContext("/", exchange -> {
            byte[] answer = ("java " + System.getProperty("greeting") + "\\n").getBytes();
            exchange.sendResponseHeaders(200, answer.length);
            exchange.getResponseBody().write(answer);
            exchange.close();
        });
        server.start();
    }
}
"""
STEPS = """build:
  image: jdk
  run:
    - javac -d classes App.java
    - jar --create --file app.jar --main-class App -C classes . && rm -r classes App.java
"""


def test_node(base: Base, tmp_path: Path) -> None:
    """The main file, the start script with the modules' programs on its path, and server.js."""
    program = base("node")
    app, dist = tmp_path / "shop", tmp_path / "dist"
    (app / "node_modules/.bin").mkdir(parents=True)
    (app / "node_modules/.bin/serve").write_text("#!/bin/sh\nGREETING=script exec node main.js\n")
    (app / "node_modules/.bin/serve").chmod(0o755)
    (app / "main.js").write_text(SERVER)
    (app / "package.json").write_text('{"name": "shop", "main": "main.js"}')
    program("bundle", app, "-o", dist)
    env = {"PACKAGE_ZIP_URL": "file:///dist/latest", "GREETING": "main"}
    with running(program, "base/node", "-v", f"{dist}:/dist:ro", **env) as box:
        until(lambda: box.answers("node main"), 20)
        until(box.is_healthy)
        (app / "package.json").write_text('{"name": "shop", "main": "main.js", "scripts": {"start": "serve"}}')
        program("bundle", app, "-o", dist)
        box.look_again()
        until(lambda: box.answers("node script"), 20)
        (app / "package.json").unlink()
        (app / "main.js").rename(app / "server.js")
        program("bundle", app, "-o", dist)
        box.look_again()
        until(lambda: box.answers("node main"), 20)


def test_java(base: Base, tmp_path: Path) -> None:
    """A .jar that the bundle's own build steps make in a container that has a compiler."""
    program = base("java")
    app, dist, recipe = tmp_path / "shop", tmp_path / "dist", tmp_path / "jdk"
    for directory in (app, recipe):
        directory.mkdir()
    packages = "apt-get update -q && apt-get install -qy --no-install-recommends default-jdk-headless"
    (recipe / "Recipe").write_text(f"FROM debian:bookworm\nRUN {packages}\n")
    program("build", recipe, "-q", "-t", "jdk", timeout=600)
    (app / "App.java").write_text(JAVA)
    (app / "bundle.yaml").write_text(STEPS)
    program("bundle", app, "-o", dist, timeout=300)
    env = {"PACKAGE_ZIP_URL": "file:///dist/latest", "JAVA_OPTS": "-Dgreeting=options -Xmx64m"}
    with running(program, "base/java", "-v", f"{dist}:/dist:ro", **env) as box:
        until(lambda: box.answers("java options"), 30)
        until(box.is_healthy)
