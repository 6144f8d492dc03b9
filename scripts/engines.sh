#!/bin/bash
# Install and start the engines that the tests talk to: dockerd, podman, buildah, LXD, the LXC tools, docker-registry
# and an SSH server. Idempotent: what answers already is left alone. It returns when each of them answers.
#
#   scripts/engines.sh [NAME...]    all of them, or only those named
#   scripts/engines.sh --stop       stop what this script started
#
# Where systemd runs, systemd starts the services; elsewhere (a container, a bare virtual machine) they are started by
# hand. Logs and configuration made for the tests stand in BOXWRIGHT_ENGINES, /run/boxwright-engines unless set.
set -euo pipefail

PATH="/usr/local/sbin:/usr/sbin:/sbin:$PATH"
state="${BOXWRIGHT_ENGINES:-/run/boxwright-engines}"
registry_address="127.0.0.1:5000"
ssh_port=2222
bridge_address="10.177.0.1/24" # LXD finds no free subnet by itself where everything has a route
test_user="boxwright-test"
wait_seconds=60
all=(docker podman buildah lxd lxc ovn registry ssh web buildgrid etcd glusterfs graphviz user)

say() { printf 'engines: %s\n' "$*"; }
fail() {
    printf 'engines: %s\n' "$*" >&2
    exit 1
}
have_systemd() { [ -d /run/systemd/system ]; }
installable() { apt-cache show "$1" 2>/dev/null | grep -q '^Package:'; }
quietly() { timeout 20 "$@" >/dev/null 2>&1 </dev/null; }

# need PACKAGE...: install those that are missing.
need() {
    local name missing=()
    for name in "$@"; do
        dpkg-query -W -f '${db:Status-Status}\n' "$name" 2>/dev/null | grep -qx installed || missing+=("$name")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    if [ ! -e "$state/updated" ]; then
        apt-get update -q -q || say "warning: apt-get update failed; trying with the package lists at hand"
        touch "$state/updated"
    fi
    say "installing ${missing[*]}"
    DEBIAN_FRONTEND=noninteractive apt-get install -q -q -y --no-install-recommends "${missing[@]}" \
        >"$state/apt.log" 2>&1 || {
        tail -n 30 "$state/apt.log" >&2
        fail "could not install ${missing[*]}"
    }
}

# start NAME COMMAND...: run a daemon of ours, away from this terminal, and remember its process.
start() {
    local name="$1"
    shift
    say "starting $name (log: $state/$name.log)"
    (cd / && exec setsid "$@") >>"$state/$name.log" 2>&1 </dev/null & # a daemon must not stand in a directory that goes
    echo $! >"$state/$name.pid"
}

# died NAME: the daemon that we started is gone.
died() { [ -e "$state/$1.pid" ] && ! kill -0 "$(cat "$state/$1.pid")" 2>/dev/null; }

# wait_for NAME COMMAND...: until the command succeeds.
wait_for() {
    local name="$1" deadline=$((SECONDS + wait_seconds))
    shift
    until quietly "$@"; do
        if [ $SECONDS -ge $deadline ] || died "$name"; then
            [ ! -e "$state/$name.log" ] || tail -n 30 "$state/$name.log" >&2
            fail "$name does not answer"
        fi
        sleep 0.2
    done
    say "$name answers"
}

