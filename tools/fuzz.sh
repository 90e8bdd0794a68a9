#!/usr/bin/env bash
# Runs every fuzz function of the module for the given time, one after the other.
set -euo pipefail

fuzztime=${1:-30s}
found=0
while read -r package; do
    while read -r fuzzer; do
        found=$((found + 1))
        printf -- '--- %s %s\n' "$package" "$fuzzer"
        go test -run '^$' -fuzz "^${fuzzer}\$" -fuzztime "$fuzztime" "$package" </dev/null
    done < <(go test -list '^Fuzz' "$package" </dev/null | grep '^Fuzz' || true)
done < <(grep -rlE '^func Fuzz[A-Z]' --include='*_test.go' . | xargs -r -n 1 dirname | sort -u)

if [ "$found" -eq 0 ]; then
    echo 'no fuzz function found' >&2
    exit 1
fi
printf '%d fuzzers ran for %s each\n' "$found" "$fuzztime"
