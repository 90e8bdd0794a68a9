#!/usr/bin/env bash
# Generates everything anew and fails if a file then differs from what was there.
# The new text stays in place, so that the difference can be looked at and committed.
set -euo pipefail

generators=$(grep -rlE '^//go:generate ' --include='*.go' . | sort)
if [ -z "$generators" ]; then
    echo 'no //go:generate line found: docs/rules.md must come from one' >&2
    exit 1
fi

before=$(mktemp)
after=$(mktemp)
trap 'rm -f "$before" "$after"' EXIT

# Everything that is not built, ignored or git's own.
sums() {
    find . \( -path ./.git -o -path ./bin -o -path ./dist \) -prune -o -type f -print0 |
        sort -z | xargs -0 sha256sum
}

sums >"$before"
go generate ./...
sums >"$after"

printf 'generators: %s\n' "$(tr '\n' ' ' <<<"$generators")"
if ! diff "$before" "$after" >/dev/null; then
    echo 'these files differ from what the code generates; run make gen and commit them:' >&2
    diff "$before" "$after" | awk '/^[<>]/ {print "  " $3}' | sort -u >&2
    exit 1
fi
