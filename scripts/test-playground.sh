#!/usr/bin/env bash
# Drives the playground in Chromium against `bipo serve` of the small model, with a vector for cheerfulness that a full `bipo train` gives, the
# curve of an evaluation and a condition; then takes pictures of each view at three widths, light and dark. Needs chromium, node, curl, python3
# with venv, and the small model (scripts/fetch-smollm2.sh). openai from PyPI is installed under target/serve-clients. The vector is learned once (about ten minutes on two cores) and kept under target/.
#
#   scripts/test-playground.sh [PICTURES]
#
# docs/playground.png is PICTURES/playground.png. BIPO names another program than target/release/bipo, which is built.
set -euo pipefail
[ -z "${BIPO:-}" ] || BIPO=$(realpath "$BIPO")
pictures=${1:+$(realpath -m "$1")}
cd "$(dirname "$0")/.."
root="$PWD"
export BIPO_CACHE="${BIPO_CACHE:-$root/target/bipo-cache}"
scripts/fetch-smollm2.sh >/dev/null
if [ -z "${BIPO:-}" ]; then
  cargo build --release
  BIPO="$root/target/release/bipo"
fi
export BIPO
clients="$root/target/serve-clients"
[ -d "$clients/venv" ] || python3 -m venv "$clients/venv"
"$clients/venv/bin/pip" install --quiet openai
export PYTHON="$clients/venv/bin/python"
pictures=${pictures:-$root/target/playground/pictures}
work="$root/target/playground"
mkdir -p "$work"
cd "$work"
if [ ! -f cheerful.safetensors ]; then
  "$BIPO" train --quiet --model smollm2 --output-dir run --overwrite
  "$BIPO" calibrate --quiet --model smollm2 --vector run/steering_vector.safetensors --save
  cp run/steering_vector.safetensors cheerful.safetensors
fi
[ -f eval.json ] || {
  "$BIPO" eval --quiet --model smollm2 --vector cheerful.safetensors --dataset cheerful-heldout --limit 24 --magnitudes=-4..4:1 \
    --skip generation --json >eval.tmp
  mv eval.tmp eval.json
}
"$BIPO" convert --quiet cheerful.safetensors taken-out.safetensors --operation ablate --force >/dev/null
cat >need.txt <<'TEXT'
How long should I roast a chicken?
What goes well with grilled fish?
How do I keep rice from sticking?
Which spices do I need for a curry?
How do I bake a simple bread?
What can I cook with leftover potatoes?
How do I poach an egg?
How much salt goes into pasta water?
TEXT
cat >rest.txt <<'TEXT'
How long does a letter take to Japan?
What goes well with a blue jacket?
How do I keep a door from squeaking?
Which tools do I need for a bicycle?
How do I draw a simple map?
What can I do with old newspapers?
How do I fold a paper plane?
How much air goes into a car's tyre?
TEXT
"$BIPO" train --quiet --model smollm2 --method condition --dataset need.txt --against rest.txt --output-dir condition --overwrite >/dev/null
cp condition/condition.safetensors cooking.safetensors
"$BIPO" serve --model smollm2 --vector cheerful=cheerful.safetensors --vector taken-out=taken-out.safetensors --when cooking=cooking.safetensors \
  --eval cheerful=eval.json --port 0 2>log &
server=$!
trap 'kill "$server" 2>/dev/null || true' EXIT
address=
for _ in $(seq 300); do
  address=$(sed -n 's|^serving on \(http://[^ ]*\): .*|\1|p' log)
  [ -z "$address" ] || break
  sleep 0.1
done
[ -n "$address" ] || { cat log >&2; exit 1; }
node "$root/tests/playground/views.mjs" --url "$address"
node "$root/tests/playground/real.mjs" --url "$address" --screenshots "$pictures"
echo "ok: pictures in $pictures"
