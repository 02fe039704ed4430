#!/usr/bin/env bash
# From a fresh clone to a report: installs into .venv once, then runs the demo. Arguments go to `mmattn demo`.
source "$(dirname "$0")/env.sh"
ensure_env
exec .venv/bin/mmattn demo "$@"
