// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package mounts

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	meminfo = "/proc/meminfo"
	dead    = "open /proc/meminfo: transport endpoint is not connected"
)

// dying are errors of readers that were at it when their server died.
var dying = []string{
	"open /proc/meminfo: software caused connection abort",
	"read /proc/meminfo: software caused connection abort",
	"read /proc/meminfo: transport endpoint is not connected",
}

// tree returns the file system at p as Repair and Release need it. Whatever
// they complain of fails the test.
func tree(t *testing.T, p Point) Tree {
	t.Helper()
	var log bytes.Buffer
	t.Cleanup(func() {
		if log.Len() > 0 {
			t.Errorf("unexpected log:\n%s", log.String())
		}
	})
	return Tree{Point: p, Files: []string{"proc/meminfo"}, Timeout: time.Minute, Log: slog.New(slog.NewTextHandler(&log, nil))}
}

// kernel returns the kernel's version times ten: 65 is 6.5.
func kernel(t *testing.T) int {
	t.Helper()
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	var major, minor int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor); err != nil {
		t.Fatal(err)
	}
	return 10*major + min(minor, 9)
}

// repair calls Repair. What it says of copies of the whole tree cannot be
// judged here: whoever made a mount namespace meanwhile has one.
func repair(t *testing.T, tr Tree) Result {
	t.Helper()
	r, err := tr.Repair()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// removed makes sure that nothing is left of p in the end.
func removed(t *testing.T, p Point) {
	t.Cleanup(func() {
		if err := p.Remove(); err != nil {
			t.Error(err)
		}
		if left := leftovers(t, p); left != nil {
			t.Errorf("left of it:\n%s", strings.Join(left, ""))
		}
	})
}

// planted returns a point that has the tree of Kernel, and nothing on it yet.
func planted(t *testing.T, ns string) (Point, Tree) {
	t.Helper()
	p := point(t, ns)
	removed(t, p)
	tr := tree(t, p)
	if err := p.Kernel(tr.Files); err != nil {
		t.Fatal(err)
	}
	return p, tr
}

func bind(p Point) [][2]string { return [][2]string{{p.Dir + meminfo, meminfo}} }

// TestRepair is the whole life: servers die, hang and go away, and running
// containers see the live one again each time.
func TestRepair(t *testing.T) {
	p, tr := planted(t, nodeNamespace())
	s := serve(t, p)
	containers := map[string]*container{
		"plain":          start(t, spec{Binds: bind(p)}),
		"user namespace": start(t, spec{Binds: bind(p), User: true}),
	}
	each := func(f func(name string, c *container)) {
		t.Helper()
		for name, c := range containers {
			f(name, c)
		}
	}
	want := func(text string) {
		t.Helper()
		each(func(name string, c *container) {
			if got := c.read(meminfo); got != text {
				t.Errorf("%s: %q, want %q", name, got, text)
			}
		})
	}
	// only checks what tight readers have seen all the while.
	only := func(before, after string, between ...string) {
		t.Helper()
		each(func(name string, c *container) {
			await(t, "reads of what is there in the end", func() bool { return c.seen(after) })
			seen := c.stop()
			t.Logf("%s: %v", name, seen)
			for _, text := range append(between, before, after) {
				delete(seen, text)
			}
			if len(seen) > 0 {
				t.Errorf("%s: unexpected: %v", name, seen)
			}
		})
	}
	loop := func() { each(func(_ string, c *container) { c.do("loop", meminfo) }) }
	want(s.text)

	for range 3 { // more than once: what repair leaves must be repairable
		loop()
		s.kill()
		want(dead)
		next := serve(t, p)
		if r := repair(t, tr); r.Repaired != len(containers) || r.Failed != 0 {
			t.Fatalf("repair of dead mounts: %+v", r)
		}
		want(next.text)
		only(s.text, next.text, append(dying, dead)...)
		if r := repair(t, tr); r.Repaired != 0 || r.Failed != 0 {
			t.Errorf("repair of what is well: %+v", r)
		}
		s = next
	}

	// A server that hangs. Readers wait for it until it is cut off.
	loop()
	s.stop()
	next := serve(t, p)
	if r := repair(t, tr); r.Repaired != len(containers) || r.Failed != 0 {
		t.Fatalf("repair of stuck mounts: %+v", r)
	}
	want(next.text)
	only(s.text, next.text, append(dying, dead)...)
	s.kill()
	s = next

	each(func(name string, c *container) {
		if n := len(c.mounts(meminfo)); n > 2 {
			t.Errorf("%s: %d mounts on top of each other", name, n)
		}
	})

	// Released: they see the kernel's file, with no error on the way.
	loop()
	if r, err := tr.Release(); err != nil || r.Failed != 0 || r.Detached < len(containers) {
		t.Fatalf("release: %+v, %v", r, err)
	}
	only(s.text, "kernel")
	s.kill()
	each(func(name string, c *container) {
		if got := c.read(meminfo); !strings.HasPrefix(got, "MemTotal:  ") {
			t.Errorf("%s: after release: %q", name, got)
		}
		for _, m := range c.mounts(meminfo) {
			if beneath := kernel(t) >= 65; beneath {
				t.Errorf("%s: mount left: %v", name, m)
			}
		}
	})
}

func TestRepairKernelFile(t *testing.T) {
	p, tr := planted(t, nodeNamespace())
	if err := os.Mkdir(p.Dir+"/directory", 0o755); err != unix.EROFS {
		if pe, ok := err.(*os.PathError); !ok || pe.Err != unix.EROFS {
			t.Errorf("mkdir where files are expected: %v, want EROFS", err)
		}
	}
	c := start(t, spec{Binds: bind(p)})
	// Somebody who wants the node's file gets and keeps it.
	other := start(t, spec{Binds: [][2]string{{meminfo, meminfo}}})
	for range 2 {
		if got := c.read(meminfo); !strings.HasPrefix(got, "MemTotal:  ") {
			t.Fatalf("while away: %q", got)
		}
		s := serve(t, p)
		if r := repair(t, tr); r.Repaired != 1 || r.Failed != 0 {
			t.Fatalf("repair: %+v", r)
		}
		if got := c.read(meminfo); got != s.text {
			t.Fatalf("after repair: %q", got)
		}
		if got := other.read(meminfo); !strings.HasPrefix(got, "MemTotal:  ") {
			t.Errorf("another's mount: %q", got)
		}
		if _, err := tr.Release(); err != nil {
			t.Fatal(err)
		}
		s.kill()
		if err := p.Kernel(tr.Files); err != nil {
			t.Fatal(err)
		}
		c = start(t, spec{Binds: bind(p)})
	}
	if list := other.mounts(meminfo); len(list) != 1 {
		t.Errorf("another's mount is not as it was: %v", list)
	}
}

func TestKernelFollowsTheList(t *testing.T) {
	p := point(t, nodeNamespace())
	removed(t, p)
	if err := p.Kernel([]string{"proc/meminfo"}); err != nil {
		t.Fatal(err)
	}
	before := leftovers(t, p)
	if err := p.Kernel([]string{"proc/meminfo"}); err != nil {
		t.Fatal(err)
	}
	if after := leftovers(t, p); strings.Join(after, "") != strings.Join(before, "") {
		t.Errorf("made anew without need:\n%s\n%s", before, after)
	}
	more := []string{"proc/meminfo", "proc/pressure/cpu", "sys/devices/system/cpu/online"}
	if err := p.Kernel(more); err != nil {
		t.Fatal(err)
	}
	if got, want := see(p.Dir+"/sys/devices/system/cpu/online"), see("/sys/devices/system/cpu/online"); got != want {
		t.Errorf("online: %q, want %q", got, want)
	}
	if n := len(leftovers(t, p)); n != 3 {
		t.Errorf("%d mounts, want tmpfs, proc and sysfs", n)
	}
}

// TestRepairBelow: what a container has started in namespaces of its own,
// where nothing that it inherited can be detached.
func TestRepairBelow(t *testing.T) {
	p, tr := planted(t, nodeNamespace())
	s := serve(t, p)
	c := start(t, spec{Binds: bind(p)})
	if got := c.do("nest", nil); got != "" {
		t.Fatal(got)
	}
	for range 3 {
		s.kill()
		s = serve(t, p)
		// The outer one and the inner one.
		if r := repair(t, tr); r.Repaired != 2 || r.Failed != 0 {
			t.Fatalf("repair: %+v", r)
		}
		if got := c.read(meminfo); got != s.text {
			t.Fatalf("after repair: %q", got)
		}
		if n := len(c.mounts(meminfo)); n != 2 {
			t.Errorf("%d mounts on top of each other, want the dead one and the live one", n)
		}
	}
	c.do("loop", meminfo)
	if r, err := tr.Release(); err != nil || r.Failed != 0 {
		t.Fatalf("release: %+v, %v", r, err)
	}
	await(t, "the kernel's file", func() bool { return c.seen("kernel") })
	seen := c.stop()
	s.kill()
	if len(seen) != 2 {
		t.Errorf("at release: %v", seen)
	}
	if got := c.read(meminfo); !strings.HasPrefix(got, "MemTotal:  ") {
		t.Errorf("after release: %q", got)
	}
	if r, err := tr.Release(); err != nil || r.Failed != 0 {
		t.Errorf("second release: %+v, %v", r, err)
	}
	// And podproc comes back.
	s = serve(t, p)
	if r := repair(t, tr); r.Failed != 0 {
		t.Fatalf("repair: %+v", r)
	}
	if got := c.read(meminfo); got != s.text {
		t.Fatalf("after all: %q", got)
	}
}

func TestRepairDetachesCopiesOfTheTree(t *testing.T) {
	p := point(t, nodeNamespace())
	removed(t, p)
	tr := tree(t, p)
	s := serve(t, p)
	c := start(t, spec{Node: true})
	if n := len(c.mounts(p.Dir)); n != 1 {
		t.Fatalf("%d copies, want 1", n)
	}
	s.kill()
	serve(t, p)
	if r := repair(t, tr); r.Detached < 1 || r.Repaired != 0 || r.Failed != 0 {
		t.Errorf("repair: %+v", r)
	}
	if n := len(c.mounts(p.Dir)); n != 0 {
		t.Errorf("%d copies left", n)
	}
}

func TestRepairLeavesOthers(t *testing.T) {
	p, q := point(t, nodeNamespace()), point(t, nodeNamespace())
	removed(t, p)
	removed(t, q)
	other := serve(t, q)
	c := start(t, spec{Binds: bind(q)})
	mine := serve(t, p)
	if r := repair(t, tree(t, p)); r.Repaired != 0 || r.Failed != 0 {
		t.Errorf("repair: %+v", r)
	}
	if r, err := tree(t, p).Release(); r.Failed != 0 || err != nil {
		t.Errorf("release: %+v, %v", r, err)
	}
	if got := c.read(meminfo); got != other.text {
		t.Errorf("of the other podproc: %q", got)
	}
	mine.kill()
}

// TestRepairPassesStuckContainers: a container in which a path leads into a
// file system that does not answer holds up nobody else.
func TestRepairPassesStuckContainers(t *testing.T) {
	p := point(t, nodeNamespace())
	removed(t, p)
	tr := tree(t, p)
	tr.Log = nil
	s := serve(t, p)
	good, bad := start(t, spec{Binds: bind(p)}), start(t, spec{Binds: bind(p)})
	if got := bad.do("stuck", "/proc"); got != "" {
		t.Fatal(got)
	}
	s.kill()
	s = serve(t, p)
	tr.Timeout = 10 * time.Second // for the good one, too
	r := repair(t, tr)
	if got := good.read(meminfo); got != s.text {
		t.Errorf("good container: %q", got)
	}
	if r.Repaired != 1 || r.Failed != 1 {
		t.Errorf("repair: %+v", r)
	}
}

func TestMountInAnotherNamespace(t *testing.T) {
	c := start(t, spec{Node: true}) // the node, seen from a pod
	ns := filepath.Join("/proc", c.pid(), "ns/mnt")
	p, _ := planted(t, ns)
	s := serve(t, p)
	if n := len(c.mounts(p.Dir)); n != 2 {
		t.Errorf("%d mounts there, want links and file system", n)
	}
	if left := leftovers(t, p); left != nil {
		t.Errorf("mounted here too:\n%s", left)
	}
	if got := c.read(p.Dir + "/proc/meminfo"); got != s.text {
		t.Errorf("read there: %q", got)
	}
	self, _ := os.Readlink("/proc/self/ns/mnt")
	if other, _ := os.Readlink(ns); self == other {
		t.Errorf("the first thread of this process is in %s by now", other)
	}
}
