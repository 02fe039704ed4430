#!/usr/bin/env bash
# Train a run, or go on with it where it is there already: scripts/train_again.sh RUN data=... fusion=...
# To be called at each start of a machine that may be taken away (SIGTERM, then off), on a disk that stays.
set -euo pipefail
run=$1
shift
if [ -e "$run/finished.json" ]; then
    exit 0
elif [ -e "$run/config.yaml" ]; then
    exec mmattn train resume="$run"
fi
exec mmattn train run="$run" "$@"
