#!/usr/bin/env bash
# Puts a built program into an archive with what belongs to it: completions, manual pages, README, licence and changelog. Writes
# bipo-vVERSION-NAME.tar.gz, or .zip for Windows, into OUT. Runs the program, which must run on this machine.
#
# usage: scripts/package.sh PROGRAM NAME OUT      NAME is the target, such as x86_64-unknown-linux-gnu
# PYTHON names the Python, 3.6 or later (default: python3, or python).
# The same files give the same bytes: names are sorted, and times are that of the commit (SOURCE_DATE_EPOCH replaces it).
set -euo pipefail
[ $# = 3 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2; }
fail() { echo "package: $1" >&2; exit 1; }
[ -x "$1" ] || fail "$1 is no program: cargo build --release makes it"
program=$(realpath "$1")
mkdir -p "$3"
out=$(realpath "$3")
cd "$(dirname "$0")/.."

version=$(scripts/version.sh)
[ "$("$program" --version)" = "bipo $version" ] || fail "$1 is $("$program" --version), but Cargo.toml says $version: build it again"
python=${PYTHON:-$(command -v python3 || command -v python)} || fail "python3 not found: install it"
name=bipo-v$version-$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/$name/completions" "$work/$name/man"
cp "$program" README.md LICENSE CHANGELOG.md "$work/$name/"
"$program" completions bash >"$work/$name/completions/bipo.bash"
"$program" completions zsh >"$work/$name/completions/_bipo"
"$program" completions fish >"$work/$name/completions/bipo.fish"
"$program" completions powershell >"$work/$name/completions/_bipo.ps1"
"$program" man --output-dir "$work/$name/man" >/dev/null

export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 315532800)}"
"$python" - "$work" "$name" "$out" <<'PY'
import gzip, os, pathlib, sys, tarfile, time, zipfile

work, name, out = pathlib.Path(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3])
made = int(os.environ["SOURCE_DATE_EPOCH"])
files = sorted(path for path in (work / name).rglob("*") if path.is_file())
mode = {path: 0o755 if path.stem == "bipo" and path.parent == work / name else 0o644 for path in files}
if "windows" in name:
    archive = out / f"{name}.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in files:
            entry = zipfile.ZipInfo(path.relative_to(work).as_posix(), time.gmtime(made)[:6])
            entry.external_attr, entry.compress_type = mode[path] << 16, zipfile.ZIP_DEFLATED
            packed.writestr(entry, path.read_bytes())
else:
    archive = out / f"{name}.tar.gz"
    with open(archive, "wb") as raw, gzip.GzipFile("", "wb", 9, raw, made) as zipped:
        with tarfile.open(fileobj=zipped, mode="w", format=tarfile.USTAR_FORMAT) as packed:
            for path in files:
                entry = tarfile.TarInfo(path.relative_to(work).as_posix())
                entry.size, entry.mtime, entry.mode = path.stat().st_size, made, mode[path]
                with open(path, "rb") as content:
                    packed.addfile(entry, content)
print(archive)
PY
