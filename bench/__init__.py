"""Boxwright side by side with other builders, on this machine, in one run. Never a test: numbers vary, tests don't."""
