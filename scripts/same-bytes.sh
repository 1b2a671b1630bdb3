#!/usr/bin/env bash
# Prints the SHA-256 of each file that bipo's commands write. A change to the code that must not change any result is checked with it:
# run it with the old program and with the new program on the same machine, and compare the two lists with diff.
#
#   scripts/same-bytes.sh OLD > old.txt; scripts/same-bytes.sh NEW > new.txt; diff old.txt new.txt
#
# It uses SmolLM2-135M-Instruct from bipo's cache directory (scripts/fetch-smollm2.sh) and the tiny models of tests/fixtures. It removes
# wall-clock times from metrics.jsonl and from JSON results before it hashes them. It takes about four minutes on two cores.
set -euo pipefail
[ $# -eq 1 ] || { echo "usage: scripts/same-bytes.sh BIPO" >&2; exit 2; }
bipo=$(realpath "$1")
cd "$(dirname "$0")/.."
export BIPO_CACHE="${BIPO_CACHE:-$PWD/target/bipo-cache}"
scripts/fetch-smollm2.sh >/dev/null
tiny=$PWD/tests/fixtures/llama
fixtures=$PWD/tests/fixtures/vectors
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

# Runs bipo. A failure is also a result: its exit code and message are hashed.
run() {
  "$bipo" "$@" --quiet 2>errors || { echo "exit $?" >>errors; }
  [ ! -s errors ] || { cat errors >&2; sed "s|$work||g" errors >errors.txt; hash "errors of: $*" errors.txt; }
}

# hash NAME FILE: prints the hash of FILE, without wall-clock times, under NAME.
hash() {
  local name=$1 file=$2
  [ -f "$file" ] || { echo "missing  $name"; return; }
  case "$file" in
    *.jsonl | *.json)
      sed -E 's/"[a-z_]*(seconds|_s|peak_memory_bytes)": ?[0-9.eE+-]+//g' "$file" | sha256sum | sed "s|-\$|$name|"
      ;;
    *) sha256sum <"$file" | sed "s|-\$|$name|" ;;
  esac
}

hash_run() {
  for file in steering_vector.safetensors metrics.jsonl config.json README.md training.svg; do
    hash "$1/$file" "$1/$file"
  done
}

# into NAME MODEL FLAG...: runs `bipo train` with the output folder NAME and prints the hashes of its files.
into() {
  local name=$1 model=$2
  shift 2
  run train --offline --model "$model" --output-dir "$name" --limit 10 --threads 2 "$@" >"$name.out"
  hash_run "$name"
}

# train MODEL NAME FLAG...: as `into`, with settings at which the vector changes in every run.
train() {
  local model=$1 name=$2
  shift 2
  into "$name" "$model" --epochs 1 --warmup-steps 1 --lr 0.01 "$@"
}

both() {
  local name=$1
  shift
  train smollm2 "small-$name" "$@"
  # The tiny model does not have the layers 10 and 14.
  local flags=()
  for flag in "$@"; do
    [ "$flag" = 10,14 ] && flag=0,1
    flags+=("$flag")
  done
  train "$tiny" "tiny-$name" --template plain "${flags[@]}"
}

both defaults --eval-dataset cheerful-heldout --max-steps 3
both layers --layers 10,14
both prompt --positions prompt
both response --positions response
both last --positions last
# `first` and `last` of a number count the prompt's own tokens, which the template knows; the tiny model alone shows that.
train "$tiny" tiny-first-2 --template plain --positions first:2
train "$tiny" tiny-last-2 --template plain --positions last:2
train "$tiny" tiny-joined --template plain --positions first:1+last:1+response
both user --spans user
both assistant --spans assistant
both both-signs --direction both
both uniform --direction uniform --scheduler linear
into small-caa smollm2 --method caa
into tiny-caa "$tiny" --template plain --method caa
train smollm2 small-quantized --weights quantized
train smollm2 small-bf16 --dtype bf16 --max-steps 2

# This run is stopped after its first checkpoint and then resumed.
long=(--offline --model "$tiny" --template plain --output-dir tiny-resumed --limit 10 --epochs 100 --warmup-steps 1 --lr 0.01 --threads 2
  --checkpoint-every 1 --quiet)
"$bipo" train "${long[@]}" >/dev/null 2>&1 &
until compgen -G 'tiny-resumed/*checkpoint*' >/dev/null || ! kill -0 $! 2>/dev/null; do :; done
kill -INT $! || true
wait $! || true
run train "${long[@]/--quiet/--resume}" >/dev/null
hash_run tiny-resumed

vector=small-defaults/steering_vector.safetensors
sweep() {
  local name=$1
  shift
  run steer --offline --json --prompt "How was your day?" --max-new-tokens 24 --threads 2 "$@" >"$name.json"
  hash "$name" "$name.json"
}
sweep sweep --vector "$vector" --magnitudes=-8,0,8
sweep sweep-quantized --vector "$vector" --magnitudes=-8,0,8 --weights quantized
sweep sweep-sampled --vector "$vector" --magnitudes=-8,8 --temperature 0.8 --top-k 40 --top-p 0.9 --repeat-penalty 1.1
sweep sweep-response --vector small-response/steering_vector.safetensors --magnitudes 0,4
sweep sweep-layers --vector small-layers/steering_vector.safetensors --magnitudes 0,4
sweep sweep-joined --model "$tiny" --template plain --vector tiny-joined/steering_vector.safetensors --magnitudes=-8,0,8
sweep sweep-tiny --model "$tiny" --template plain --vector tiny-defaults/steering_vector.safetensors --magnitudes=-8,0,8

run eval --offline --vector "$vector" --dataset cheerful-heldout --limit 8 --magnitudes=-2,0,2 --baseline random \
  --max-new-tokens 16 --per-pair per-pair.jsonl --csv eval.csv --plot eval.svg --json --threads 2 >eval.json
for file in per-pair.jsonl eval.csv eval.svg eval.json; do hash "eval/$file" "$file"; done

run layers --offline --model "$tiny" --template plain --layers 0,1 --limit 10 --max-steps 2 --json --threads 2 >layers.json
hash layers layers.json
run inspect --offline --model smollm2 --json "$vector" --threads 2 >inspect.json
hash inspect inspect.json

run merge --offline --model "$tiny" --vector tiny-defaults/steering_vector.safetensors --magnitude 2 --output-dir merged >/dev/null
for file in config.json model.safetensors; do hash "merge/$file" "merged/$file"; done

for format in safetensors gguf pt npy svec json; do
  run convert "$vector" "converted.$format" >/dev/null
  hash "convert/$format" "converted.$format"
done
run convert "$vector:2" small-caa/steering_vector.safetensors:-0.5 sum.safetensors --force >/dev/null
hash convert/sum sum.safetensors
for file in "$fixtures"/*.{pt,npy,svec,gguf}; do
  run convert "$file" read.json --layer 1 --force >/dev/null
  hash "convert/$(basename "$file")" read.json
done
