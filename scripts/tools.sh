#!/usr/bin/env bash
# tools.sh TOOL…: make sure that these programs are there.
# As root the missing ones are installed; as a user they are named.
set -euo pipefail

# Podman prefers crun where it is installed, which some machines' control groups do not suit: runc is named with it.
declare -A package=(
  [nft]=nftables [ip]=iproute2 [iperf3]=iperf3 [tincd]=tinc [fastd]=fastd [dockerd]="docker.io" [docker]="docker.io" [runc]=runc
  [podman]="podman runc netavark aardvark-dns uidmap slirp4netns fuse-overlayfs" [busybox]=busybox-static [nsenter]=util-linux [script]=bsdutils
  [iptables]=iptables [ping]=iputils-ping [docker-compose]=docker-compose [newuidmap]=uidmap [slirp4netns]=slirp4netns
  [linux.uml]=user-mode-linux [qemu-system-x86_64]=qemu-system-x86 [modprobe]=kmod
)
missing=()
PATH=$PATH:/usr/sbin:/sbin
for tool in "$@"; do
  # shellcheck disable=SC2206 # several packages
  command -v "$tool" >/dev/null || missing+=(${package[$tool]})
done
if [ ${#missing[@]} -eq 0 ]; then
  exit 0
fi
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  echo "Missing packages: ${missing[*]}. Install them (as root: apt-get install ${missing[*]}) and try again." >&2
  exit 1
fi
echo "Installing ${missing[*]} …"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
if ! { apt-get update && apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
  tail -20 "$log" >&2
  exit 1
fi
rm -f "$log"
