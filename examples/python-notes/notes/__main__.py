"""The web server: GET / lists the notes, POST / adds one."""

from __future__ import annotations

import os

import bottle

from notes.store import Notes

notes = Notes()
app = bottle.Bottle()


@app.get("/")
def show() -> str:
    """Every note, a line each."""
    return "".join(f"{text}\n" for text in notes.all())


@app.post("/")
def add() -> str:
    """Add the request's body as a note."""
    try:
        return f"{notes.add(bottle.request.body.read().decode())}\n"
    except ValueError as error:
        raise bottle.HTTPError(400, str(error)) from error


app.run(host="0.0.0.0", port=int(os.environ.get("PORT", "8000")), quiet=True)  # noqa: S104 - it is a container's
