#!/usr/bin/env bash
# Tests a running `bipo serve` with real clients (openai and LangChain from PyPI, openai from npm, curl), then with a load of 64 connections for
# a minute. Installs the clients under target/. Needs python3 with venv, node and npm, curl, and the small model (scripts/fetch-smollm2.sh).
#
#   scripts/test-serve.sh [SECONDS]
set -euo pipefail
cd "$(dirname "$0")/.."
export BIPO_CACHE="${BIPO_CACHE:-$PWD/target/bipo-cache}"
scripts/fetch-smollm2.sh >/dev/null
cargo build --release
dir="$PWD/target/serve-clients"
mkdir -p "$dir"
[ -d "$dir/venv" ] || python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet openai langchain-openai
cp tests/serve/clients.mjs "$dir"
(cd "$dir" && { [ -f package.json ] || npm init --yes >/dev/null; } && npm install --silent openai)
work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null; rm -rf "$work"' EXIT
bipo="$PWD/target/release/bipo"
"$bipo" train --quiet --method caa --dataset formal --limit 8 --output-dir "$work/v" >/dev/null
start() {
  [ -z "$server" ] || { kill "$server"; wait "$server"; ! grep -i panic "$work/log" >&2 || exit 1; }
  "$bipo" serve --vector "v=$work/v/steering_vector.safetensors:0.3" --port 0 "$@" 2>"$work/log" &
  server=$!
  address=
  for _ in $(seq 300); do
    address=$(sed -n 's|^serving on \(http://[^ ]*\): .*|\1|p' "$work/log")
    [ -z "$address" ] || return 0
    sleep 0.1
  done
  cat "$work/log" >&2
  return 1
}
start
"$dir/venv/bin/python" tests/serve/clients.py "$address/v1"
node "$dir/clients.mjs" "$address/v1"
curl --fail --silent "$address/v1/chat/completions" -H 'content-type: application/json' \
  -d '{"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3, "steering": "v:1"}' | grep -q '"chat.completion"'
echo "ok curl"
start --api-key secret
"$dir/venv/bin/python" tests/serve/clients.py "$address/v1" secret
# So little room for keys and values that all of it is in use after warming up.
start --kv-memory 200MB --context 1024
python3 tests/serve/load.py "$address" "$server" "${1:-60}"
kill "$server"
wait "$server"
server=
if grep -i panic "$work/log" >&2; then exit 1; fi
echo "ok: the server ended with success"
