"""Engines that stacks are deployed on."""
