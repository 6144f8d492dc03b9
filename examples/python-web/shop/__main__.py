"""Serve the shop."""

import os

from shop.web import application

application().run(host="0.0.0.0", port=int(os.environ["PORT"]), quiet=True)  # noqa: S104 - inside the container
