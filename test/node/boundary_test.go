// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

// total is a command that says MemTotal of a meminfo.
const total = "awk \"/^MemTotal/ { print \\$2 }\" "

func wantTotal(t *testing.T, who, got string, kb int) {
	t.Helper()
	if got := strings.TrimSpace(got); got != strconv.Itoa(kb) {
		t.Errorf("%s: MemTotal is %s kB, want %d", who, got, kb)
	}
}

// TestReaders: whoever reads a container's file sees that container, and
// whoever reads in the tree itself sees his own.
func TestReaders(t *testing.T) {
	need(t, "nsenter", "awk")
	a, b := newContainer(t, "--memory", "100Mi"), newContainer(t, "--memory", "200Mi")
	const inA, inB = 100 << 10, 200 << 10
	host := parseMeminfo(t, read(t, "/proc/meminfo"))["MemTotal"]

	wantTotal(t, "the container's own process", a.sh(total+"/proc/meminfo"), inA)
	wantTotal(t, "a process that joined cgroup and namespaces, as kubectl exec", a.enter(true, total+"/proc/meminfo"), inA)
	wantTotal(t, "a process that joined the namespaces alone", a.enter(false, total+"/proc/meminfo"), inA)
	wantTotal(t, "a process that joined the cgroups alone, in the tree", shell(t, joining(a.cgroup)+total+tree+"/proc/meminfo"), inA)
	wantTotal(t, "the machine, in the tree", shell(t, total+tree+"/proc/meminfo"), host)
	wantTotal(t, "the machine, in its own /proc", shell(t, total+"/proc/meminfo"), host)

	through := fmt.Sprintf("/proc/%d/root/proc/meminfo", a.agent)
	wantTotal(t, "the machine, through /proc/PID/root", shell(t, total+through), inA)
	wantTotal(t, "another container, through /proc/PID/root", shell(t, joining(b.cgroup)+total+through), inA)
	wantTotal(t, "the container after others passed by", a.sh(total+"/proc/meminfo"), inA)

	// LXCFS shows the container whose init is pid 1 there.
	shared := fmt.Sprintf("exec nsenter --pid=/proc/%d/ns/pid ", a.agent)
	wantTotal(t, "a container that shares the pid namespace of another, by its mounts",
		shell(t, joining(b.cgroup)+shared+fmt.Sprintf("--mount=/proc/%d/ns/mnt ", b.agent)+total+"/proc/meminfo"), inB)
	wantTotal(t, "a container that shares the pid namespace of another, in the tree",
		shell(t, joining(b.cgroup)+shared+total+tree+"/proc/meminfo"), inB)
}

// TestPassersBy: who only passes by does not take a file that its container
// has not read yet.
func TestPassersBy(t *testing.T) {
	a, b := newContainer(t, "--memory", "100Mi"), newContainer(t, "--memory", "200Mi")
	through := fmt.Sprintf("/proc/%d/root/proc/meminfo", a.agent)
	wantTotal(t, "another container, first of all", shell(t, joining(b.cgroup)+total+through), 100<<10)
	wantTotal(t, "the container itself", a.sh(total+"/proc/meminfo"), 100<<10)
}

// TestOutsideBinds: a file bound from outside of the container's cgroup, as
// runc does with user namespaces, becomes the container's at its first read.
func TestOutsideBinds(t *testing.T) {
	need(t, "nsenter", "mount")
	a := newContainer(t, "--memory", "100Mi", "--files", "swaps")
	b := newContainer(t, "--memory", "200Mi", "--files", "swaps")
	for _, c := range []*container{a, b} {
		shell(t, fmt.Sprintf("nsenter -t %d -m -- mount --bind -o ro %s/proc/meminfo /proc/meminfo", c.agent, tree))
	}
	for range 2 {
		wantTotal(t, "the first container", a.sh(total+"/proc/meminfo"), 100<<10)
		wantTotal(t, "the other one", b.sh(total+"/proc/meminfo"), 200<<10)
	}
	wantTotal(t, "the machine, through /proc/PID/root", shell(t, fmt.Sprintf("%s/proc/%d/root/proc/meminfo", total, b.agent)), 200<<10)
}

// TestNested: a tighter limit below the container's boundary, as systemd or
// Docker inside set it, changes nothing.
func TestNested(t *testing.T) {
	c := newContainer(t, "--memory", "256Mi")
	rest, tight := c.cgroup["memory"]+"/init.scope", c.cgroup["memory"]+"/tight"
	for _, dir := range []string{rest, tight} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	limit := "/memory.limit_in_bytes"
	if unified() {
		// A cgroup with limited children has no processes of its own.
		write(t, rest+"/cgroup.procs", strconv.Itoa(c.agent))
		write(t, c.cgroup["memory"]+"/cgroup.subtree_control", "+memory")
		limit = "/memory.max"
	}
	write(t, tight+limit, strconv.Itoa(32*mb))
	wantTotal(t, "a reader with a tighter limit below the container's",
		c.sh("echo $$ > "+tight+"/cgroup.procs; "+total+"/proc/meminfo"), 256<<10)
	wantTotal(t, "a reader in init.scope",
		c.sh("echo $$ > "+rest+"/cgroup.procs; "+total+"/proc/meminfo"), 256<<10)
}
