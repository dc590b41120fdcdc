#!/bin/bash
# Copyright The podproc Authors.
# SPDX-License-Identifier: Apache-2.0
#
# run.sh - the same commands on this machine and in a container of 256 MiB and
# one CPU, side by side.
set -euo pipefail
cd "$(dirname "$0")/.."

show() {
	local outside inside
	outside=$(bash -c "$1" | cut -c1-80)
	inside=$(bin/podproc run --memory 256Mi --cpus 1 -- bash -c "$1" | cut -c1-80)
	printf '\n$ %s\n' "$1"
	paste -d'\t' <(echo "$outside") <(echo "$inside") |
		awk -F'\t' 'BEGIN { printf "%-81s| %s\n", "  on this machine", "  in the container" } { printf "%-81s| %s\n", $1, $2 }'
}

show 'free -m'
show 'top -bn1 | head -5'
show 'getconf _NPROCESSORS_ONLN'
show 'grep -c ^processor /proc/cpuinfo'
show "python3 -c 'import os; print(os.cpu_count())'"
