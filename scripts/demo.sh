#!/bin/bash
# Build examples/hello, run it, fetch its page, and say what was built.
#
#   scripts/demo.sh [PORT]    the port of this machine where the page is served (8080)
set -euo pipefail
cd "$(dirname "$0")/.."

port="${1:-8080}"
image="hello"
name="hello-demo"
page=$(mktemp)

clean_up() {
    rm -f "$page"
    ./boxwright stop "$name" >/dev/null 2>&1 || true
    ./boxwright rm "$name" >/dev/null 2>&1 || true
}
trap clean_up EXIT

fetch() {
    .venv/bin/python -I - "$1" <<'END'
import sys
import time
import urllib.request

deadline = time.monotonic() + 15
while True:
    try:
        with urllib.request.urlopen(sys.argv[1], timeout=5) as answer:
            sys.stdout.write(answer.read().decode())
            break
    except OSError as error:
        if time.monotonic() > deadline:
            sys.exit(f"no answer from {sys.argv[1]}: {error}")
        time.sleep(0.1)
END
}

# Before the build: nobody should wait for it to hear this.
port_is_free() {
    .venv/bin/python -I - "$1" <<'END'
import socket
import sys

try:
    port = int(sys.argv[1])
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("", port))
        probe.listen(1)
except (ValueError, OverflowError):
    sys.exit(f"demo: {sys.argv[1]!r} is no port")
except OSError as error:
    sys.exit(f"demo: port {port} of this machine can't be used: {error.strerror}; try: make demo demo_port={port % 50000 + 1000}")
END
}

milliseconds() { echo $(($(date +%s%N) / 1000000)); }

# One left over from a run that was killed.
./boxwright rm -f "$name" >/dev/null 2>&1 || true
port_is_free "$port"

started=$(milliseconds)
./boxwright build examples/hello -t "$image"
built=$(($(milliseconds) - started))

./boxwright run -d --name "$name" -p "$port:80" "$image" >/dev/null
if ! fetch "http://127.0.0.1:$port/" >"$page"; then
    echo "demo: the container's log:" >&2
    ./boxwright logs "$name" >&2 || true
    exit 1
fi

printf '\nThe page at port %s:\n\n' "$port"
sed 's/^/    /' "$page"
printf '\n'
./boxwright inspect "$image" | .venv/bin/python -I -c '
import json
import sys

image = json.load(sys.stdin)
image = image[0] if isinstance(image, list) else image
rows = {
    "image": sys.argv[1],
    "digest": image.get("identity", "?"),
    "size": "{:.1f} MB".format(image["size"] / 1e6) if "size" in image else "?",
    "built in": "{:.2f} s".format(int(sys.argv[2]) / 1000),
}
for label, text in rows.items():
    print(f"{label:9} {text}")
' "$image" "$built"