# Containers.conf for machines whose cgroups and limits crun and systemd's cgroup manager can't use. It is not the
# user's file: the tests name it in CONTAINERS_CONF.
containers_conf() {
    cat >"$state/containers.conf" <<'END'
[containers]
default_ulimits = ["nofile=1000:1000", "nproc=1000:1000"]

[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
END
}

docker_engine() {
    need docker.io iptables
    # On Debian 13 the client and its builder are packages of their own.
    if [ ! -x /usr/bin/docker ] && installable docker-cli; then need docker-cli docker-buildx; fi
    if ! quietly /usr/bin/docker info; then
        if have_systemd; then systemctl start docker; else
            rm -f /run/docker.pid
            start docker dockerd
        fi
    fi
    wait_for docker /usr/bin/docker info
}

podman_engine() {
    need podman runc
    have_systemd || containers_conf
    [ ! -e "$state/containers.conf" ] || export CONTAINERS_CONF="$state/containers.conf"
    wait_for podman podman info
}

buildah_engine() {
    need buildah
    wait_for buildah buildah info
}

lxc_engine() {
    need lxc
    wait_for lxc lxc-create --version
}

lxd_preseed() {
    cat <<END
config: {}
networks:
  - name: boxwrightbr0
    type: bridge
    config: {ipv4.address: $bridge_address, ipv4.nat: "true", ipv6.address: none}
storage_pools:
  - name: boxwright
    driver: dir
profiles:
  - name: default
    devices:
      root: {path: /, pool: boxwright, type: disk}
      eth0: {name: eth0, network: boxwrightbr0, type: nic}
END
}

lxd_engine() {
    need lxd lxd-client dnsmasq-base iptables rsync btrfs-progs iproute2
    if ! quietly lxc query /1.0; then
        if have_systemd; then systemctl start lxd.socket lxd.service; else
            mkdir -p /run/lxd /dev/net
            [ -e /dev/net/tun ] || mknod -m 0666 /dev/net/tun c 10 200
            start lxd lxd --group root
        fi
    fi
    wait_for lxd lxd waitready --timeout 10
    # A daemon that somebody has set up already keeps its pool and network.
    if ! lxc profile device list default </dev/null | grep -qx root; then
        lxd_preseed | lxd init --preseed || fail "lxd init failed (its message is above)"
        say "lxd has a pool and a bridge now"
    fi
    lxd_beside_docker
}

# Docker drops what the machine forwards, also between two instances on a bridge, and LXD's own rules don't change that
# where it writes them with nft (LXD, howto/network_bridge_firewalld.md). The bridges of stacks begin with bw.
lxd_beside_docker() {
    local bridge way
    quietly iptables -n -L DOCKER-USER || return 0
    for bridge in boxwrightbr0 bw+; do
        for way in -i -o; do
            quietly iptables -C DOCKER-USER "$way" "$bridge" -j ACCEPT ||
                iptables -I DOCKER-USER "$way" "$bridge" -j ACCEPT
        done
    done
}

# Networks over a cluster: a test starts it, in namespaces of its own. Nothing of it runs for the machine.
ovn_engine() {
    RUNLEVEL=1 need ovn-central ovn-host openvswitch-switch
    ovn-nbctl --version >/dev/null && say "ovn is there"
}

registry_engine() {
    need docker-registry curl
    if ! quietly curl -fsS "http://$registry_address/v2/"; then
        mkdir -p "$state/registry"
        cat >"$state/registry.yml" <<END
version: 0.1
log: {level: warn}
storage: {filesystem: {rootdirectory: "$state/registry"}, delete: {enabled: true}}
http: {addr: "$registry_address"}
END
        start registry docker-registry serve "$state/registry.yml"
    fi
    wait_for registry curl -fsS "http://$registry_address/v2/"
}

# A server of our own on loopback, with its own host key: the machine's configuration stays as it is.
ssh_engine() {
    need openssh-server openssh-client
    if ! quietly ssh-keyscan -p "$ssh_port" 127.0.0.1; then
        mkdir -p /run/sshd
        [ -e "$state/ssh_host_key" ] || ssh-keygen -q -t ed25519 -N '' -f "$state/ssh_host_key"
        start ssh /usr/sbin/sshd -D -f /dev/null -o "HostKey=$state/ssh_host_key" -o "PidFile=none" \
            -o "ListenAddress=127.0.0.1:$ssh_port" -o PasswordAuthentication=no -o PermitRootLogin=prohibit-password
    fi
    wait_for ssh ssh-keyscan -p "$ssh_port" 127.0.0.1
}

# A web server and a proxy that tests start themselves, with configurations of their own: none runs for the machine.
web_engine() {
    RUNLEVEL=1 need nginx tinyproxy
    /usr/sbin/nginx -v 2>/dev/null && say "nginx and tinyproxy are there"
}

# No engines either: servers of key/value data and of files that tests start themselves, and what draws graphs.
etcd_engine() {
    need etcd-server curl
    etcd --version >/dev/null && say "etcd is there"
}

glusterfs_engine() {
    need glusterfs-client glusterfs-common
    glusterfsd --version >/dev/null && say "glusterfs is there"
}

graphviz_engine() {
    need graphviz
    say "graphviz is there"
}

# A server of the Remote Execution API, in a virtual environment. The tests start it with a configuration of their own.
# Its releases each want one version of Python: pip takes the newest that fits.
buildgrid_engine() {
    need python3 python3-venv
    quietly "$state/buildgrid/bin/bgd" --help || {
        say "installing BuildGrid"
        python3 -m venv --clear "$state/buildgrid"
        "$state/buildgrid/bin/pip" install --quiet --disable-pip-version-check 'buildgrid>=0.4.4'
    }
    wait_for buildgrid "$state/buildgrid/bin/bgd" --help
}

# Not an engine: the ordinary user that the tests without privileges run as.
user_engine() {
    need passwd uidmap
    id "$test_user" >/dev/null 2>&1 || {
        say "adding the user $test_user, with subordinate ids"
        useradd --create-home --shell /bin/sh "$test_user"
    }
    # useradd gives subordinate ids itself where /etc/subuid exists. Elsewhere: a range far from what LXD gives root.
    local file
    for file in /etc/subuid /etc/subgid; do
        grep -qs "^$test_user:" "$file" || echo "$test_user:2000000000:65536" >>"$file"
    done
    say "user $test_user is there"
}

stop_all() {
    local file pid
    for file in "$state"/*.pid; do
        [ -e "$file" ] || continue
        pid=$(cat "$file")
        kill "$pid" 2>/dev/null && say "stopping $(basename "$file" .pid)"
        rm -f "$file"
    done
}

main() {
    [ "$(id -u)" -eq 0 ] || exec sudo --preserve-env=BOXWRIGHT_ENGINES,CI "$0" "$@"
    if [ "${1:-}" = --stop ]; then
        stop_all
        return
    fi
    mkdir -p "$state"
    chmod 0755 "$state"
    rm -f "$state/updated"
    [ $# -gt 0 ] || set -- "${all[@]}"
    local name
    for name in "$@"; do
        [[ " ${all[*]} " == *" $name "* ]] || fail "unknown engine '$name'; there are: ${all[*]}"
        "${name}_engine"
    done
}

main "$@"
