#!/bin/sh
# Compile the public .proto files of the Remote Execution API to the descriptor set that the program loads.
#
#   scripts/protos.sh [FILE]     FILE: where to write it (default: beside the .proto files)
set -eu
root=$(cd "$(dirname "$0")/.." && pwd -P)
protos="$root/src/boxwright/repositories/reapi/protos"
cd "$protos"
find . -name '*.proto' | LC_ALL=C sort | sed 's,^\./,,' |
    xargs "$root/.venv/bin/python" -m grpc_tools.protoc -I. --include_imports --descriptor_set_out="${1:-$protos/reapi.binpb}"
