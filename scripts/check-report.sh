#!/usr/bin/env bash
# Opens the page of a real `bipo steer --report` in headless Chromium: light, dark, and as wide as a phone. Fails where the page
# asks the network for anything, logs to the console, or lacks its texts. Leaves the page and its screenshots in DIR.
# Usage: scripts/check-report.sh [DIR]   (default target/report)
set -euo pipefail
cd "$(dirname "$0")/.."
dir="${1:-target/report}"
mkdir -p "$dir"
dir="$(cd "$dir" && pwd)"
fail() { echo "check-report: $1" >&2; exit 1; }

if ! command -v chromium >/dev/null; then
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || fail "chromium not found: install it (Debian: apt-get install chromium)"
  echo "installing chromium" >&2
  apt-get update -qq && apt-get install -y -qq chromium >/dev/null
fi

export BIPO_CACHE="${BIPO_CACHE:-$PWD/target/bipo-cache}"
scripts/fetch-smollm2.sh >/dev/null
cargo build --release --quiet
bipo=target/release/bipo
$bipo train --quiet --offline --eval-dataset cheerful-heldout --epochs 3 --output-dir "$dir/run" --overwrite >/dev/null
$bipo steer --quiet --offline --vector "$dir/run/steering_vector.safetensors" --magnitudes -2..2:1 --max-new-tokens 60 \
  --prompt "How was your day?" --prompt "What do you think of <b>rain</b> & 'snow'?" --report "$dir/page.html" >/dev/null

# A window is at least 500 pixels wide, so the phone is a frame in one.
printf '<!DOCTYPE html><body style="margin:0"><iframe src="page.html" style="border:0;width:390px;height:3600px"></iframe>' >"$dir/phone.html"

# browse NAME FILE SIZE FLAG…: opens a file, leaves NAME.png, NAME.html (its DOM), NAME.log and NAME.net.json.
browse() {
  local name="$1" file="$2" size="$3" profile
  shift 3
  profile="$(mktemp -d)"
  local flags=(--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
    --disable-component-update --disable-sync --host-resolver-rules="MAP * ~NOTFOUND" --hide-scrollbars --enable-logging=stderr --window-size="$size" "$@")
  chromium "${flags[@]}" --user-data-dir="$profile" --log-net-log="$dir/$name.net.json" --screenshot="$dir/$name.png" \
    "file://$dir/$file" 2>"$dir/$name.log" >/dev/null || fail "chromium failed: see $dir/$name.log"
  chromium "${flags[@]}" --user-data-dir="$profile" --dump-dom "file://$dir/$file" 2>/dev/null >"$dir/$name.html"
  rm -rf "$profile"
  [ -s "$dir/$name.png" ] || fail "no screenshot $name.png"
  ! grep -q ":CONSOLE" "$dir/$name.log" || fail "$name: $(grep -m1 ":CONSOLE" "$dir/$name.log")"
  python3 - "$dir/$name.net.json" <<'PY' || fail "$name: the page asks the network"
import json, sys
log = json.load(open(sys.argv[1]))
start = log["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"]
starts = (event.get("params", {}) for event in log["events"] if event["type"] == start)
# What the browser asks for by itself has no page as its initiator.
urls = (job["url"] for job in starts if "url" in job and job.get("initiator") != "not an origin")
asked = [url for url in urls if not url.startswith(("file:", "data:"))]
print(*asked, sep="\n", file=sys.stderr)
sys.exit(bool(asked))
PY
}

browse light page.html 1280,1700 --blink-settings=preferredColorScheme=1
browse dark page.html 1280,1700 --blink-settings=preferredColorScheme=0
browse phone phone.html 500,3600 --blink-settings=preferredColorScheme=1
for text in "How was your day?" "&lt;b&gt;rain&lt;/b&gt; &amp; 'snow'?" "<h2>Settings</h2>" "Seed <strong>11</strong>" "bipo steer --quiet"; do
  grep -qF -- "$text" "$dir/light.html" || fail "the page lacks: $text"
done
echo "$(wc -c <"$dir/page.html") bytes: $dir/page.html; screenshots light.png, dark.png and phone.png beside it"
