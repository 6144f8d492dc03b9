"""A shop of one page: orders are kept in PostgreSQL, visits are counted in Redis."""

import json
import os
import signal
import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psycopg2
import redis

VERSION = "1"


def database() -> psycopg2.extensions.connection:
    """A connection; the variables are those that a link gives."""
    return psycopg2.connect(
        host=os.environ["DB_HOST"],
        port=os.environ["DB_PORT"],
        dbname=os.environ["DB_NAME"],
        user=os.environ["DB_USER"],
        password=os.environ["DB_PASSWORD"],
        connect_timeout=5,
    )


def cache() -> redis.Redis:
    """Likewise."""
    return redis.Redis(host=os.environ["CACHE_HOST"], port=int(os.environ["CACHE_PORT"]), socket_timeout=5)


class Shop(BaseHTTPRequestHandler):
    """GET / shows the orders, POST / makes one, GET /healthz asks both servers."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """The orders, or whether all is well."""
        if self.path == "/healthz":
            with database() as connection, connection.cursor() as cursor:
                cursor.execute("SELECT 1")
            cache().ping()
            self.answer({"well": True})
            return
        with database() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT what FROM orders ORDER BY number")
            orders = [row[0] for row in cursor.fetchall()]
        visits = cache().incr("visits")
        self.answer({"orders": orders, "visits": visits, "from": socket.gethostname(), "version": VERSION})

    def do_POST(self) -> None:
        """Order what the body names."""
        what = self.rfile.read(int(self.headers["Content-Length"])).decode()
        with database() as connection, connection.cursor() as cursor:
            cursor.execute("INSERT INTO orders (what) VALUES (%s)", (what,))
        self.answer({"ordered": what})

    def answer(self, value: object) -> None:
        """As JSON. Who asks for health alone may not wait for the end."""
        data = (json.dumps(value) + "\n").encode()
        try:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        except ConnectionError:
            self.close_connection = True

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  its name in the library
        """Not of health checks, which are many."""
        if self.path != "/healthz":
            super().log_message(format, *arguments)


def main() -> None:
    """Make the table where it is missing, and serve."""
    with database() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(1)")  # several of us may start at once
        cursor.execute("CREATE TABLE IF NOT EXISTS orders (number serial PRIMARY KEY, what text NOT NULL)")
    server = ThreadingHTTPServer(("", 80), Shop)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server.serve_forever()


if __name__ == "__main__":
    main()
