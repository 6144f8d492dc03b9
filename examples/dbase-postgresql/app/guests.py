"""The database, as the environment names it: the same while the image is built and when it runs."""

import os

import psycopg2
import psycopg2.extensions


def connect() -> psycopg2.extensions.connection:
    """A connection to the database."""
    names = {"host": "HOST", "port": "PORT", "dbname": "NAME", "user": "USER", "password": "PASSWORD"}
    return psycopg2.connect(**{key: os.environ[f"DB_{name}"] for key, name in names.items()})
