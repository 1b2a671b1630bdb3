#!/usr/bin/env bash
# Runs the commands of README.md, docs/start.md and docs/strength.md as a reader would: every block of shell commands, page after page, in one
# temporary folder. A block behind a line `<!-- not run by the test: REASON -->` is left out, and named. Fetches the small model if it is not
# there. Computes for 650 seconds of processor time, five and a half minutes on two idle cores.
#
#   scripts/test-readme.sh [PROGRAM]     # default: target/release/bipo
set -euo pipefail
program=${1:+$(realpath "$1")}
cd "$(dirname "$0")/.."
program=${program:-$PWD/target/release/bipo}
[ -x "$program" ] || { echo "$program is no program: cargo build --release makes it" >&2; exit 2; }
export BIPO_CACHE="${BIPO_CACHE:-$PWD/target/bipo-cache}"
scripts/fetch-smollm2.sh >/dev/null
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/bin" "$work/reader"
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
  name=$(basename "$page" .md)
  commands_of "$page" >"$work/$name.sh"
  [ -s "$work/$name.sh" ] || { echo "$page has no commands to run" >&2; exit 1; }
  start=$SECONDS
  if ! (cd "$work/reader" && HF_HUB_OFFLINE=1 bash -euo pipefail -x "$work/$name.sh") >"$work/$name.log" 2>&1 </dev/null; then
    cat "$work/$name.log" >&2
    echo "the commands of $page fail" >&2
    exit 1
  fi
  echo "ok $page: $(grep -c '^+ bipo ' "$work/$name.log") runs of bipo, $((SECONDS - start)) s"
done
