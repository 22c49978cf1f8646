#!/usr/bin/env bash
# test-as-user.sh DIR: run the smoke test and those without root as an ordinary
# user, and print what `go test -json` would. Needs root; a user has run the
# tests as a user already. Nothing of the machine is changed: a TAP device that
# users may open is made in a mount namespace of its own.
set -uo pipefail
GO=${GO:-go}
dir=$1
package=weave/netns-tests-as-user
user=65534

skip() {
  local event='{"Action":"%s","Package":"'$package'","Test":"TestSmoke"%s}\n'
  # shellcheck disable=SC2059
  printf "$event" run ""
  # shellcheck disable=SC2059
  printf "$event" output ",\"Output\":\"    the pass as an ordinary user was left out: $1\\\\n\""
  # shellcheck disable=SC2059
  printf "$event" skip ""
  exit 0
}

[ "$(id -u)" -eq 0 ] || exit 0
command -v setpriv >/dev/null && command -v unshare >/dev/null || skip "setpriv and unshare are needed (package util-linux)"
CGO_ENABLED=0 "$GO" test -tags remote -c -o "$dir/netns.test" ./netns-tests >&2 || skip "the tests do not compile"
tool=$("$GO" tool -n test2json 2>/dev/null) || skip "go tool test2json is missing"
chmod -R a+rX "$dir"
install -d -m 700 -o $user -g $user "$dir/home" "$dir/dev"

# In there: a TAP device for everybody, then no privileges any more.
inside='
set -e
mount -t tmpfs -o mode=755 tmpfs "$1/dev"
if [ "$(stat -c %a /dev/net/tun 2>/dev/null)" != 666 ]; then
  mknod "$1/dev/tun" c 10 200
  chmod 666 "$1/dev/tun"
  mount --bind "$1/dev/tun" /dev/net/tun
fi
cd /
exec setpriv --reuid='$user' --regid='$user' --clear-groups env HOME="$1/home" TMPDIR="$1/home" WEAVE_BIN="$WEAVE_BIN" \
  "$1/netns.test" -test.v=test2json -test.run "^Test(Smoke|UsersAndRoot.*|RootlessRelaunch|RootlessExpose|RootlessEgress)$" -test.timeout 5m'
if ! unshare --mount --propagation private true 2>/dev/null; then
  skip "no mount namespace can be made here"
fi
unshare --mount --propagation private sh -c "$inside" sh "$dir" 2>&1 | "$tool" -t -p "$package"
