#!/usr/bin/env bash
# Runs every fuzz target, or only the named ones: scripts/fuzz.sh MINUTES [JOBS] [TARGET…]. Needs nightly Rust and cargo-fuzz. For the
# first corpus it also needs a Python with numpy and gguf (set PYTHON if it is not python3). Exits with 1 if there is a finding, whose
# input is then in fuzz/artifacts. SANITIZER=none builds without the address sanitizer.
set -euo pipefail
cd "$(dirname "$0")/.."
minutes="${1:?expected the minutes to run each target: scripts/fuzz.sh MINUTES [JOBS] [TARGET…]}"
jobs="${2:-1}"
# libFuzzer would take 0 minutes as no limit.
for number in "$minutes" "$jobs"; do
  [[ $number =~ ^[1-9][0-9]*$ ]] || { echo "fuzz: $number is no whole number above 0: scripts/fuzz.sh MINUTES [JOBS] [TARGET…]" >&2; exit 2; }
done
shift $(($# < 2 ? $# : 2))
if [ $# -gt 0 ]; then targets=("$@"); else mapfile -t targets < <(cargo +nightly fuzz list); fi
host="$(rustc +nightly -vV | sed -n 's/^host: //p')"

cargo +nightly fuzz build --sanitizer "${SANITIZER:-address}" --codegen-units 16
[ -d fuzz/corpus ] || "${PYTHON:-python3}" fuzz/seeds.py

logs=fuzz/target/logs
mkdir -p "$logs"
run() {
  mkdir -p "fuzz/corpus/$1" "fuzz/artifacts/$1"
  local status=0 leaks=1
  # Its server runs until the process ends, and holds memory then.
  [ "$1" != request_body ] || leaks=0
  "fuzz/target/$host/release/$1" "fuzz/corpus/$1" -artifact_prefix="fuzz/artifacts/$1/" -max_total_time=$((minutes * 60)) \
    -rss_limit_mb=2048 -detect_leaks="$leaks" -malloc_limit_mb=1024 -timeout=10 -print_final_stats=1 >"$logs/$1.log" 2>&1 || status=$?
  echo "$status" >"$logs/$1.status"
}
for target in "${targets[@]}"; do
  while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n || true; done
  run "$target" &
done
wait

findings=0
printf '%-18s %12s %10s  %s\n' target runs coverage findings
for target in "${targets[@]}"; do
  log="$logs/$target.log"
  # The last line of progress is read, because a run that a signal ended has no final statistics.
  runs="$(grep -aoE '^#[0-9]+' "$log" | tail -1 | tr -d '#')" || runs=0
  coverage="$(grep -aoE ' cov: [0-9]+' "$log" | tail -1 | grep -oE '[0-9]+')" || coverage=0
  finding=none
  if [ "$(cat "$logs/$target.status")" != 0 ]; then
    finding="$(grep -aoE "fuzz/artifacts/$target/[a-z-]+[0-9a-f]{40}" "$log" | tail -1)" || finding="see $log"
    findings=$((findings + 1))
  fi
  printf '%-18s %12s %10s  %s\n' "$target" "$runs" "$coverage" "$finding"
done
[ "$findings" = 0 ]
