#!/bin/bash
# Copyright The podproc Authors.
# SPDX-License-Identifier: Apache-2.0
#
# deps.sh [PACKAGE...] - install what is missing of these Debian packages,
# without arguments of those in packages.txt. Starts none of their services.
set -euo pipefail
cd "$(dirname "$0")"

wanted=("$@")
[ $# -gt 0 ] || mapfile -t wanted < <(sed 's/#.*//' packages.txt | grep -oE '[^ ]+')
have=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "${wanted[@]}" 2>/dev/null | sed -n 's/^installed //p' || true)
mapfile -t missing < <(printf '%s\n' "${wanted[@]}" | grep -vxF "$have" || true)
[ ${#missing[@]} -gt 0 ] || exit 0

[ "$(id -u)" = 0 ] || { echo "deps: run as root, or install: ${missing[*]}" >&2; exit 1; }
echo "deps: installing ${missing[*]}"

# Debian's packages start their daemons (containerd, lxcfs) unless told not to.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
	trap 'rm -f $policy' EXIT
	printf '#!/bin/sh\nexit 101\n' > $policy
	chmod +x $policy
fi
install() {
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
		-o Acquire::Retries=5 -o DPkg::Lock::Timeout=900 -o Dpkg::Use-Pty=0 "${missing[@]}" > "$log" 2>&1
}
update() {
	apt-get update -qq -o APT::Update::Error-Mode=any -o Acquire::Retries=5
}
log=$(mktemp)
for wait in 0 20 60 120; do # apt may run by itself on a machine that has just booted
	sleep $wait
	if install || { update && install; }; then
		rm -f "$log"
		exit 0
	fi
done
cat "$log" >&2
exit 1
