// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	cgroups "github.com/containerd/cgroups/v3"
	"golang.org/x/sys/unix"
)

// TestKernelNamespace: a container without a name that tells, found by the
// init of its pid namespace; the kernel's answer (Linux 6.11) and the search
// agree.
func TestKernelNamespace(t *testing.T) {
	fs := kernelFS(t, nil)
	box := newGroup(t, testRoot+"/box", limits(64*mib, -1, 100000))
	// On v2 a process can be in leaves only, so init has one like systemd's.
	home := newGroup(t, box.path+"/init.scope", limits(64*mib, -1, 100000))
	sub := newGroup(t, box.path+"/sub", limits(32*mib, -1, 100000))
	init := startChild(t, "init", unix.CLONE_NEWPID)
	init.hear()
	other := childOf(t, init.pid())
	home.add(init.pid())
	sub.add(other)
	for name, pid := range map[string]int{"init": init.pid(), "other": other} {
		b, err := fs.Boundary(uint32(pid))
		if err != nil {
			t.Fatal(err)
		}
		if !b.Container() || !strings.Contains(b.String(), box.path) || strings.Contains(b.String(), box.path+"/") {
			t.Errorf("%s: %s, want %s", name, b, box.path)
		}
	}
	p, err := fs.process(other)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	if id := p.askInit(); id != 0 && id != init.pid() {
		t.Errorf("the kernel says init is %d, not %d", id, init.pid())
	} else {
		t.Logf("asked for init, the kernel says %d (0: too old)", id)
	}
	places, err := p.places()
	if err != nil {
		t.Fatal(err)
	}
	ns, err := p.namespace()
	if err != nil {
		t.Fatal(err)
	}
	found, err := p.searchInit(places, ns)
	if err != nil || len(found) == 0 || !strings.Contains(fmt.Sprint(found), home.path) {
		t.Errorf("the search finds %v, %v", found, err)
	}
}

func childOf(t *testing.T, pid int) int {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		b, err := os.ReadFile(task)
		if err != nil {
			t.Fatal(err)
		}
		if f := strings.Fields(string(b)); len(f) == 1 {
			n, err := strconv.Atoi(f[0])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("process %d has no child", pid)
	return 0
}

// TestKernelPidReuse: what was opened of one process never tells of the next
// one with the same id. It runs in a pid namespace of its own, where nobody
// else takes the id.
func TestKernelPidReuse(t *testing.T) {
	a := newGroup(t, testRoot+"/"+hexA, limits(64*mib, -1, 100000))
	b := newGroup(t, testRoot+"/"+hexB, limits(64*mib, -1, 100000))
	cmd := childCommand("reuse", a.path, b.path)
	cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWPID | unix.CLONE_NEWNS
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// reusePid is the part of TestKernelPidReuse inside.
func reusePid(pathA, pathB string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount proc: %w", err)
	}
	fs, err := New(Config{})
	if err != nil {
		return err
	}
	start := func(path string) (*exec.Cmd, error) {
		cmd := childCommand("wait")
		if _, err := cmd.StdinPipe(); err != nil {
			return nil, err
		}
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		return cmd, enter(path, cmd.Process.Pid)
	}
	stop := func(cmd *exec.Cmd) { cmd.Process.Kill(); cmd.Wait() }
	first, err := start(pathA)
	if err != nil {
		return err
	}
	id := first.Process.Pid
	bound, err := fs.Boundary(uint32(id))
	if err != nil || !strings.Contains(bound.String(), pathA) {
		return fmt.Errorf("first process: %s, %w", bound, err)
	}
	opened, err := fs.process(id)
	if err != nil {
		return err
	}
	stop(first)
	for range 1000 { // a thread of this program may take the id meanwhile
		if err := os.WriteFile("/proc/sys/kernel/ns_last_pid", fmt.Append(nil, id-1), 0); err != nil {
			return err
		}
		second, err := start(pathB)
		if err != nil {
			return err
		}
		if second.Process.Pid != id {
			stop(second)
			continue
		}
		defer stop(second)
		if places, err := opened.places(); !errors.Is(err, ErrNoProcess) {
			return fmt.Errorf("through the first process's directory: %v, %w", places, err)
		}
		bound, err := fs.Boundary(uint32(id))
		if err != nil || !strings.Contains(bound.String(), pathB) {
			return fmt.Errorf("second process: %s, %w", bound, err)
		}
		return nil
	}
	return fmt.Errorf("id %d was never used again", id)
}

// enter moves a process into the cgroup at path in every hierarchy.
func enter(path string, pid int) error {
	procs := []string{"/sys/fs/cgroup" + path + "/cgroup.procs"}
	if cgroups.Mode() != cgroups.Unified {
		var err error
		if procs, err = filepath.Glob("/sys/fs/cgroup/*" + path + "/cgroup.procs"); err != nil {
			return err
		}
	}
	for _, file := range procs {
		if err := os.WriteFile(file, fmt.Append(nil, pid), 0); err != nil {
			return fmt.Errorf("enter cgroup: %w", err)
		}
	}
	return nil
}
