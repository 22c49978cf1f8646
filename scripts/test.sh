#!/usr/bin/env bash
# test.sh: every test of the project. The last line is "N passed, N failed, N skipped".
#
# As root the namespace tests run as root, and a smoke test runs once more as
# an ordinary user in a user namespace. As a user they run in a user namespace.
set -uo pipefail
GO=${GO:-go}
cd "$(dirname "$0")/.."
export PATH=$PATH:/usr/sbin:/sbin

if ! scripts/tools.sh nft ip ping; then
  [ "$(id -u)" -ne 0 ] || exit 1
  echo "Going on without; what needs them is skipped."
fi
# Container engines: their tests are root's alone.
if [ "$(id -u)" -eq 0 ] && ! scripts/tools.sh dockerd docker docker-compose podman runc newuidmap slirp4netns busybox nsenter script iptables; then
  [ "${CI:-}" != true ] || exit 1
  echo "Going on without container engines; their tests are skipped."
fi
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
chmod 755 "$tmp"

race=(-race)
cgo=1
if ! command -v "${CC:-gcc}" >/dev/null && ! command -v cc >/dev/null; then
  echo "No C compiler: the tests run without the race detector. Install gcc to have it."
  race=()
  cgo=0
fi

# The summary is built first, so that a tree that does not compile is still reported readably.
"$GO" build -o "$tmp/testsummary" ./scripts/testsummary || exit 1
echo "Building weave …"
CGO_ENABLED=0 "$GO" build -tags remote -o "$tmp/weave" ./cmd/weave || { echo "0 passed, 1 failed, 0 skipped"; exit 1; }
export WEAVE_BIN=$tmp/weave

# make lint runs go vet, so that the tests need not.
# In these packages nothing can race: no goroutine is started there.
plain=(./internal/sim ./ipam ./policy)
mapfile -t others < <("$GO" list -tags remote ./... | grep -Ev '/netns-tests|/(internal/sim|ipam|policy)$')
mapfile -t harness < <("$GO" list -tags remote ./netns-tests/... | grep '/netns-tests/')
# Tests with real engines. They measure no time, so that others may run beside them.
engines='Engine|Docker|Podman|Proxy'
# named gives what a package's tests print another package's name, so that the summary tells passes apart.
named() { sed 's#"Package":"weave/netns-tests"#"Package":"'"$1"'"#'; }
netns() { CGO_ENABLED=$cgo "$GO" test -vet=off -tags remote "${race[@]}" -count=1 -timeout 20m -json ./netns-tests "$@"; }
# The daemons themselves under the race detector, where most of their goroutines have work; its reports fail the tests.
racing_daemons() {
  CGO_ENABLED=1 "$GO" build -race -tags remote -o "$tmp/weave-race" ./cmd/weave || {
    printf '{"Action":"%s","Package":"weave/netns-tests-race"}\n' start fail
    return
  }
  WEAVE_BIN=$tmp/weave-race CGO_ENABLED=1 "$GO" test -vet=off -tags remote -count=1 -timeout 10m -json ./netns-tests \
    -run '^(TestTraffic|TestKilledAndLaunchedAgain|TestAttachAndDetachAddresses|TestLoss|TestOneAddressMakesAFullMesh)$' |
    named weave/netns-tests-race
}
# Namespace tests wait for half of their time, so others run beside them.
beside() {
  CGO_ENABLED=0 "$GO" test -vet=off -tags remote -count=1 -timeout 10m -json "${plain[@]}"
  CGO_ENABLED=$cgo "$GO" test -vet=off -tags remote "${race[@]}" -count=1 -timeout 10m -p 1 -json "${harness[@]}"
  netns -run "$engines" | named weave/netns-tests/engines
  if [ "$cgo" = 1 ]; then racing_daemons; fi
  scripts/test-as-user.sh "$tmp"
}
everything() {
  CGO_ENABLED=$cgo "$GO" test -vet=off -tags remote "${race[@]}" -count=1 -timeout 10m -json "${others[@]}"
  beside >"$tmp/beside.json" &
  netns -skip "$engines"
  wait
  cat "$tmp/beside.json"
}

strict=()
if [ "$(id -u)" -eq 0 ] && [ "${CI:-}" = true ]; then
  strict=(-no-skips weave/netns-tests,weave/tun,weave/runtime,weave/peer,weave/bench,weave/internal) # real-kernel tests must not be skipped where nothing prevents them
fi
everything | "$tmp/testsummary" "${strict[@]}"
code=${PIPESTATUS[1]}
exit "$code"
