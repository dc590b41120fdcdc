// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/podproc/podproc/fusefs/view"
)

// TestGarbage: each control file in turn is empty, cut off or nonsense. The
// error names it and quotes it.
func TestGarbage(t *testing.T) {
	for mode, f := range map[string]files{"v1": podV1, "v2": podV2} {
		tr := newTree(t, f)
		c := tr.container(tr.open(nil))
		var m view.Memory
		var cpu view.CPU
		var used view.CPUTime
		var tasks view.Tasks
		read := func() error {
			return errors.Join(c.Memory(&m), c.CPU(&cpu), c.CPUTime(&used), c.Tasks(&tasks))
		}
		if err := read(); err != nil {
			t.Fatal(err)
		}
		n := 0
		for path, text := range f {
			name := path[strings.LastIndexByte(path, '/')+1:]
			unused := name == "" || strings.HasPrefix(name, "cgroup.") || name == "cpuacct.stat" || name == "cpu.shares" || name == "cpu.weight" || name == "cpuset.cpus"
			if !strings.Contains(path, path1) || unused {
				continue
			}
			n++
			for _, broken := range []string{"", "\n", text[:len(text)-1], "garbage\n"} {
				if broken == "\n" && name == "cpuset.cpus.effective" || broken == "\n" && name == "cpuset.effective_cpus" {
					continue // not set
				}
				tr.write(path, broken)
				err := read()
				if err == nil {
					t.Errorf("%s: %s is %q, and nothing is said", mode, path, broken)
				} else if quote := fmt.Sprintf("%q", broken); !strings.Contains(err.Error(), name) || len(broken) < 20 && !strings.Contains(err.Error(), strings.Trim(quote, `"n\`)) {
					t.Errorf("%s: %s is %q: %v", mode, path, broken, err)
				}
			}
			tr.write(path, text)
			if err := read(); err != nil {
				t.Errorf("%s: after %s: %v", mode, path, err)
			}
		}
		if n < 7 {
			t.Errorf("%s: only %d files", mode, n)
		}
	}
}

// TestLiveChange: a limit that changes is seen at the next read, at every
// level, through descriptors that are open.
func TestLiveChange(t *testing.T) {
	tr := newTree(t, podV2)
	c := tr.container(tr.open(nil))
	var m view.Memory
	var cpu view.CPU
	for n := range 5 {
		for i, path := range []string{path1, podPath, "/kubepods"} {
			limit := uint64(n*3+i+1) * mib
			tr.write("cgroup"+path+"/memory.max", fmt.Sprintf("%d\n", limit))
			tr.write("cgroup"+path+"/cpu.max", fmt.Sprintf("%d 100000\n", limit))
			if err := errors.Join(c.Memory(&m), c.CPU(&cpu)); err != nil {
				t.Fatal(err)
			}
			found := false
			for _, l := range m.Levels {
				found = found || l.Limit == view.Limit(limit)
			}
			if !found {
				t.Errorf("no level has limit %d: %+v", limit, m.Levels)
			}
		}
	}
}

// TestControllerEnabledLater: files that were missing appear.
func TestControllerEnabledLater(t *testing.T) {
	f := without(podV2, "cpu.max")
	tr := newTree(t, f)
	c := tr.container(tr.open(nil))
	var cpu view.CPU
	if err := c.CPU(&cpu); err != nil || cpu.Quota != view.Unlimited {
		t.Fatal(cpu, err)
	}
	tr.write("cgroup"+path1+"/cpu.max", "50000 100000\n")
	for deadline := time.Now().Add(10 * time.Second); cpu.Quota != 500; time.Sleep(time.Millisecond) {
		if err := c.CPU(&cpu); err != nil || time.Now().After(deadline) {
			t.Fatal(cpu, err)
		}
	}
}

// TestMissingFile: a cgroup that exists but lacks a file that it must have is
// an error, not a container without limit.
func TestMissingFile(t *testing.T) {
	for name, f := range map[string]files{
		"memory.limit_in_bytes": podV1, "memory.stat": podV1, "memory.usage_in_bytes": podV1, "memory.memsw.usage_in_bytes": podV1,
		"memory.max": podV2, "memory.current": podV2, "memory.swap.current": podV2,
	} {
		tr := newTree(t, f)
		for path := range f {
			if strings.HasSuffix(path, path1+"/"+name) {
				tr.remove(path)
			}
		}
		var m view.Memory
		err := tr.container(tr.open(nil)).Memory(&m)
		if err == nil || errors.Is(err, ErrGone) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v, %+v", name, err, m)
		}
	}
}

func TestNodeWideAge(t *testing.T) {
	tr := newTree(t, podV2)
	c := tr.container(tr.open(func(cfg *Config) { cfg.NodeWideAge = time.Hour }))
	var m view.Memory
	usage := func(want uint64) {
		t.Helper()
		if err := c.Memory(&m); err != nil || m.Levels[3].Usage != want {
			t.Errorf("%+v, %v; want usage %d", m.Levels[3], err, want)
		}
	}
	usage(6 * gib)
	tr.write("cgroup/kubepods/memory.current", "1\n")
	usage(6 * gib)
	c = tr.container(tr.open(func(cfg *Config) { cfg.NodeWideAge = time.Nanosecond }))
	usage(1)
	tr.write("cgroup/kubepods/memory.current", "2\n")
	usage(2)
}

// TestSharedDirs: containers of a pod share what is above them, and all of it
// is let go in the end.
func TestSharedDirs(t *testing.T) {
	tr := newTree(t, union(podV2, in("cgroup"+podPath+"/"+hexB, v2Cgroup("", "1", ""))))
	fs := tr.open(nil)
	a, err := fs.Boundary(100)
	if err != nil {
		t.Fatal(err)
	}
	tr.write("proc/100/cgroup", "0::"+podPath+"/"+hexB+"\n")
	b, err := fs.Boundary(100)
	if err != nil {
		t.Fatal(err)
	}
	var opened []*Container
	for _, boundary := range []Boundary{a, b, a} {
		c, err := fs.Open(boundary)
		if err != nil {
			t.Fatal(err)
		}
		opened = append(opened, c)
		var m view.Memory
		if err := c.Memory(&m); err != nil {
			t.Fatal(err)
		}
	}
	if len(fs.dirs) != 6 || opened[0].chains[0].dirs[1] != opened[1].chains[0].dirs[1] {
		t.Errorf("%d dirs", len(fs.dirs))
	}
	for _, c := range opened {
		c.Close()
	}
	if len(fs.dirs) != 0 || fs.files.open() != 0 {
		t.Errorf("%d dirs and %d files are left", len(fs.dirs), fs.files.open())
	}
}

// TestConcurrent reads from many goroutines with far too few descriptors, while
// containers come and go: no error, no foreign number, no descriptor left.
func TestConcurrent(t *testing.T) {
	f := union(podV2)
	const containers = 8
	paths := make([]string, containers)
	for i := range paths {
		paths[i] = fmt.Sprintf("%s/%s%02d", podPath, hexB[2:], i)
		f = union(f, in("cgroup"+paths[i], v2Cgroup(fmt.Sprint((i+1)*mib), "1", fmt.Sprintf("%d 100", (i+1)*100))),
			in(fmt.Sprintf("proc/%d", 200+i), files{"cgroup": "0::" + paths[i] + "\n"}))
	}
	tr := newTree(t, f)
	const bound, readers = 5, 6
	rounds := 200
	if testing.Short() {
		rounds = 50
	}
	fs := tr.open(func(cfg *Config) { cfg.MaxOpen = bound })
	before := openDescriptors(t)
	var wg sync.WaitGroup
	for r := range readers {
		wg.Go(func() {
			var m view.Memory
			var cpu view.CPU
			for n := range rounds {
				i := (n*7 + r) % containers
				b, err := fs.Boundary(uint32(200 + i))
				if err != nil {
					t.Error(err)
					return
				}
				c, err := fs.Open(b)
				if err != nil {
					t.Error(err)
					return
				}
				for range 3 {
					err = errors.Join(c.Memory(&m), c.CPU(&cpu))
					if err != nil || m.Levels[0].Limit != view.Limit((i+1)*mib) || cpu.Quota != view.Limit(min((i+1)*1000, 2000)) {
						t.Errorf("container %d: %v %+v %+v", i, err, m, cpu)
						return
					}
				}
				if n := fs.files.open(); n > bound {
					t.Errorf("%d files open", n)
				}
				c.Close()
			}
		})
	}
	wg.Wait()
	if n := openDescriptors(t); n != before || fs.files.open() != 0 {
		t.Errorf("%d descriptors, %d before; %d files open", n, before, fs.files.open())
	}
}
