#!/usr/bin/env bash
# Checks that the library's version says what changed in its public interface (cargo-semver-checks), against the last tag of a version
# or a revision: scripts/semver.sh [REVISION]. Without a tag there is nothing to compare with. Installs the tool into target/tools.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=$PWD/target/tools
baseline=${1:-$(git describe --tags --match 'v*' --abbrev=0 HEAD^ 2>/dev/null || true)}
if [ -z "$baseline" ]; then
  echo "semver: no version has a tag yet: there is nothing to compare with" >&2
  exit
fi
[ -x "$tools/bin/cargo-semver-checks" ] || cargo install --quiet --locked --root "$tools" cargo-semver-checks@0.51.0
PATH="$tools/bin:$PATH" cargo semver-checks --baseline-rev "$baseline"
