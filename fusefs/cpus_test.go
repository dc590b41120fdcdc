// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package fusefs

import (
	"slices"
	"testing"
	"time"

	"github.com/podproc/podproc/fusefs/cgroup"
	"github.com/podproc/podproc/fusefs/view"
)

// What files share of a container is as old as when it was read, says so, and
// is nobody's to change.
func TestSharedCPUs(t *testing.T) {
	const moment, read = 25 * time.Millisecond, time.Hour
	c := newContainer(cgroup.Boundary{}, nil)
	c.cpu, c.cpuAt = view.CPU{Quota: 1500, Cpuset: []int{2, 3}}, read
	var v view.CPU
	for _, now := range []time.Duration{read, read + moment - 1} {
		at := now
		err := c.cpus(nil, &at, moment, &v) // nil: nothing is read
		if err != nil || at != read || v.Quota != 1500 || !slices.Equal(v.Cpuset, []int{2, 3}) {
			t.Errorf("%s after the read: %+v of %s, %v", now-read, v, at, err)
		}
		v.Cpuset[0] = 7
	}
}
