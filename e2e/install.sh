#!/usr/bin/env bash
# Installs the Debian packages that the e2e tests use, where they are missing.
# Needs root. The programs that are built from Go modules come by themselves:
# see e2e/tools.
set -euo pipefail

packages=(
  docker.io containerd runc # the daemons, and a docker client with "docker trust"
  skopeo podman             # clients that share one library
  notary                    # the notary server and client
  debootstrap               # makes the genuine Webdis image
  chromium fonts-dejavu-core # looks at the status page
  prometheus                # loads the alert rules and asks what the dashboard asks
  nginx                     # serves files, to measure against
  iproute2 util-linux       # ip and unshare, for the tests' own network
  busybox-static            # the shell of the image in which trustmirror is built
  ca-certificates           # goes into that image, and from there into trustmirror's
  systemd                   # systemd-analyze, which checks the unit; it isn't started
)

missing=()
for package in "${packages[@]}"; do
  if ! dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed; then
    missing+=("$package")
  fi
done
# Making the Webdis image asks apt for its mirror, which it knows after an update.
if [ "$(id -u)" -eq 0 ] && ! apt-get indextargets --format '$(LABEL)' 'Created-By: Packages' | grep -x Debian >/dev/null; then
  apt-get update -qq
fi
if [ ${#missing[@]} -eq 0 ]; then
  echo "e2e: all Debian packages are installed"
  exit 0
fi
if [ "$(id -u)" -ne 0 ]; then
  echo "e2e: NOT INSTALLED, for want of root: ${missing[*]}" >&2
  exit 0 # the tests say that they are skipped
fi
echo "e2e: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -qq --yes --no-install-recommends "${missing[@]}"
