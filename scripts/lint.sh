#!/usr/bin/env bash
# lint.sh: all checks run, then the first failure decides the exit code.
set -uo pipefail
GO=${GO:-go}
bad=0

step() { # name, command...
  local name=$1
  shift
  local out
  if out=$("$@" 2>&1) && [ -z "$out" ]; then
    echo "ok    $name"
  else
    echo "FAIL  $name"
    printf '%s\n' "$out"
    bad=1
  fi
}

# What the tools download while they are fetched is not a finding.
mkdir -p bin
for tool in "$GOFUMPT" "$STATICCHECK"; do
  path=${tool%@*}
  stamp="bin/${path##*/}-${tool##*@}"
  if [ ! -x "$stamp" ]; then
    echo "fetching $tool …"
    GOBIN=$PWD/bin GOFLAGS= $GO install "$tool" || exit 1
    mv "bin/${path##*/}" "$stamp"
  fi
done

mapfile -t files < <(find . -name '*.go' -not -path './.*' -not -name '*.pb.go')
step gofumpt "bin/gofumpt-${GOFUMPT##*@}" -l "${files[@]}"
step "go vet" "$GO" vet ./...
step "go vet -tags remote" "$GO" vet -tags remote ./...
step staticcheck "bin/staticcheck-${STATICCHECK##*@}" ./...
step "staticcheck -tags remote" "bin/staticcheck-${STATICCHECK##*@}" -tags remote ./...
exit $bad
