#!/usr/bin/env bash
# From a fresh clone to a report: installs into .venv once, then runs the demo. Arguments go to `mmattn demo`.
# With files=[holiday.mp4] the ready-made models that annotate them are installed, too.
source "$(dirname "$0")/env.sh"
case " $*" in
    *" files="*) ensure_env pretrained ;;
    *) ensure_env ;;
esac
exec .venv/bin/mmattn demo "$@"
