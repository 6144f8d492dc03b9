"""What of a stack runs otherwise than its last release says."""

from __future__ import annotations

import argparse
import os

from boxwright.cli.console import say
from boxwright.cli.stackoptions import meant, opened


def drift(options: argparse.Namespace) -> int:
    """Print the plan that would mend it; the exit status is 1 where there is one."""
    from boxwright.app.opening import open_store
    from boxwright.app.stacks.deployment import last_release
    from boxwright.cli.deploy import show_plan
    from boxwright.deploy.planning import make_plan

    found = meant(options.before, options)
    with open_store(os.environ) as store, opened(found, store) as engine:
        release = last_release(engine, found.name)
        plan = make_plan(release.desired, engine.observe(found.name))
    if not plan.work and not options.json:
        say(f"{found.name}: as release {release.number}")
    else:
        show_plan(plan, as_json=options.json)
    return 1 if plan.work else 0
