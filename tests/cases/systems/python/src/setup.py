"""The part of the project that pyproject.toml can't say."""

from setuptools import Extension, setup

setup(ext_modules=[Extension("greet._speed", ["src/greet/_speed.c"])])
