"""The one place that picks implementations and puts the rooms together."""
