# Makes .venv with mmattn and the tested versions, once; sourced by the other scripts.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
extra="${1:-}"
stamp=".venv/.installed${extra:+-dev}"
if [ ! -f "$stamp" ] || [ pyproject.toml -nt "$stamp" ] || [ constraints.txt -nt "$stamp" ]; then
    if [ ! -x .venv/bin/python ]; then
        python=""
        for name in python3 python3.12 python3.11 python3.13; do
            if command -v "$name" >/dev/null && "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
                python="$name"
                break
            fi
        done
        [ -n "$python" ] || { echo "mmattn needs Python 3.11 or later" >&2; exit 2; }
        "$python" -m venv .venv
    fi
    echo "installing mmattn and what it needs into .venv (about 6 GB on disk, a few minutes)" >&2
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".${extra:+[$extra]}"
    touch "$stamp"
fi
