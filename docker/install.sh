#!/usr/bin/env bash
# install.sh FOLDER [lock|trimtab]: the image's environment, made in FOLDER; it needs no container.
#   lock     a virtual environment with exactly what the run-time lock says, without the developer's tools
#   trimtab  this repository's packages into it, not editable
# Without the second argument: both. The image does them apart, so that a change of code does not install torch again.
#
# PYTHON names the interpreter. pip reads PIP_INDEX_URL, PIP_EXTRA_INDEX_URL and PIP_FIND_LINKS from the environment;
# which of them has a CPU-only torch decides how large the result is. The steps are those of .ci/make-env, less the
# developer's lock.
set -euo pipefail
source=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
usage='usage: install.sh FOLDER [lock|trimtab]'
folder=${1:?$usage} part=${2:-all}
python=${PYTHON:-python3.11}
export PIP_DISABLE_PIP_VERSION_CHECK=1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

pip() { "$folder/bin/python" -m pip --quiet "$@"; }

# The PostgreSQL drivers: asyncpg comes with Prefect; psycopg2 is an extra, and its pin stands in the developer's lock.
postgres_lock() {
  awk '/^[^ #]/ { wanted = /^psycopg2-binary==/ } wanted' "$source/requirements-dev.lock"
}

install_lock() {
  [ -x "$folder/bin/python" ] || "$python" -m venv "$folder"
  postgres_lock > "$scratch/postgres.lock"
  [ -s "$scratch/postgres.lock" ] || { echo "requirements-dev.lock does not pin psycopg2-binary" >&2; exit 1; }
  pip install --require-hashes --no-deps -r "$source/requirements.lock" -r "$scratch/postgres.lock"
  # Last and without a hash: torch's wheel differs by index (CPU-only or CUDA), its version does not.
  pip install -r "$source/torch.lock"
}

install_trimtab() {
  # From a copy: a build writes into the folder it builds from. The Markdown files are the package's description.
  cp -R "$source"/pyproject.toml "$source"/LICENSE "$source"/*.md "$source"/{trimtab,tasks,flows,deployments} "$scratch"
  # Without the flag, a version that is there already would be kept whatever its code.
  pip install --no-deps --no-build-isolation --force-reinstall "$scratch"
  pip check
}

case $part in
  lock) install_lock ;;
  trimtab) install_trimtab ;;
  all) install_lock && install_trimtab ;;
  *) echo "$usage" >&2; exit 64 ;;
esac
