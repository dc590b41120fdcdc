#!/bin/bash
# Copyright The podproc Authors.
# SPDX-License-Identifier: Apache-2.0
#
# fuzz.sh [TIME] - run every fuzz target of the module for TIME (3m).
set -euo pipefail
cd "$(dirname "$0")/.."

for package in $(go list ./...); do
	for target in $(go test -list '^Fuzz' "$package" | grep '^Fuzz' || true); do
		go test -run '^$' -fuzz "^$target\$" -fuzztime "${1:-3m}" "$package"
	done
done
