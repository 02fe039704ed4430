#!/usr/bin/env bash
# Lint, types, import order, docs, tests. --all also runs the slow proofs.
source "$(dirname "$0")/env.sh"
ensure_env dev
selection=(-m "not slow") most_s=3600
[ "${1:-}" = "--all" ] && selection=() most_s=14400
command -v chromedriver >/dev/null || echo "no Chromium with chromedriver: the tests in a browser are skipped" >&2
.venv/bin/ruff check .
.venv/bin/ruff format --check .
limited 300 .venv/bin/pyright
limited 120 .venv/bin/lint-imports
NO_MKDOCS_2_WARNING=1 limited 300 .venv/bin/mkdocs build --strict --quiet
# Tests start processes, and kill some. Through a file, so that one that is left over cannot hold whoever reads this.
shown="$(mktemp)"
tail -n +1 -f "$shown" &
follower=$!
trap 'sleep 1.5; kill "$follower"; rm -f "$shown"' EXIT # tail looks once a second
status=0
tests() { # SECONDS ARGUMENTS...
    local seconds="$1" ended=0
    shift
    limited "$seconds" .venv/bin/python -m pytest "${selection[@]}" "$@" >>"$shown" 2>&1 || ended=$?
    case "$ended" in 124 | 137) echo "these tests took longer than $seconds s and were stopped" >>"$shown" ;; esac
    if [ "$ended" = 2 ]; then exit 2; fi # Ctrl-C, or tests that cannot be collected
    [ "$ended" = 0 ] || status="$ended"
}
# pytest-xdist 3.8 waits for ever once a worker has died and another was started in its place. Ray may take the process
# that it is used in with it, so its tests have one of their own.
ray=tests/inference/engines/test_ray.py
tests "$most_s" -n 2 --dist loadfile --max-worker-restart=0 --ignore="$ray"
tests 600 "$ray"
exit "$status"
