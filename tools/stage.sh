#!/usr/bin/env bash
# Runs one stage of the build: says what runs, how it ended and how long it took.
#
#     stage.sh [--last] NAME COMMAND [ARG...]
#
# With --last nothing is printed after a success, so that the output closes with the command's own
# words (Go's result lines, for the last stage of `make test`).
set -euo pipefail

last=no
if [ "$1" = --last ]; then
    last=yes
    shift
fi
name=$1
shift

printf '=== %s: %s\n' "$name" "$*"
started=$SECONDS
status=0
"$@" </dev/null || status=$?
took=$((SECONDS - started))
if [ "$status" -ne 0 ]; then
    printf '=== %s: FAILED after %d s (exit status %d)\n' "$name" "$took" "$status"
    exit "$status"
fi
if [ "$last" = no ]; then
    printf '=== %s: ok, %d s\n' "$name" "$took"
fi
