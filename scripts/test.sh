#!/usr/bin/env bash
# Lint, types, import order, tests. --all also runs the slow proofs.
source "$(dirname "$0")/env.sh"
ensure_env dev
selection=(-m "not slow") most_s=3000
[ "${1:-}" = "--all" ] && selection=() most_s=14400
command -v chromedriver >/dev/null || echo "no Chromium with chromedriver: the tests in a browser are skipped" >&2
.venv/bin/ruff check .
.venv/bin/ruff format --check .
limited 900 .venv/bin/pyright
.venv/bin/lint-imports
# Tests start processes, and kill some. Through a file, so that one that is left over cannot hold whoever reads this.
shown="$(mktemp)"
tail -n +1 -f "$shown" &
teller=$!
trap 'sleep 1.5; kill "$teller"; rm -f "$shown"' EXIT # tail looks once a second
status=0
limited "$most_s" \
    .venv/bin/python -m pytest -n 2 --dist loadfile "${selection[@]}" >"$shown" 2>&1 || status=$?
[ "$status" = 124 ] && echo "the tests took longer than $most_s s and were stopped" >>"$shown"
exit "$status"
