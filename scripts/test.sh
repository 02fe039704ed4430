#!/usr/bin/env bash
# Lint, types, import order, tests. --all also runs the slow proofs.
all="${1:-}"
source "$(dirname "$0")/env.sh" dev
selection=(-m "not slow")
[ "$all" = "--all" ] && selection=()
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/pyright
.venv/bin/lint-imports
.venv/bin/python -m pytest -n 2 --dist loadfile "${selection[@]}"
