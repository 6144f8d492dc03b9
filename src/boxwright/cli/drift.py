"""What of a stack runs otherwise than its last release says."""

from __future__ import annotations

import argparse
import os

from boxwright.cli.console import say
from boxwright.cli.stackoptions import meant, opened


def drift(options: argparse.Namespace) -> int:
    """Print the plan that would mend it; the exit status is 1 where there is one."""
    from boxwright.app.opening import open_store
    from boxwright.cli.deploy import show_plan
    from boxwright.deploy.history import read_releases
    from boxwright.deploy.planning import make_plan
    from boxwright.errors import BoxwrightError

    found = meant(options.before, options)
    with open_store(os.environ) as store, opened(found, store) as engine:
        releases = read_releases(engine, found.name)
        if not releases:
            raise BoxwrightError("deploy.no-release", f"{found.name} was never deployed on {engine.name}")
        plan = make_plan(releases[-1].desired, engine.observe(found.name))
    if not plan.work and not options.json:
        say(f"{found.name}: as release {releases[-1].number}")
    else:
        show_plan(plan, as_json=options.json)
    return 1 if plan.work else 0
