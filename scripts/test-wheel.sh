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
# What a package index shows of a release has no relative links: the source distribution, unpacked, changed and made again.
sdist() {
  rm -rf "$work/sdist"
  (cd "$1" && "$root/scripts/maturin.sh" sdist --manifest-path "$1/Cargo.toml" --out "$work/sdist") 2>"$work/sdist.log" ||
    { cat "$work/sdist.log" >&2; fail "there is no source distribution"; }
}
root=$PWD
sdist "$root"
rm -rf "$work/sources"
mkdir "$work/sources"
tar -xzf "$work"/sdist/bipo-*.tar.gz -C "$work/sources"
rm "$work"/sources/bipo-*/PKG-INFO
scripts/readme-links.sh https://example.org/bipo v1 "$work"/sources/bipo-*
sdist "$(echo "$work"/sources/bipo-*)"
"$python" - "$work"/sdist/bipo-*.tar.gz <<'PY' || fail "the page of a package index would not be right"
import re, sys, tarfile
archive = tarfile.open(sys.argv[1])
name = next(name for name in archive.getnames() if name.endswith("PKG-INFO"))
page = archive.extractfile(name).read().decode()
wanted = ["https://example.org/bipo/blob/v1/docs/start.md", "https://example.org/bipo/raw/v1/docs/playground.png"]
wanted.append("Project-URL: Repository, https://example.org/bipo\n")
relative = re.findall(r"\]\([^):]*\)", page)
sys.exit(f"missing: {[text for text in wanted if text not in page]}, links that lead nowhere: {relative}" if relative or not all(text in page for text in wanted) else 0)
PY

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
