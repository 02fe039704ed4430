#!/usr/bin/env bash
# Lint, types, import order, tests. --all also runs the slow proofs.
source "$(dirname "$0")/env.sh"
ensure_env dev
selection=(-m "not slow")
[ "${1:-}" = "--all" ] && selection=()
command -v chromedriver >/dev/null || echo "no Chromium with chromedriver: the tests in a browser are skipped" >&2
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/pyright
.venv/bin/lint-imports
.venv/bin/python -m pytest -n 2 --dist loadfile "${selection[@]}"
