// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/podproc/podproc/fusefs/view"
)

// TestKernelRemoved: a removed cgroup is gone for good, also when there is a
// new one of the same path.
func TestKernelRemoved(t *testing.T) {
	for name, warm := range map[string]bool{"files open": true, "files not open yet": false} {
		t.Run(name, func(t *testing.T) {
			fs := kernelFS(t, nil)
			g := newGroup(t, testRoot+"/"+hexA, limits(64*mib, 50000, 100000))
			proc, c := g.openWaiting(fs)
			var m view.Memory
			var cpu view.CPU
			var used view.CPUTime
			var tasks view.Tasks
			reads := map[string]func() error{
				"Memory":  func() error { return c.Memory(&m) },
				"CPU":     func() error { return c.CPU(&cpu) },
				"CPUTime": func() error { return c.CPUTime(&used) },
				"Tasks":   func() error { return c.Tasks(&tasks) },
			}
			for name, read := range reads {
				if err := read(); warm && err != nil {
					t.Fatal(name, err)
				}
				if !warm {
					for fs.files.dropOne() {
					}
				}
			}
			gone := func(when string) {
				t.Helper()
				for name, read := range reads {
					if err := read(); !errors.Is(err, ErrGone) {
						t.Errorf("%s, %s: %v", when, name, err)
					}
				}
				if got, err := fs.Reopen(c.Boundary().String()); !errors.Is(err, ErrGone) {
					t.Errorf("%s: Reopen gives %s, %v", when, got, err)
				}
				if _, err := fs.Open(c.Boundary()); !errors.Is(err, ErrGone) {
					t.Errorf("%s: Open gives %v", when, err)
				}
			}
			proc.end()
			g.remove()
			gone("removed")
			newGroup(t, g.path, limits(32*mib, 50000, 100000))
			gone("made again")
			if _, err := c.Birth(); err == nil {
				t.Error("Birth of a removed cgroup")
			}
		})
	}
}

// TestKernelRemovalRace reads while the cgroup is being removed, when its
// files vanish one after the other: the limit or ErrGone, never "unlimited".
func TestKernelRemovalRace(t *testing.T) {
	for name, maxOpen := range map[string]int{"files open": 100, "files opened anew": 1} {
		t.Run(name, func(t *testing.T) {
			fs := kernelFS(t, func(cfg *Config) { cfg.MaxOpen = maxOpen })
			proc := startChild(t, "wait", 0)
			for n := range 15 {
				g := newGroup(t, testRoot+"/"+hexA, limits(64*mib, 50000, 100000))
				g.add(proc.pid())
				c := openOf(t, fs, proc.pid())
				newGroup(t, testRoot+"/park", limits(64*mib, 50000, 100000)).add(proc.pid())
				started := make(chan struct{})
				done := make(chan error)
				go func() { done <- readUntilGone(c, started) }()
				var err error
				select {
				case <-started:
					g.remove()
					err = <-done
				case err = <-done:
				}
				if err != nil {
					t.Fatalf("removal %d: %v", n, err)
				}
			}
			proc.end()
		})
	}
}

func readUntilGone(c *Container, started chan<- struct{}) error {
	var m view.Memory
	var cpu view.CPU
	for n := 0; ; n++ {
		if n == 10 {
			close(started)
		}
		errMem, errCPU := c.Memory(&m), c.CPU(&cpu)
		switch {
		case errMem == nil && m.Levels[0].Limit != 64*mib:
			return fmt.Errorf("memory %+v", m)
		case errCPU == nil && cpu.Quota != 500:
			return fmt.Errorf("CPU %+v", cpu)
		case errMem != nil && !errors.Is(errMem, ErrGone):
			return errMem
		case errCPU != nil && !errors.Is(errCPU, ErrGone):
			return errCPU
		case errMem != nil && errCPU != nil:
			return nil
		}
	}
}

// TestKernelControllerComesBack: on v2 the files of a controller vanish and come
// back, with new ones, while the cgroup lives. (On v1 they cannot.)
func TestKernelControllerComesBack(t *testing.T) {
	fs := kernelFS(t, nil)
	g := newGroup(t, testRoot+"/"+hexA, limits(64*mib, 50000, 100000))
	proc, c := g.openWaiting(fs)
	var m view.Memory
	want := func(limit view.Limit) {
		t.Helper()
		if err := c.Memory(&m); err != nil || m.Levels[0].Limit != limit {
			t.Errorf("memory %+v, %v; want a limit of %d", m, err, limit)
		}
	}
	want(64 * mib)
	if g.v2 != nil {
		for _, how := range []string{"-memory", "+memory"} {
			if err := os.WriteFile("/sys/fs/cgroup"+testRoot+"/cgroup.subtree_control", []byte(how), 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.WriteFile(g.file("memory.limit_in_bytes", "memory.max"), []byte(strconv.Itoa(32*mib)), 0); err != nil {
		t.Fatal(err)
	}
	want(32 * mib)
	proc.end()
}

// TestKernelZombie: on v1 a process that has ended shows in the root cgroup.
// That must not make its container the host.
func TestKernelZombie(t *testing.T) {
	fs := kernelFS(t, nil)
	g := newGroup(t, testRoot+"/"+hexA, limits(64*mib, -1, 100000))
	proc := startChild(t, "wait", 0)
	g.add(proc.pid())
	want, err := fs.Boundary(uint32(proc.pid()))
	if err != nil {
		t.Fatal(err)
	}
	if err := proc.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	state := func() string {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", proc.pid()))
		if err != nil {
			t.Fatal(err)
		}
		return strings.Fields(string(b))[2]
	}
	for deadline := time.Now().Add(20 * time.Second); state() != "Z"; {
		// All along its way out.
		if got, err := fs.Boundary(uint32(proc.pid())); err == nil && got != want {
			t.Fatalf("on its way out: %s, want %s", got, want)
		}
		if time.Now().After(deadline) {
			t.Fatal("still no zombie")
		}
	}
	got, err := fs.Boundary(uint32(proc.pid()))
	if !errors.Is(err, ErrNoProcess) && (g.v2 == nil || err != nil || got != want) {
		t.Errorf("zombie: %s, %v", got, err)
	}
	proc.cmd.Wait()
	if got, err := fs.Boundary(uint32(proc.pid())); !errors.Is(err, ErrNoProcess) {
		t.Errorf("reaped: %s, %v", got, err)
	}
}
