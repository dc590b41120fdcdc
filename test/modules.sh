#!/bin/bash
# Copyright The podproc Authors.
# SPDX-License-Identifier: Apache-2.0
#
# modules.sh - download the modules of every go.mod here; a lost connection is
# tried again.
set -euo pipefail
cd "$(dirname "$0")/.."

try() {
	local wait
	for wait in 15 30 60 0; do
		"$@" > /dev/null && return
		sleep $wait
	done
	echo "modules: $* failed" >&2
	return 1
}
try go mod download # also what only go mod tidy wants
try go list -modfile=test/tools/go.mod -deps honnef.co/go/tools/cmd/staticcheck
try go -C test/deploy/helm list -deps helm.sh/helm/v4/cmd/helm
for dir in k8s certmanager; do
	try go -C test/cluster/$dir list -deps .
done
