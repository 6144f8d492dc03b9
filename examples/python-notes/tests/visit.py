"""Leave a note at an address and read it again."""

import sys
import urllib.request

address = sys.argv[1]
with urllib.request.urlopen(address, b"hello") as answer:  # noqa: S310 - a test's own address
    assert answer.read() == b"1\n"
with urllib.request.urlopen(address) as answer:  # noqa: S310
    assert answer.read() == b"hello\n"
