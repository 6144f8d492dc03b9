#!/bin/sh
# Install what Boxwright needs: Debian packages, and a virtual environment in .venv.
#
#   scripts/setup.sh [run|dev]     run: what the program needs; dev: also what its checks and tests need (default)
#
# Idempotent, and done in a few hundredths of a second when there is nothing to do. It asks for sudo only when a Debian
# package is missing and it does not run as root.
set -eu

kind="${1:-dev}"
case "$kind" in run | dev) ;; *)
    echo "setup: unknown kind '$kind'; say 'run' or 'dev'" >&2
    exit 2
    ;;
esac
root=$(cd "$(dirname "$0")/.." && pwd -P)
venv="$root/.venv"

say() { printf 'setup: %s\n' "$*"; }
fail() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}

# Package names, each with what it is for.
packages() {
    [ "$kind" = run ] || cat <<'END'
attr                              tests: extended attributes
busybox-static                    tests: a root file system of one program
curl                              tests: to fetch pages
gpg                               tests: archives signed by keys of their own
gpg-agent                         tests: likewise
haproxy                           tests: TLS and tokens before a server that has neither
libcap2-bin                       tests: file capabilities
openssh-client                    tests: repositories and keys over SSH
openssh-server                    tests: likewise
procps                            tests: to look for processes that are left
umoci                             tests: an independent judge of OCI images
END
    cat <<'END'
bubblewrap                        the sandbox of package builds
ca-certificates                   to fetch over HTTPS
debian-archive-keyring            to check the signatures of Debian's archive
dpkg-dev                          source packages of the distribution
git                               the time of a build is that of the context's last commit
golang-github-containers-common   the seccomp profile that container builders share
libseccomp2                       to turn that profile into a kernel filter
mmdebstrap                        to make base systems
nftables                          rules of stacks' networks
openssl                           to check the signatures of Alpine's archive
passt                             network for steps, without privileges (pasta)
python3                           the interpreter
python3-venv                      the virtual environment
skopeo                            to talk to image registries
slirp4netns                       network for steps where pasta can't be used
squashfs-tools                    images as squashfs
uidmap                            user namespaces with ranges of ids
xz-utils                          archives for LXC
zstd                              archives
END
}

missing_packages() {
    have=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' 2>/dev/null | sed -n 's/^installed //p')
    packages | while read -r name why; do
        printf '%s\n' "$have" | grep -qxF "$name" || printf '%s\t%s\n' "$name" "$why"
    done
}

install_packages() {
    command -v dpkg-query >/dev/null || fail "this is not Debian: install the programs that docs/dependencies.md lists, by hand"
    missing=$(missing_packages)
    [ -n "$missing" ] || return 0
    say "these Debian packages are missing and will be installed:"
    printf '%s\n' "$missing" | while IFS='	' read -r name why; do printf '  %-33s %s\n' "$name" "$why"; done
    as_root=""
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || fail "not root, and there is no sudo: install the packages above as root, then run this again"
        say "asking sudo for apt-get"
        as_root="sudo"
    fi
    names=$(printf '%s\n' "$missing" | cut -f 1)
    $as_root apt-get update -q -q || say "warning: apt-get update failed; trying with the package lists at hand"
    # shellcheck disable=SC2086  # one argument for each name
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -q -y --no-install-recommends $names >/dev/null ||
        fail "apt-get install failed (its messages are above); mend that and run this again"
}

# The distribution's Python where it is new enough: it is the one that the Debian packages above are made for.
find_python() {
    for candidate in /usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11; do
        path=$(command -v "$candidate" 2>/dev/null) || continue
        "$path" -I -c 'import sys, venv, ensurepip; raise SystemExit(sys.version_info < (3, 11))' 2>/dev/null || continue
        printf '%s\n' "$path"
        return 0
    done
    return 1
}

install_python_packages() {
    stamp="$venv/.boxwright-$kind"
    want=$(sha256sum "$root/pyproject.toml" "$root/scripts/setup.sh" | sha256sum | cut -d ' ' -f 1)
    if [ -x "$venv/bin/python" ]; then
        # The stamp also tells when the checkout moved: a virtual environment holds absolute paths.
        [ "$(cat "$stamp" 2>/dev/null)" = "$want $root" ] && return 0
    fi
    if ! "$venv/bin/python" -I -c 'import pip' 2>/dev/null || ! grep -qsxF "$root" "$venv/.boxwright-root"; then
        python=$(find_python) || fail "no Python 3.11 or newer with venv found; on Debian 12 or 13 install python3 and python3-venv"
        say "making .venv with $("$python" -V)"
        rm -rf "$venv"
        "$python" -m venv "$venv"
        printf '%s\n' "$root" >"$venv/.boxwright-root"
    fi
    say "installing Python packages ($kind)"
    "$venv/bin/python" -I - "$root/pyproject.toml" "$kind" >"$venv/.requirements" <<'END'
import sys
import tomllib

with open(sys.argv[1], "rb") as stream:
    project = tomllib.load(stream)["project"]
wanted = list(project["dependencies"])
if sys.argv[2] == "dev":
    wanted += project["optional-dependencies"]["dev"] + project["optional-dependencies"]["fuzz"]
print("\n".join(wanted))
END
    "$venv/bin/python" -I -m pip install --quiet --disable-pip-version-check --requirement "$venv/.requirements" >"$venv/.pip.log" 2>&1 || {
        cat "$venv/.pip.log" >&2
        fail "pip could not install these packages; is the package index reachable?"
    }
    # The package itself is used from src, so that an edit counts at once.
    "$venv/bin/python" -I - "$root/src" <<'END'
import sys
import sysconfig
from pathlib import Path

Path(sysconfig.get_path("purelib"), "boxwright-checkout.pth").write_text(sys.argv[1] + "\n")
END
    [ "$kind" = run ] || printf '%s %s\n' "$want" "$root" >"$venv/.boxwright-run"
    printf '%s %s\n' "$want" "$root" >"$stamp"
}

install_packages
install_python_packages
