#!/usr/bin/env bash
# Installs Chromium and its driver from the distribution, where they are not there: the gateway's page is tested in them.
set -euo pipefail
command -v chromium >/dev/null && command -v chromedriver >/dev/null && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "error: \`make test\` needs chromium and chromedriver on the PATH; install them (Debian: chromium, chromium-driver)" >&2
  exit 1
fi
apt-get update -qq >&2
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium chromium-driver >&2
