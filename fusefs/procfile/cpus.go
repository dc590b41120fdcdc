// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package procfile

import "github.com/podproc/podproc/fusefs/view"

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
// root. CPUs of the cpuset that are not online (it was read while one went
// away) do not count and are dropped from v.Cpuset; a cpuset without any (the
// kernel does not say) counts as the host's.
func CountCPUs(v *view.CPU, host *HostOnline) CPUs {
	v.Cpuset = host.keep(v.Cpuset)
	c := CPUs{Host: v.Cpuset}
	if len(c.Host) == 0 {
		c.Host = host.CPUs
	}
	size := len(c.Host)
	c.N = max(1, size)
	if v.Quota != view.Unlimited {
		c.N = max(1, int(v.Quota.Or(uint64(size)*1000)+999)/1000)
	}
	c.Limited, c.Whole = c.N < len(host.CPUs), c.N == size
	return c
}

// keep drops from cpus, which is ascending, what is not online.
func (h *HostOnline) keep(cpus []int) []int {
	kept, next := 0, 0
	for _, c := range cpus {
		for next < len(h.CPUs) && h.CPUs[next] < c {
			next++
		}
		if next < len(h.CPUs) && h.CPUs[next] == c {
			if cpus[kept] != c {
				cpus[kept] = c
			}
			kept++
		}
	}
	return cpus[:kept]
}

// label returns the number under which the i-th CPU is shown.
func (c *CPUs) label(i int) int {
	if c.Limited || i >= len(c.Host) {
		return i
	}
	return c.Host[i]
}
