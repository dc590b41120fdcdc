// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package inject

// DefaultFiles returns the names of the files that are injected by default.
func DefaultFiles() []string {
	return []string{"meminfo", "cpuinfo", "stat", "swaps", "cpu/online"}
}
