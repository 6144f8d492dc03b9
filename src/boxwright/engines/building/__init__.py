"""Engines that build: containers in which steps are done, one small Protocol (`ports.BuildEngine`) for all."""
