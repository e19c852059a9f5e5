#!/bin/sh
# debian_package.sh FILE PACKAGE: install PACKAGE where FILE (a pattern) is absent, as root on Debian.
set -eu
file=$1 package=$2
for found in $file; do  # unquoted: the pattern is matched here
    [ ! -x "$found" ] || exit 0
done
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "$file is absent: install it (on Debian, as root: apt-get install $package)." >&2
    exit 1
fi
echo "Installing Debian's package $package"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "$package" </dev/null >/dev/null
