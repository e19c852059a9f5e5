#!/bin/sh
# Make .venv and install requirements/dev.txt into it, unless both are done.
# PYTHON: the interpreter to use; otherwise the first one >= 3.11 that has venv.
set -eu
requirements=requirements/dev.txt
# A copy of what was installed, written last: an interrupted installation has none and is redone.
installed=.venv/installed-requirements.txt

works() { "$@" >/dev/null 2>&1; }
is_new_enough() { works "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; }

if is_new_enough .venv/bin/python && cmp -s "$requirements" "$installed"; then
    exit 0
fi

if ! is_new_enough .venv/bin/python || ! works .venv/bin/python -m pip --version; then
    found= without_venv=
    for python in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11 python}; do
        is_new_enough "$python" || continue
        if works "$python" -c 'import ensurepip, venv'; then
            found=$python
            break
        fi
        without_venv=$python
    done
    if [ -z "$found" ]; then
        if [ -n "$without_venv" ]; then
            echo "$without_venv has no venv module: install it (on Debian: apt-get install python3-venv)." >&2
        elif [ -n "${PYTHON:-}" ]; then
            echo "PYTHON=$PYTHON is not a Python 3.11 or newer." >&2
        else
            echo "No Python 3.11 or newer was found: install one, or name it: make PYTHON=/path/to/python3" >&2
        fi
        exit 1
    fi
    echo "Making .venv with $("$found" --version)"
    "$found" -m venv --clear .venv
fi

echo "Installing $requirements into .venv (the first time takes about a minute)"
.venv/bin/python -m pip install --quiet --quiet --no-input --disable-pip-version-check \
    --require-hashes --requirement "$requirements"
cp "$requirements" "$installed"
