# Sourced by the other scripts: `ensure_env [EXTRA]` makes .venv with mmattn and the tested versions, once.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

find_python() {
    local name
    for name in python3 python3.12 python3.11 python3.13; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            echo "$name"
            return
        fi
    done
    echo "mmattn needs Python 3.11 or later" >&2
    exit 2
}

# `limited SECONDS COMMAND...`, where there is a timeout command.
limited() {
    local seconds="$1"
    shift
    if command -v timeout >/dev/null; then
        timeout --foreground --kill-after=60 "$seconds" "$@"
    else
        "$@"
    fi
}

ensure_env() {
    local extra="${1:-}" stamp=".venv/.installed-${1:-base}" python
    if [ -f "$stamp" ] && [ ! pyproject.toml -nt "$stamp" ] && [ ! constraints.txt -nt "$stamp" ]; then
        return
    fi
    if [ ! -x .venv/bin/python ]; then
        python="$(find_python)"
        "$python" -m venv .venv
    fi
    echo "installing mmattn and what it needs into .venv (about 6 GB on disk, a few minutes)" >&2
    limited 1200 .venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".${extra:+[$extra]}"
    touch "$stamp"
}
