#!/usr/bin/env bash
# Runs the commands of README.md, docs/start.md and docs/strength.md as a reader would: every block of shell commands, in order, in a temporary
# folder for each page. A block behind a line `<!-- not run by the test: REASON -->` is left out, and named. Needs the small model
# (scripts/fetch-smollm2.sh). Computes for 650 seconds of processor time, five and a half
# minutes on two idle cores.
#
#   scripts/test-readme.sh [PROGRAM]     # default: target/release/bipo
set -euo pipefail
cd "$(dirname "$0")/.."
program=$(realpath "${1:-target/release/bipo}")
[ -x "$program" ] || { echo "$program is no program: cargo build --release makes it" >&2; exit 2; }
root=$PWD
export BIPO_CACHE="${BIPO_CACHE:-$root/target/bipo-cache}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/bin"
ln -s "$program" "$work/bin/bipo"
export PATH="$work/bin:$PATH"

# Prints the script of a page; tells the blocks that it leaves out on standard error.
commands_of() {
  awk -v page="$1" '
    /^```sh *$/ {
      inside = 1
      if (reason != "") print "not run: " page ", line " NR ": " reason > "/dev/stderr"
      next
    }
    /^```/ && inside { inside = 0; reason = ""; next }
    inside && reason == "" { print }
    !inside && /^<!-- not run by the test: .* -->$/ {
      reason = $0
      sub(/^<!-- not run by the test: /, "", reason)
      sub(/ -->$/, "", reason)
      next
    }
    !inside && NF { reason = "" }
  ' "$1"
}

for page in README.md docs/start.md docs/strength.md; do
  folder="$work/${page%.md}"
  mkdir -p "$folder"
  commands_of "$page" >"$folder.sh"
  [ -s "$folder.sh" ] || { echo "$page has no commands to run" >&2; exit 1; }
  start=$SECONDS
  if ! (cd "$folder" && HF_HUB_OFFLINE=1 bash -euo pipefail -x "$folder.sh") >"$folder.log" 2>&1 </dev/null; then
    cat "$folder.log" >&2
    echo "the commands of $page fail" >&2
    exit 1
  fi
  echo "ok $page: $(grep -c '^+ bipo ' "$folder.log") runs of bipo, $((SECONDS - start)) s"
done
