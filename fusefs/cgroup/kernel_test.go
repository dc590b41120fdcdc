// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podproc/podproc/fusefs/view"
)

// TestKernelNested: limits of several levels, changed while they are read, and
// a reader below the boundary with tighter limits of its own.
func TestKernelNested(t *testing.T) {
	fs := kernelFS(t, nil)
	pod := newGroup(t, testRoot+"/pod", limits(96*mib, 200000, 100000))
	outer := newGroup(t, pod.path+"/"+hexA, limits(64*mib, 150000, 100000))
	inner := newGroup(t, outer.path+"/inner", limits(32*mib, 50000, 100000))
	proc := startChild(t, "touch", 0)
	inner.add(proc.pid())
	proc.say()
	c := openOf(t, fs, proc.pid())
	if b := c.Boundary(); !b.Container() || b.Root() || !strings.Contains(b.String(), outer.path) || strings.Contains(b.String(), "/inner") {
		t.Fatal(b)
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Dir(outer.file("memory.stat", "memory.stat")), &st); err != nil || st.Ino != c.Boundary().ID() {
		t.Errorf("id %d, inode %d, %v", c.Boundary().ID(), st.Ino, err)
	}
	var m view.Memory
	var cpu view.CPU
	check := func(container, pod uint64, quota view.Limit) {
		t.Helper()
		if err := errors.Join(c.Memory(&m), c.CPU(&cpu)); err != nil {
			t.Fatal(err)
		}
		if m.Levels[0].Limit != view.Limit(container) || m.Levels[1].Limit != view.Limit(pod) {
			t.Errorf("limits %d and %d, want %d and %d", m.Levels[0].Limit, m.Levels[1].Limit, container, pod)
		}
		if len(m.Levels) != 4 || !m.Levels[3].NodeWide || m.Levels[2].NodeWide || m.Levels[2].Limit != view.Unlimited {
			t.Errorf("levels %+v", m.Levels)
		}
		if cpu.Quota != quota {
			t.Errorf("quota %d, want %d", cpu.Quota, quota)
		}
	}
	check(64*mib, 96*mib, 1500)
	for range 20 { // the next read sees it, each time
		// The period is written first; v1 refuses more than the pod has
		// and less than inner.
		outer.update(limits(80*mib, 100000, 100000))
		check(80*mib, 96*mib, 1000)
		outer.update(limits(80*mib, 240000, 200000))
		check(80*mib, 96*mib, 1200)
		pod.update(limits(90*mib, 125000, 100000))
		check(80*mib, 90*mib, 1200)
		outer.update(limits(64*mib, 100000, 200000))
		pod.update(limits(96*mib, 200000, 100000))
		outer.update(limits(64*mib, 150000, 100000))
		check(64*mib, 96*mib, 1500)
		if pod.v2 != nil { // which v1 refuses
			pod.update(limits(96*mib, 100000, 100000))
			check(64*mib, 96*mib, 1000)
			pod.update(limits(96*mib, 200000, 100000))
		}
	}

	usage := outer.file("memory.usage_in_bytes", "memory.current")
	if err := eventually(func() error { // two looks of the test without change in between
		before := readNumber(t, usage)
		if err := c.Memory(&m); err != nil {
			t.Fatal(err)
		}
		if after := readNumber(t, usage); before != after || m.Levels[0].Usage != before {
			return fmt.Errorf("usage %d, the kernel says %d and %d", m.Levels[0].Usage, before, after)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if m.Levels[0].Usage < 4*mib || m.Levels[1].Usage < 4*mib {
		t.Errorf("%+v", m.Levels)
	}

	var tasks view.Tasks
	threads := func() int {
		entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", proc.pid()))
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	if err := eventually(func() error {
		before := threads()
		if err := c.Tasks(&tasks); err != nil {
			t.Fatal(err)
		}
		if after := threads(); before != after || !tasks.Known || tasks.Total != uint64(after) {
			return fmt.Errorf("%+v, threads %d and %d", tasks, before, after)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// TestKernelRoundTrip: another process's boundary can be opened again by its
// string, and two readers in one container have equal ones.
func TestKernelRoundTrip(t *testing.T) {
	fs := kernelFS(t, nil)
	g := newGroup(t, testRoot+"/"+hexA, limits(64*mib, -1, 100000))
	sub := newGroup(t, g.path+"/sub", limits(64*mib, -1, 100000))
	if g.v2 == nil { // v2 allows processes in leaves only
		sub = g
	}
	one, two := startChild(t, "wait", 0), startChild(t, "wait", 0)
	sub.add(one.pid())
	sub.add(two.pid())
	a, err := fs.Boundary(uint32(one.pid()))
	if err != nil {
		t.Fatal(err)
	}
	b, err := fs.Boundary(uint32(two.pid()))
	if err != nil || a != b {
		t.Errorf("%s, %s, %v", a, b, err)
	}
	again, err := kernelFS(t, nil).Reopen(a.String())
	if err != nil || again != a {
		t.Errorf("%s, %v; want %s", again, err, a)
	}
	own, err := fs.Boundary(uint32(os.Getpid()))
	if err != nil || own == a || own.ID() == a.ID() {
		t.Errorf("%s, %v", own, err)
	}
}

// TestKernelThreads: each thread of a process is found, not only the first.
func TestKernelThreads(t *testing.T) {
	fs := kernelFS(t, nil)
	want, err := fs.Boundary(uint32(os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		got, err := fs.Boundary(uint32(unix.Gettid()))
		if err == nil && got != want {
			err = fmt.Errorf("thread %d: %s, want %s", unix.Gettid(), got, want)
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestKernelCPUTime: judged against the kernel's own file, read before and
// after; nothing steps back.
func TestKernelCPUTime(t *testing.T) {
	fs := kernelFS(t, nil)
	g := newGroup(t, testRoot+"/"+hexA, limits(512*mib, -1, 100000))
	proc := startChild(t, "burn", 0)
	g.add(proc.pid())
	c := openOf(t, fs, proc.pid())
	path := g.file("cpuacct.usage", "cpu.stat") // what was measured, not sampled
	kernel := func() uint64 {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if g.v2 != nil {
			usage, _, err := parseCPUStat(b)
			if err != nil {
				t.Fatal(err)
			}
			return usage
		}
		usage, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return usage
	}
	var last, v view.CPUTime
	for range 5 {
		proc.say()
		before := kernel()
		if err := c.CPUTime(&v); err != nil {
			t.Fatal(err)
		}
		after := kernel()
		if used := v.User + v.System; used < before || used > after {
			t.Errorf("used %d, the kernel says %d and then %d", used, before, after)
		}
		if v.User < last.User || v.System < last.System {
			t.Errorf("from %+v back to %+v", last, v)
		}
		last.User, last.System = v.User, v.System
	}
	if v.User+v.System == 0 {
		t.Error("nothing used")
	}
}

func TestKernelBirth(t *testing.T) {
	fs := kernelFS(t, nil)
	g := newGroup(t, testRoot+"/"+hexA, limits(64*mib, -1, 100000))
	// The kernel rounds down to ticks, and counts from boot, suspend included.
	before := bootTime(t) - 10*time.Millisecond
	old := startChild(t, "wait", 0)
	between := bootTime(t)
	time.Sleep(20 * time.Millisecond) // so that the next one is a tick younger
	young := startChild(t, "wait", 0)
	g.add(young.pid())
	g.add(old.pid())
	c := openOf(t, fs, young.pid())
	if got, err := c.Birth(); err != nil || got < before || got > between {
		t.Errorf("%v, %v; want %v to %v", got, err, before, between)
	}
	old.end()
	if got, err := c.Birth(); err != nil || got < between {
		t.Errorf("of the younger: %v, %v; want more than %v", got, err, between)
	}
}

// TestKernelThreaded: v2 can have threads of one process in cgroups of their
// own, which have neither memory limits nor processes. On v1 a thread can be
// anywhere.
func TestKernelThreaded(t *testing.T) {
	fs := kernelFS(t, nil)
	plain := newGroup(t, testRoot+"/plain", limits(64*mib, -1, 100000))
	sub := &group{t: t, path: plain.path + "/threads", v1: plain.v1, v2: plain.v2}
	t.Cleanup(sub.remove)
	for _, dir := range plain.dirs(plain.path) {
		if err := os.Mkdir(dir+"/threads", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	list := sub.file("memory.tasks", "cgroup.threads")
	if plain.v2 == nil {
		list = filepath.Dir(list) + "/tasks"
	} else if err := os.WriteFile(sub.file("", "cgroup.type"), []byte("threaded"), 0); err != nil {
		t.Fatal(err)
	}
	proc := startChild(t, "wait", 0)
	plain.add(proc.pid())
	var thread int
	if err := eventually(func() error { // the Go runtime starts some
		entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", proc.pid()))
		if err != nil || len(entries) < 2 {
			return fmt.Errorf("%d threads, %w", len(entries), err)
		}
		thread, err = strconv.Atoi(entries[1].Name())
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(list, fmt.Append(nil, thread), 0); err != nil {
		t.Fatal(err)
	}
	c := openOf(t, fs, thread)
	if b := c.Boundary(); b.Container() || !strings.Contains(b.String(), sub.path) {
		t.Errorf("%s, want %s", b, sub.path)
	}
	var m view.Memory
	if err := c.Memory(&m); err != nil {
		t.Fatal(err)
	}
	limited := 0
	for _, l := range m.Levels {
		if l.Limit == 64*mib {
			limited++
		}
	}
	if limited != 1 {
		t.Errorf("%+v", m.Levels)
	}
	if plain.v2 == nil {
		return // a process is only listed in the cgroup of its first thread
	}
	if birth, err := c.Birth(); err != nil || birth == 0 {
		t.Errorf("%v, %v", birth, err)
	}
}

func bootTime(t *testing.T) time.Duration {
	t.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		t.Fatal(err)
	}
	return time.Duration(ts.Nano())
}
