#!/usr/bin/env bash
# Changes README.md and pyproject.toml of a copy of the sources for a package index, whose pages have no folder docs: links lead to the
# repository, which is named. The release workflow does so before it builds wheels and the source distribution.
#
# usage: scripts/readme-links.sh REPOSITORY REF [FOLDER]
#   REPOSITORY  an address, such as https://github.com/owner/bipo
#   REF         a tag or commit there
#   FOLDER      the copy (default: this one)
set -euo pipefail
[ $# -ge 2 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2; }
repository=$1 ref=$2
cd "${3:-$(dirname "$0")/..}"
if grep -q '^\[project.urls\]' pyproject.toml; then
  echo "readme-links: pyproject.toml names a repository already" >&2
  exit 1
fi
link='[A-Za-z][A-Za-z0-9_./-]*'
sed -E -e "s|(!\[[^]]*\])\(($link)\)|\1($repository/raw/$ref/\2)|g" -e "s|\]\(($link(#[^)]*)?)\)|]($repository/blob/$ref/\1)|g" \
  README.md >README.md.linked
mv README.md.linked README.md
printf '\n[project.urls]\nRepository = "%s"\nDocumentation = "%s/tree/%s/docs"\n' "$repository" "$repository" "$ref" >>pyproject.toml
