// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package procfile

import (
	"slices"

	"github.com/podproc/podproc/fusefs/view"
)

// CPUs is the CPUs of a container as every file shows them. The zero value
// stands for the host's.
type CPUs struct {
	// N is how many there are, at least 1.
	N int
	// Limited tells that N is less than the host has. The container's CPUs
	// are numbered 0 to N-1 then; otherwise they bear the host's numbers.
	Limited bool
	// Whole tells that the container may use no CPU but these N, so that
	// what the kernel counts per CPU can be shown as it is.
	Whole bool
	// Host is the host's numbers of the CPUs that the container may use,
	// ascending; the first N are shown. It belongs to what it was counted
	// from and is valid as long as that is.
	Host []int
}

// CountCPUs counts the CPUs of a container:
//
//	N = min(ceil(quota), size of the effective cpuset), at least 1
//
// where the quota is the smallest over all levels from the boundary to the
// root. A cpuset that is empty (the kernel does not say) or has no online CPU
// (it was read while one went away) counts as the host's.
func CountCPUs(v *view.CPU, host *HostOnline) CPUs {
	usable := v.Cpuset
	size := 0
	for _, c := range usable {
		if host.has(c) {
			size++
		}
	}
	if size == 0 {
		usable, size = host.CPUs, len(host.CPUs)
	}
	n := size
	if v.Quota != view.Unlimited {
		n = min(n, int(max(1, v.Quota.Or(uint64(size)*1000)+999)/1000))
	}
	n = max(1, n)
	c := CPUs{N: n, Limited: n < len(host.CPUs), Whole: n == size, Host: usable}
	if !c.Limited {
		c.Host = host.CPUs
	}
	return c
}

// label returns the number under which the i-th CPU is shown.
func (c *CPUs) label(i int) int {
	if c.Limited || i >= len(c.Host) {
		return i
	}
	return c.Host[i]
}

// has tells whether the host has CPU c online.
func (h *HostOnline) has(c int) bool {
	_, ok := slices.BinarySearch(h.CPUs, c)
	return ok
}
