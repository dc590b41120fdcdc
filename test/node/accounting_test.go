// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// account records the CPU time that the kernel has counted for a container.
type account struct {
	file    *os.File
	stop    chan struct{}
	done    chan struct{}
	samples []sample
}

type sample struct {
	at   time.Time
	used time.Duration
}

// newAccount starts to record, as long before it returns as what is read then
// may be old: even what the kernel keeps of a read before counts from a moment
// that is on record.
func newAccount(c *container) *account {
	c.t.Helper()
	name := "cpuacct.usage"
	if unified() {
		name = "cpu.stat"
	}
	f, err := os.Open(filepath.Join(c.cgroup["cpuacct"], name))
	if err != nil {
		c.t.Fatal(err)
	}
	a := &account{file: f, stop: make(chan struct{}), done: make(chan struct{})}
	a.sample()
	go func() {
		defer close(a.done)
		for {
			select {
			case <-a.stop:
				return
			case <-time.After(10 * time.Millisecond):
				a.sample()
			}
		}
	}()
	time.Sleep(2 * freshness)
	return a
}

// sample takes the middle of its own duration as its time.
func (a *account) sample() {
	var buf [512]byte
	start := time.Now()
	n, err := a.file.ReadAt(buf[:], 0)
	end := time.Now()
	if n == 0 {
		panic(fmt.Sprintf("read %s: %v", a.file.Name(), err))
	}
	text, unit := string(buf[:n]), time.Nanosecond
	if rest, ok := strings.CutPrefix(text, "usage_usec "); ok {
		text, unit = rest, time.Microsecond
	}
	text, _, _ = strings.Cut(text, "\n")
	used, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		panic(fmt.Sprintf("%s: %v", a.file.Name(), err))
	}
	a.samples = append(a.samples, sample{start.Add(end.Sub(start) / 2), time.Duration(used) * unit})
}

func (a *account) close() {
	close(a.stop)
	<-a.done
	a.sample()
	a.file.Close()
}

// bounds is the least and the most, in percent of n CPUs, that a program can
// have measured which ran from start to end and compared two reads that were
// at least interval apart. What it read was up to freshness old.
func (a *account) bounds(start, end time.Time, interval time.Duration, n int) (lo, hi float64) {
	// The kernel brings its books up to date with each tick.
	const tick = 10 * time.Millisecond
	lo, hi = 1e9, -1e9
	for i, first := range a.samples {
		if first.at.Before(start.Add(-freshness - tick)) {
			continue
		}
		for _, last := range a.samples[i+1:] {
			d := last.at.Sub(first.at)
			if d < interval-freshness-tick || last.at.After(end.Add(tick)) {
				continue
			}
			percent := 100 * float64(last.used-first.used) / float64(d) / float64(n)
			lo, hi = min(lo, percent), max(hi, percent)
		}
	}
	return lo, hi
}

// used is the least and the most CPU time between two reads at these times,
// each of which took no longer than longest.
func (a *account) used(start, end time.Time, longest time.Duration) (lo, hi time.Duration) {
	near := func(t time.Time) (lo, hi time.Duration) {
		lo, hi = 1<<62, 0
		for i, s := range a.samples {
			late := i+1 < len(a.samples) && a.samples[i+1].at.Before(t.Add(-freshness-2*longest)) // the kernel counts an age from when its reader runs again
			early := i > 0 && a.samples[i-1].at.After(t.Add(longest))
			if !late && !early {
				lo, hi = min(lo, s.used), max(hi, s.used)
			}
		}
		return lo, hi
	}
	lo1, hi1 := near(start)
	lo2, hi2 := near(end)
	return lo2 - hi1, hi2 - lo1
}

// tolerance is what is promised: percentage points beside the accounting.
const tolerance = 3

// meter is a program that shows how busy the CPUs are.
type meter struct {
	name     string
	command  []string
	interval time.Duration
	busy     func(out string) (float64, error)
}

var meters = []meter{
	{"top", []string{"top", "-b", "-n2", "-d1"}, time.Second, topBusy},
	{"vmstat", []string{"vmstat", "1", "3"}, time.Second, vmstatBusy},
}

var topIdle = regexp.MustCompile(`%Cpu\(s\):.*?([0-9.]+) +id,`)

// topBusy is what the last frame of top says.
func topBusy(out string) (float64, error) {
	frames := topIdle.FindAllStringSubmatch(out, -1)
	if len(frames) == 0 {
		return 0, fmt.Errorf("no line %%Cpu(s)")
	}
	idle, err := strconv.ParseFloat(frames[len(frames)-1][1], 64)
	return 100 - idle, err
}

func vmstatBusy(out string) (float64, error) {
	lines := strings.Split(strings.TrimSpace(out), "\n")
	f := strings.Fields(lines[len(lines)-1])
	if len(f) < 15 {
		return 0, fmt.Errorf("the last line has %d columns", len(f))
	}
	idle, err := strconv.ParseFloat(f[14], 64)
	return 100 - idle, err
}

// measure runs m inside c and judges what it says by the accounting of the
// same time. want is what it must say where the accounting clearly says so.
func (m *meter) measure(c *container, n int, want [2]float64) {
	c.t.Helper()
	a := newAccount(c)
	start := time.Now()
	out, err := c.try(request{Run: m.command})
	end := time.Now()
	a.close()
	if err != nil || out.Code != 0 {
		c.t.Errorf("%s: %v, exit status %d: %s", m.name, err, out.Code, out.Stderr)
		return
	}
	got, err := m.busy(out.Out)
	if err != nil {
		c.t.Errorf("%s: %v in %q", m.name, err, out.Out)
		return
	}
	lo, hi := a.bounds(start, end, m.interval, n)
	c.t.Logf("%s says %.1f %% busy, the accounting %.1f to %.1f %%", m.name, got, lo, hi)
	if got < lo-tolerance || got > hi+tolerance {
		c.t.Errorf("%s says %.1f %% busy, the accounting %.1f to %.1f %%:\n%s", m.name, got, lo, hi, out.Out)
	}
	// In a second there are 100 ticks, and user and system time are rounded by
	// themselves: what the accounting has at the edge may be shown beyond it.
	const ticks = 2
	inside := (want[0] == 0 || lo >= want[0]+ticks) && (want[1] == 100 || hi <= want[1]-ticks) && lo >= want[0] && hi <= want[1]
	if inside && (got < want[0] || got > want[1]) {
		c.t.Errorf("%s says %.1f %% busy, not %g to %g %%, while the accounting says %.1f to %.1f %%:\n%s", m.name, got, want[0], want[1], lo, hi, out.Out)
	}
}

// hostCPUs is how many CPUs this machine has online.
func hostCPUs(t *testing.T) int {
	t.Helper()
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(1, &set); err != nil {
		t.Fatal(err)
	}
	return set.Count()
}

// burnHost keeps all CPUs busy from outside of all containers.
func burnHost(t *testing.T) (stop func()) {
	t.Helper()
	var running []*exec.Cmd
	stop = func() {
		for _, cmd := range running {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
		running = nil
	}
	t.Cleanup(stop)
	for range hostCPUs(t) {
		cmd := helper("burn")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		running = append(running, cmd)
	}
	return stop
}
