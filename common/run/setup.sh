#!/bin/sh
# Makes .venv with exactly the packages of requirements.txt. What the machine lacks is said in one line.
set -eu
UV=0.13.9
NEEDED_GB=8

fail() { echo "error: $*" >&2; exit 1; }

python=""
found=""
for candidate in ${PYTHON:-python3.13 python3.12 python3.11 python3 python}; do
  version=$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
  case $version in
    3.11 | 3.12 | 3.13) python=$candidate; break ;;
    *) found="$found, $candidate is $version" ;;
  esac
done
[ -n "$python" ] || fail "Python 3.11, 3.12 or 3.13 not found${found} (PYTHON=/path/to/python names one)"
"$python" -c 'import venv, ensurepip' 2>/dev/null ||
  fail "$python has no venv module (on Debian and Ubuntu: apt install python3-venv)"
cc=${CC:-cc}
command -v "${cc%% *}" >/dev/null 2>&1 ||
  fail "no C compiler ($cc); sed-scores-eval is built from source (on Debian and Ubuntu: apt install build-essential)"
"$python" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_paths()["include"] + "/Python.h"))' ||
  fail "the headers of $python are missing (on Debian and Ubuntu: apt install python3-dev)"
if [ ! -x .venv/bin/uv ]; then
  free=$(df -Pk . | awk 'NR == 2 { print int($4 / 1048576) }')
  [ "$free" -ge "$NEEDED_GB" ] || fail "only $free GB free here, the environment needs $NEEDED_GB GB"
fi

echo "setting up .venv ($("$python" --version), uv $UV); about 5 GB, a minute" >&2
# The second test: a Python that was upgraded or removed leaves a .venv that cannot start.
if [ "$(.venv/bin/uv --version 2>/dev/null | cut -d' ' -f2)" != "$UV" ] || ! .venv/bin/python -c '' 2>/dev/null; then
  rm -rf .venv
  "$python" -m venv .venv
  .venv/bin/python -m pip install --quiet --disable-pip-version-check "uv==$UV" ||
    fail "uv $UV could not be installed; is the package index reachable?"
fi
VIRTUAL_ENV=$PWD/.venv .venv/bin/uv pip sync --quiet --require-hashes requirements.txt ||
  fail "the packages of requirements.txt could not be installed; \`make setup\` tries again"
touch .venv/.ready
