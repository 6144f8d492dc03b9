"""Boxwright: builds containers from what people already write down, runs them and deploys them."""

__version__ = "0.1.0"
