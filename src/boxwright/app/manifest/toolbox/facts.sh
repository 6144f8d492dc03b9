# Prints facts about the system it runs in, one NAME=VALUE a line. POSIX sh; needs no other program.
say() { [ -n "$2" ] && printf '%s=%s\n' "$1" "$2"; }
has() { command -v "$1" >/dev/null 2>&1; }
first() { # the first line that a command writes
    first_line=
    read -r first_line <<END
$("$@" 2>/dev/null </dev/null)
END
    printf '%s' "$first_line"
}
word() { # the n-th word of a line
    number=$1
    shift
    # shellcheck disable=SC2068
    set -- $@
    [ "$number" -le $# ] || return 0
    shift $((number - 1))
    printf '%s' "$1"
}
release() {
    [ -r /etc/os-release ] || return 0
    while IFS='=' read -r name value; do
        value=${value#\"} value=${value%\"}
        case $name in
            ID) say distribution "$value" ;;
            VERSION_ID) say version "$value" ;;
            VERSION_CODENAME) say codename "$value" ;;
            ID_LIKE) say family "$value" ;;
            PRETTY_NAME) say system "$value" ;;
        esac
    done </etc/os-release
}
release
if has uname; then
    say architecture "$(uname -m)"
    say kernel "$(uname -r)"
fi
memory=
cpus=0
if [ -r /proc/meminfo ]; then
    while read -r name value _; do
        [ "$name" = MemTotal: ] && memory=$((value / 1024))
    done </proc/meminfo
fi
if [ -r /proc/cpuinfo ]; then
    while read -r name _; do
        [ "$name" = processor ] && cpus=$((cpus + 1))
    done </proc/cpuinfo
fi
say memory "$memory"
[ "$cpus" -gt 0 ] && say cpus "$cpus"
for manager in apt-get:apt apk:apk dnf:dnf zypper:zypper pacman:pacman; do
    has "${manager%%:*}" && say package_manager "${manager#*:}" && break
done
has bash && say shell bash
has systemctl && say init systemd
if [ -e /lib/ld-musl-x86_64.so.1 ] || [ -e /lib/ld-musl-aarch64.so.1 ]; then say libc musl; elif has ldd; then say libc glibc; fi
has python3 && say python "$(word 2 "$(first python3 --version)")"
has perl && { perl=$(first perl -e 'printf "%vd", $^V'); say perl "$perl"; }
has node && { node=$(first node --version); say node "${node#v}"; }
has php && say php "$(word 2 "$(first php --version)")"
has ruby && say ruby "$(word 2 "$(first ruby --version)")"
has go && { go=$(word 3 "$(first go version)"); say go "${go#go}"; }
has rustc && say rust "$(word 2 "$(first rustc --version)")"
has gcc && say gcc "$(first gcc -dumpfullversion)"
exit 0
