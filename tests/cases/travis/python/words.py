"""Counts words."""

from collections import Counter

import bottle


def counted(text: str) -> list[tuple[str, int]]:
    return Counter(bottle.tob(text).decode().split()).most_common()
