# What the scripts that fetch a model with pip share; they source it after setting `name` (their own), `file` and `sha256`. Prints the
# path and ends the script where the file is there already. Sets `python`, `target`, the path that the file gets, and `work`, a
# folder that the script works in and that goes when it ends; `install_file` moves the file from there to its place.
# shellcheck shell=sh
: "${name:?}" "${file:?}" "${sha256:?}"

fail() {
    echo "$name: $1" >&2
    exit 1
}

python=${PYTHON:-python3}
command -v "$python" >/dev/null 2>&1 || fail "$python not found: install Python 3, or set PYTHON"

# Exits with 0 if the file has the right hash.
verify() {
    "$python" - "$1" "$sha256" <<'PY'
import hashlib, sys
digest = hashlib.sha256()
with open(sys.argv[1], "rb") as file:
    while block := file.read(1 << 20):
        digest.update(block)
sys.exit(digest.hexdigest() != sys.argv[2])
PY
}

if [ -n "${BIPO_CACHE:-}" ]; then
    cache=$BIPO_CACHE
elif [ -n "${XDG_CACHE_HOME:-}" ]; then
    cache=$XDG_CACHE_HOME/bipo
elif [ -n "${HOME:-}" ]; then
    cache=$HOME/.cache/bipo
else
    fail "no cache directory: set BIPO_CACHE or HOME"
fi

target=$cache/$file
if [ -f "$target" ] && verify "$target"; then
    printf '%s\n' "$target"
    exit 0
fi

"$python" -m pip --version >/dev/null 2>&1 || fail "$python has no pip: install it (python3-pip), or set PYTHON to a Python with pip"
mkdir -p "$cache" || fail "cannot write to $cache"
# The working folder is inside the cache directory, so that the last step is a rename on one file system.
work=$(mktemp -d "$cache/fetch.XXXXXX") || fail "cannot write to $cache"
trap 'rm -rf "$work"' EXIT
trap 'exit 130' HUP INT TERM

install_file() {
    verify "$work/$file" || fail "$file does not have the expected sha256 $sha256: not installed"
    mv -f "$work/$file" "$target" || fail "cannot write $target"
    printf '%s\n' "$target"
}
