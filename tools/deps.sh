#!/usr/bin/env bash
# Installs what the tests and the demonstration need, and only what is missing.
#
# On Debian 12 as root it installs packages; elsewhere it says what is needed. No daemon is started
# by it, and no service that was there before is touched: PostgreSQL and etcd are wanted as
# programs that the tests start themselves.
set -euo pipefail

# package|a program that proves it is there|what it is for
readonly NEEDED='
postgresql-15|/usr/lib/postgresql/15/bin/postgres|the server that pgha runs
postgresql-client-15|/usr/lib/postgresql/15/bin/pg_basebackup|pg_basebackup, pg_rewind, psql
etcd-server|etcd|the consensus store
haproxy|haproxy|routing clients to the primary
iproute2|ip|members in network namespaces
iptables|iptables|cutting and resetting connections
strace|strace|slow and failing disks
libfaketime|/usr/lib/*/faketime/libfaketime.so.1|clocks that are set back and forward
ca-certificates|/etc/ssl/certs/ca-certificates.crt|fetching Go modules
git|git|the version that is stamped into the programs
make|make|this build
gcc|gcc|the race detector
libc6-dev|/usr/include/stdio.h|the race detector
'
readonly GO_MINIMUM=1.26

readonly POLICY=/usr/sbin/policy-rc.d
readonly POLICY_SAVED=$POLICY.before-pgha
readonly NO_MAIN_CLUSTER=/etc/postgresql-common/createcluster.d/pgha-no-main-cluster.conf

present() { # program, file, or pattern of files
    case $1 in
        /*) compgen -G "$1" >/dev/null ;;
        *) command -v "$1" >/dev/null ;;
    esac
}

report() { printf '  %-22s %s\n' "$1" "$2"; }

check_go() {
    if ! command -v go >/dev/null; then
        report go "MISSING: version $GO_MINIMUM or later, from go.dev; Debian's own is too old"
        return 1
    fi
    local version
    version=$(go env GOVERSION)
    version=${version#go}
    if [ "$(printf '%s\n' "$GO_MINIMUM" "$version" | sort -V | head -n 1)" != "$GO_MINIMUM" ]; then
        report go "TOO OLD: $version, needed is $GO_MINIMUM or later"
        return 1
    fi
    report "go $version" present
}

# While packages are installed, no service may start: the ports belong to the tests.
forbid_starts() {
    trap restore_starts EXIT
    if [ -e "$POLICY" ] && [ ! -e "$POLICY_SAVED" ]; then
        mv "$POLICY" "$POLICY_SAVED"
    fi
    printf '#!/bin/sh\nexit 101\n' >"$POLICY"
    chmod 755 "$POLICY"
}

restore_starts() {
    rm -f "$POLICY"
    if [ -e "$POLICY_SAVED" ]; then
        mv "$POLICY_SAVED" "$POLICY"
    fi
}

apt_install() {
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" </dev/null
}

install_packages() { # package...
    forbid_starts
    apt-get update -q </dev/null
    case " $* " in
        *" postgresql-15 "*)
            # The package makes a cluster of its own unless it is told not to beforehand.
            apt_install postgresql-common
            mkdir -p "$(dirname "$NO_MAIN_CLUSTER")"
            echo 'create_main_cluster = false' >"$NO_MAIN_CLUSTER"
            ;;
    esac
    apt_install "$@"
    local package service
    for package in "$@"; do
        case $package in
            postgresql-15) service=postgresql ;;
            etcd-server) service=etcd ;;
            haproxy) service=haproxy ;;
            *) continue ;;
        esac
        update-rc.d "$service" disable # and the systemd unit, where there is a systemctl
    done
}

main() {
    local missing=() package proof purpose
    while IFS='|' read -r package proof purpose; do
        [ -n "$package" ] || continue
        if present "$proof"; then
            report "$package" present
        else
            missing+=("$package")
        fi
    done <<<"$NEEDED"

    if [ "${#missing[@]}" -gt 0 ]; then
        local release
        release=$(. /etc/os-release 2>/dev/null && echo "${ID:-}-${VERSION_ID:-}" || true)
        if [ "$release" != debian-12 ]; then
            echo 'This is not Debian 12, so nothing is installed. Needed are:' >&2
            printf '%s\n' "$NEEDED" | awk -F '|' 'NF {printf "  %-22s %s\n", $1, $3}' >&2
            echo "Missing: ${missing[*]}" >&2
            exit 1
        fi
        if [ "$(id -u)" -ne 0 ]; then
            echo "Missing: ${missing[*]}" >&2
            echo "Run as root:  $(pwd)/tools/deps.sh" >&2
            exit 1
        fi
        install_packages "${missing[@]}"
        for package in "${missing[@]}"; do
            report "$package" installed
        done
    fi
    check_go
}

echo '=== deps'
main "$@"
