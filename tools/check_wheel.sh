#!/bin/sh
# Builds the wheel into dist/, installs it beside the locked base dependencies, and nothing else, into a
# fresh environment, and runs it from another folder.
set -eu

venv=${VENV:-.venv}
fresh=$PWD/.venv-wheel
elsewhere=$(mktemp -d)
trap 'rm -rf "$elsewhere" "$fresh"' EXIT

rm -f dist/encodax-*.whl
"$venv/bin/python" -m pip wheel --quiet --no-deps --no-build-isolation --no-index -w dist .
wheel=$(echo "$PWD"/dist/encodax-*.whl)

pip() { "$fresh/bin/python" -m pip --disable-pip-version-check --no-input "$@"; }
"$venv/bin/python" -m venv --clear "$fresh"
pip install -qq --require-hashes --only-binary :all: -r requirements/base.txt
pip install -qq --no-deps --no-index "$wheel"
pip check

cd "$elsewhere"
"$fresh/bin/python" -W error -c 'import encodax; print("imported from", encodax.__path__[0])'
"$fresh/bin/encodax" --help
echo "$(basename "$wheel") installs into a clean environment and runs from another folder."
