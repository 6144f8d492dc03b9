"""The pages of the shop."""

import os

import bottle


def visitors() -> int:
    """One visitor more, where there is a Redis to count them."""
    if "CACHE_HOST" not in os.environ:
        return 0
    import redis

    server = redis.Redis(os.environ["CACHE_HOST"], int(os.environ["CACHE_PORT"]))
    return int(server.incr("visitors"))


def application() -> bottle.Bottle:
    """The application."""
    app = bottle.Bottle()
    app.route("/healthz", callback=lambda: "well\n")
    app.route("/", callback=lambda: f"visitor {visitors()}\n")
    return app
