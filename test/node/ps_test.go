// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestPS: the times that ps shows are right, which needs the uptime and the
// btime of the machine: LXCFS shows ages of a million years.
func TestPS(t *testing.T) {
	need(t, "ps")
	c := newContainer(t, "--memory", "256Mi", "--cpus", "1")
	before := time.Now()
	pid := strconv.Itoa(c.do(request{Start: []string{"burn"}}).PID)
	started := time.Now()
	time.Sleep(1500 * time.Millisecond)

	asked := time.Now()
	out := strings.Fields(c.sh("ps -o etimes=,pcpu=,lstart= -p " + pid))
	answered := time.Now()
	if len(out) != 7 {
		t.Fatalf("ps says %q", out)
	}
	// ps cuts off or rounds to a second, and so does btime.
	const second = time.Second
	age, err := strconv.Atoi(out[0])
	if got := time.Duration(age) * second; err != nil || got < asked.Sub(started)-second || got > answered.Sub(before)+second {
		t.Errorf("etimes is %q for a process that is %s to %s old", out[0], asked.Sub(started), answered.Sub(before))
	}
	if cpu, err := strconv.ParseFloat(out[1], 64); err != nil || cpu <= 0 || cpu > 110 {
		t.Errorf("pcpu is %q for a busy process", out[1])
	}
	start, err := time.ParseInLocation("Mon Jan 2 15:04:05 2006", strings.Join(out[2:], " "), time.Local)
	if err != nil || start.Before(before.Add(-2*second)) || start.After(started.Add(2*second)) {
		t.Errorf("lstart is %q (%v) for a process that was started at %s", out[2:], err, started)
	}
	if out := c.sh("ps aux"); strings.Count(out, "\n") < 3 {
		t.Errorf("ps aux: %s", out)
	}

	btime := func(text string) int {
		_, rest, _ := strings.Cut(text, "\nbtime ")
		n, err := strconv.Atoi(strings.Fields(rest + " x")[0])
		if err != nil {
			t.Fatalf("no btime in %q", text)
		}
		return n
	}
	// The kernel's own differs by one now and then.
	if got, want := btime(c.read("/proc/stat")), btime(read(t, "/proc/stat")); got < want-1 || got > want+1 {
		t.Errorf("btime is %d, the machine's is %d", got, want)
	}
}
