// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	cgroups "github.com/containerd/cgroups/v3"
	"github.com/containerd/cgroups/v3/cgroup1"
	"github.com/containerd/cgroups/v3/cgroup2"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// group is a cgroup in all hierarchies, made by containerd's library.
type group struct {
	t    testing.TB
	path string
	v1   cgroup1.Cgroup
	v2   *cgroup2.Manager
}

// testRoot is the path above all cgroups of this process, and its children.
var testRoot = fmt.Sprintf("/podproc-test-cgroup-%d", os.Getpid())

func newGroup(t testing.TB, path string, res *specs.LinuxResources) *group {
	t.Helper()
	g := &group{t: t, path: path}
	var err error
	if cgroups.Mode() == cgroups.Unified {
		g.v2, err = cgroup2.NewManager("/sys/fs/cgroup", path, cgroup2.ToResources(res))
	} else {
		g.v1, err = cgroup1.New(cgroup1.StaticPath(path), res)
	}
	if err != nil {
		t.Fatalf("make cgroup %s (needs root and a cgroup file system that can be written): %v", path, err)
	}
	t.Cleanup(g.remove)
	return g
}

func (g *group) update(res *specs.LinuxResources) {
	g.t.Helper()
	var err error
	if g.v2 != nil {
		err = g.v2.Update(cgroup2.ToResources(res))
	} else {
		err = g.v1.Update(res)
	}
	if err != nil {
		g.t.Fatal(err)
	}
}

func (g *group) add(pid int) {
	g.t.Helper()
	var err error
	if g.v2 != nil {
		err = g.v2.AddProc(uint64(pid))
	} else {
		err = g.v1.AddProc(uint64(pid))
	}
	if err != nil {
		g.t.Fatal(err)
	}
}

// remove removes the cgroup and what the library left above it. A process
// that has ended may keep it busy for a moment.
func (g *group) remove() {
	for path := g.path; path != "/" && path != ""; path, _ = parent(path) {
		for _, dir := range g.dirs(path) {
			err := eventually(func() error {
				err := unix.Rmdir(dir)
				if errors.Is(err, unix.ENOENT) || path != g.path {
					return nil // others are below it
				}
				return err
			})
			if err != nil {
				g.t.Errorf("remove %s: %v", dir, err)
			}
		}
	}
}

// dirs returns the directory of a path in each hierarchy. Controllers that are
// mounted together have symlinks to theirs.
func (g *group) dirs(path string) []string {
	if g.v2 != nil {
		return []string{"/sys/fs/cgroup" + path}
	}
	roots, err := filepath.Glob("/sys/fs/cgroup/*")
	if err != nil {
		g.t.Fatal(err)
	}
	var dirs []string
	for _, root := range roots {
		if st, err := os.Lstat(root); err == nil && st.IsDir() {
			if _, err := os.Stat(root + path); err == nil {
				dirs = append(dirs, root+path)
			}
		}
	}
	return dirs
}

// file returns the path of a control file: v1's or v2's.
func (g *group) file(v1, v2 string) string {
	if g.v2 != nil {
		return "/sys/fs/cgroup" + g.path + "/" + v2
	}
	controller, _, _ := strings.Cut(v1, ".")
	return "/sys/fs/cgroup/" + controller + g.path + "/" + v1
}

// eventually calls f until it returns nil, for at most 20 s.
func eventually(f func() error) error {
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		err := f()
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

// limits are resources where -1 is no limit; every controller is enabled.
func limits(memory, quota int64, period uint64) *specs.LinuxResources {
	shares := uint64(1024)
	pids := int64(1000)
	r := &specs.LinuxResources{
		Memory: &specs.LinuxMemory{},
		CPU:    &specs.LinuxCPU{Period: &period, Shares: &shares},
		Pids:   &specs.LinuxPids{Limit: &pids},
	}
	if memory >= 0 {
		r.Memory.Limit = &memory
	}
	if quota >= 0 {
		r.CPU.Quota = &quota
	}
	return r
}

func kernelFS(t testing.TB, change func(*Config)) *FS {
	t.Helper()
	cfg := Config{NodeWideAge: -1}
	if change != nil {
		change(&cfg)
	}
	fs, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { fs.Close() })
	if fs.Mode() != cgroups.Mode() {
		t.Errorf("mode %v, containerd says %v", fs.Mode(), cgroups.Mode())
	}
	return fs
}

func openOf(t testing.TB, fs *FS, pid int) *Container {
	t.Helper()
	b, err := fs.Boundary(uint32(pid))
	if err != nil {
		t.Fatal(err)
	}
	c, err := fs.Open(b)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// openWaiting starts a process in g that waits, and opens the container that it
// makes.
func (g *group) openWaiting(fs *FS) (*child, *Container) {
	g.t.Helper()
	proc := startChild(g.t, "wait", 0)
	g.add(proc.pid())
	return proc, openOf(g.t, fs, proc.pid())
}

func readNumber(t testing.TB, path string) uint64 {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	n, err := parseValue(b)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return n
}
