"""Visit a shop: python -m tests.visit URL NUMBER."""

import sys
import urllib.request

page = urllib.request.urlopen(sys.argv[1], timeout=10).read().decode()  # noqa: S310 - the test's own address
sys.exit(page.strip() != f"visitor {sys.argv[2]}")
