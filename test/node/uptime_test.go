// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// boottime is the time since this machine's boot.
func boottime(t *testing.T) time.Duration {
	t.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		t.Fatal(err)
	}
	return time.Duration(ts.Nano())
}

// startOf is when a process started, since this machine's boot.
func startOf(t *testing.T, pid int) time.Duration {
	t.Helper()
	_, rest, _ := strings.Cut(read(t, fmt.Sprintf("/proc/%d/stat", pid)), ") ")
	fields := strings.Fields(rest)
	var ticks int64
	if _, err := fmt.Sscan(fields[22-3], &ticks); err != nil {
		t.Fatal(err)
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// times2 reads two numbers of seconds.
func times2(t *testing.T, text string) (up, idle time.Duration) {
	t.Helper()
	var a, b float64
	if _, err := fmt.Sscanf(text, "%f %f\n", &a, &b); err != nil {
		t.Fatalf("uptime is %q: %v", text, err)
	}
	const second = float64(time.Second)
	return time.Duration(a * second), time.Duration(b * second)
}

// TestUptime: uptime is the container's age, and its idle time the one of
// /proc/stat. Who has not asked for it has the machine's.
func TestUptime(t *testing.T) {
	need(t, "uptime")
	c := newContainer(t, "--cpus", "1", "--files", "default,uptime")
	other := newContainer(t, "--cpus", "1")
	birth := startOf(t, c.agent)
	stop := c.burn(1)
	defer stop()
	const second = time.Second
	for range 3 {
		// Idle time of stat before and after bounds that of uptime.
		before, asked := statIdle(t, c.read("/proc/stat")), boottime(t)
		up, idle := times2(t, c.read("/proc/uptime"))
		answered := boottime(t)
		time.Sleep(2 * freshness) // or it would be what the first look has seen
		after := statIdle(t, c.read("/proc/stat"))
		if lo, hi := asked-birth-2*second, answered-birth; up < lo || up > hi {
			t.Errorf("uptime is %s in a container that is %s to %s old", up, lo, hi)
		}
		if most := after + second/100; idle < before-freshness || idle > most || idle > up {
			t.Errorf("idle time is %s (of %s), between two looks at stat: %s and %s", idle, up, before, after)
		}
	}
	if up, _ := times2(t, other.read("/proc/uptime")); up < birth {
		t.Errorf("a container that has not asked for it has an uptime of %s", up)
	}
	if out := c.sh("uptime"); !strings.Contains(out, "up 0 min") && boottime(t)-birth < time.Minute {
		t.Errorf("uptime says %q in a container that is %s old", out, boottime(t)-birth)
	}
}

// statIdle is the idle time of all CPUs.
func statIdle(t *testing.T, text string) time.Duration {
	t.Helper()
	var user, nice, system, idle int64
	if _, err := fmt.Sscanf(text, "cpu %d %d %d %d", &user, &nice, &system, &idle); err != nil {
		t.Fatalf("stat is %q: %v", text, err)
	}
	return time.Duration(idle) * 10 * time.Millisecond
}
