#!/usr/bin/env bash
# Builds the wheel (the program and the Python package), installs it into a fresh virtual environment, and tests it there: the program
# starts, a tiny model is trained and steered through the package, and the tests of python/tests pass.
#
# usage: scripts/test-wheel.sh [--transformers]
#   --transformers  also installs torch (CPU, 200 MB) and transformers, without which the tests of bipo.apply are skipped; checks the types
#
# The build is that of `cargo build --release`, in the same folder, so that nothing is compiled twice. PYTHON names the Python
# (default python3, 3.9 or later). The wheel is left in target/wheel/dist.
set -euo pipefail

case ${1:-} in
  "" | --transformers) ;;
  *) sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
work=${CARGO_TARGET_DIR:-target}/wheel
mkdir -p "$work"
work=$(realpath "$work")
fail() { echo "test-wheel: $1" >&2; exit 1; }

rm -rf "$work/dist" "$work/sdist" "$work/venv"
scripts/maturin.sh build --quiet --out "$work/dist"
wheel=$(find "$work/dist" -name 'bipo-*.whl')
# What a package index shows has no relative links, and the sources are as they were.
sums=$(sha256sum README.md pyproject.toml)
REPOSITORY=https://example.org/bipo REF=v1 scripts/maturin.sh sdist --out "$work/sdist" 2>/dev/null
tar -xOf "$work"/sdist/bipo-*.tar.gz --wildcards 'bipo-*/PKG-INFO' >"$work/PKG-INFO"
grep -q 'https://example.org/bipo/blob/v1/docs/start.md' "$work/PKG-INFO" && grep -q 'https://example.org/bipo/raw/v1/docs/playground.png' "$work/PKG-INFO" ||
  fail "links of the README do not lead to the repository"
! grep -E '\]\([^):]*\)' "$work/PKG-INFO" >&2 || fail "these links of the README lead nowhere on a package index"
grep -q '^Project-URL: Repository, https://example.org/bipo$' "$work/PKG-INFO" || fail "the repository is not named"
[ "$sums" = "$(sha256sum README.md pyproject.toml)" ] || fail "README.md or pyproject.toml was changed"

# A virtual environment without pip is made everywhere; pip of the Python itself fills it.
"$python" -m venv --without-pip "$work/venv" || fail "$python cannot make a virtual environment"
install() { "$python" -m pip --python "$work/venv/bin/python" install --quiet --disable-pip-version-check "$@"; }
packages=(numpy)
if [ "${1:-}" = --transformers ]; then
  install torch --index-url "${TORCH_INDEX:-https://download.pytorch.org/whl/cpu}" || install torch
  packages+=(transformers mypy)
fi
install "$wheel" "${packages[@]}"

# From here on nothing but the wheel is found: no PYTHONPATH, no other bipo on the path, and not the folder of the sources.
unset PYTHONPATH
export PATH="$work/venv/bin:/usr/bin:/bin"
root=$PWD
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
[ "$(command -v bipo)" = "$work/venv/bin/bipo" ] || fail "the wheel did not install the program"
version=$(bipo --version)
python -c '
import importlib.metadata, pathlib, sys, bipo
assert pathlib.Path(bipo.__file__).is_relative_to(sys.prefix), bipo.__file__
assert pathlib.Path(bipo.program()).is_relative_to(sys.prefix), bipo.program()
assert f"bipo {bipo.__version__}" == sys.argv[1], (bipo.__version__, sys.argv[1])
assert pathlib.Path(bipo.__file__).with_name("py.typed").exists()
' "$version"
python -m unittest discover -s "$root/python/tests"
if [ "${1:-}" = --transformers ]; then
  python -m mypy --strict --cache-dir /dev/null "$root/python/bipo"
fi
echo "ok: $(basename "$wheel"), $(($(wc -c <"$wheel") / 1000000)) MB: $version" >&2
