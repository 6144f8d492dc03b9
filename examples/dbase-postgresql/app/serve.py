#!/usr/bin/python3
"""Serves the guest book: GET lists the guests, POST adds the one named in the body."""

import http.server

import guests


class Book(http.server.BaseHTTPRequestHandler):
    """One request."""

    def do_GET(self) -> None:
        """List the guests."""
        with guests.connect() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT name FROM guest ORDER BY id")
            self.answer("".join(f"{name}\n" for (name,) in cursor))

    def do_POST(self) -> None:
        """Add a guest."""
        name = self.rfile.read(int(self.headers["Content-Length"])).decode()
        with guests.connect() as connection, connection.cursor() as cursor:
            cursor.execute("INSERT INTO guest (name) VALUES (%s)", (name,))
        self.answer(f"{name}\n")

    def answer(self, text: str) -> None:
        """Send a text."""
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.end_headers()
        self.wfile.write(text.encode())


http.server.ThreadingHTTPServer(("", 80), Book).serve_forever()
