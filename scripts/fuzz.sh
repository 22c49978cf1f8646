#!/usr/bin/env bash
# fuzz.sh TIME: give every fuzz target that much time.
set -euo pipefail
GO=${GO:-go}
while IFS=: read -r file name; do
  echo "== $name in $(dirname "$file")"
  "$GO" test -run '^$' -fuzz "^$name\$" -fuzztime "${1:-10s}" "./$(dirname "$file")"
done < <(grep -rhoH --include='*_test.go' -E '^func Fuzz[A-Za-z0-9_]+' . | sed -E 's|^\./||; s|:func |:|')
