// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"sync"
	"testing"
)

// TestCPU: what top and vmstat show is the container's use of its own CPUs.
func TestCPU(t *testing.T) {
	need(t, "top", "vmstat")
	two := min(2, hostCPUs(t))
	tests := []struct {
		name  string
		flags []string
		cpus  int // that the container sees
		loops int
		host  bool       // keep the machine busy from outside
		want  [2]float64 // percent, where the accounting agrees
	}{
		{"loop in one CPU", []string{"--cpus", "1"}, 1, 1, false, [2]float64{95, 100}},
		{"loop in two CPUs", []string{"--cpus", "2"}, two, 1, false, [2]float64{100/float64(two) - 2, 100/float64(two) + 2}},
		{"loop throttled to half a CPU", []string{"--cpus", "0.5"}, 1, 1, false, [2]float64{45, 55}},
		{"loops without a limit", []string{"--memory", "128Mi"}, hostCPUs(t), hostCPUs(t), false, [2]float64{95, 100}},
		// LXCFS 7 shows the machine's CPUs on v2: 100 % in the first of
		// these, 8 % in the second.
		{"idle beside a busy machine", []string{"--cpus", "1"}, 1, 0, true, [2]float64{0, 3}},
		{"idle without a limit of CPU beside a busy machine", []string{"--memory", "128Mi"}, hostCPUs(t), 0, true, [2]float64{0, 3}},
		{"busy on another CPU than the first", []string{"--cpuset", last(t)}, 1, 1, false, [2]float64{95, 100}},
	}
	for _, tt := range tests {
		if testing.Short() && tt.loops > 1 {
			continue // busy without a limit: the first case, but for the numbers
		}
		t.Run(tt.name, func(t *testing.T) {
			c, second := newContainer(t, tt.flags...), newContainer(t, tt.flags...)
			if tt.host {
				defer burnHost(t)()
			}
			if tt.loops > 0 {
				defer c.burn(tt.loops)()
			}
			// The other of two such containers is idle.
			var wait sync.WaitGroup
			for i := range meters {
				wait.Go(func() { meters[i].measure(c, tt.cpus, tt.want) })
			}
			meters[0].measure(second, tt.cpus, [2]float64{0, 3})
			wait.Wait()
		})
	}
}

// last is the highest CPU number, as a cpuset.
func last(t *testing.T) string {
	return string(rune('0' + min(hostCPUs(t)-1, 9)))
}
