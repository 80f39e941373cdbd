#!/bin/sh
# Prints the path of the CPython that environments are built on, or one line that says why there is none.
#
#   tools/find_python.sh          the newest usable one found on PATH or among pyenv's versions
#   tools/find_python.sh 3.12     the same, of that minor version only
#   PY=WHAT tools/find_python.sh  WHAT (a name or a path), once it has been found usable
#
# Usable means: it really runs (a version manager's shim can be on PATH and fail), it is a CPython the
# lock has wheels for, and it can make a virtual environment with pip in it.
set -eu

oldest=11
newest=14
wanted=${1:-}

# Prints "MINOR PATH" where the candidate is usable. The base executable is taken, so that the Python of
# an active virtual environment never becomes the base of the one that replaces it.
probe() {
    "$1" -I -c "
import sys, sysconfig
import ctypes, ensurepip, ssl, venv
minor = sys.version_info.minor
usable = (
    sys.implementation.name == 'cpython'
    and sys.version_info.major == 3
    and $oldest <= minor <= $newest
    and sys.version_info.releaselevel == 'final'
    and not sysconfig.get_config_var('Py_GIL_DISABLED')
    and '$wanted' in ('', f'3.{minor}')
)
if usable:
    print(minor, sys._base_executable)
" 2>/dev/null </dev/null || true
}

if [ -n "${PY:-}" ]; then
    found=$(probe "$PY")
    if [ -z "$found" ]; then
        echo "error: PY=$PY is not a usable CPython 3.$oldest to 3.$newest with venv and pip" >&2
        exit 1
    fi
    echo "${found#* }"
    exit 0
fi

candidates() {
    minor=$newest
    while [ "$minor" -ge "$oldest" ]; do
        names="${names:-} python3.$minor"
        minor=$((minor - 1))
    done
    IFS=:
    for folder in $PATH; do
        IFS=' '
        for name in $names python3 python; do
            if [ -x "$folder/$name" ]; then echo "$folder/$name"; fi
        done
        IFS=:
    done
    for python in "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.*/bin/python; do
        if [ -x "$python" ]; then echo "$python"; fi
    done
}

found=$(candidates | while read -r python; do probe "$python"; done | sort -rn -s -k 1,1 | head -n 1)
if [ -z "$found" ]; then
    echo "error: no usable CPython ${wanted:-3.$oldest to 3.$newest} with venv and pip was found;" \
        "install one, or name it: make PY=/path/to/python" >&2
    exit 1
fi
echo "${found#* }"
