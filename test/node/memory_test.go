// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const mb = 1 << 20

// TestFree: free inside follows memory that is allocated and freed.
func TestFree(t *testing.T) {
	need(t, "free")
	c := newContainer(t, "--memory", "256Mi")
	free := func() int {
		_, line, _ := strings.Cut(c.sh("free -k"), "Mem:")
		n, err := strconv.Atoi(strings.Fields(line)[2])
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	for range 3 {
		before := free()
		c.do(request{Alloc: 100 * mb, Kind: "anon"})
		time.Sleep(2 * freshness)
		with := free()
		c.do(request{Free: true})
		time.Sleep(2 * freshness)
		after := free()
		// Page tables and what the agent itself does come on top.
		const slack = 8 << 10
		if got := before - with; got < 100<<10-slack || got > 100<<10+slack {
			t.Errorf("%s after 100 MiB were allocated, free went down by %d kB, from %d to %d", 2*freshness, got, before, with)
		}
		if got := after - with; got < 100<<10-slack || got > 100<<10+slack {
			t.Errorf("%s after 100 MiB were freed, free went up by %d kB, from %d to %d", 2*freshness, got, with, after)
		}
	}
}

// stat reads a key of the container's memory.stat in kB, by its names on v1
// and v2.
func (c *container) stat(v1, v2 string) int {
	c.t.Helper()
	key := "total_" + v1
	if unified() {
		key = v2
	}
	for line := range strings.Lines(c.file("memory", "memory.stat")) {
		if rest, ok := strings.CutPrefix(line, key+" "); ok {
			n, err := strconv.Atoi(strings.TrimSpace(rest))
			if err != nil {
				c.t.Fatal(err)
			}
			return n / 1024
		}
	}
	c.t.Fatalf("memory.stat has no key %q", key)
	return 0
}

// TestKindsOfMemory: what the container does shows on the right line; what
// LXCFS 7 shows there is 0, or underflows.
func TestKindsOfMemory(t *testing.T) {
	tests := []struct {
		name   string
		alloc  request
		script string
		line   string
		v1, v2 string
		least  int // kB
	}{
		{"mapped file", request{Alloc: 50 * mb, Kind: "mapped", File: "FILE"}, "", "Mapped", "mapped_file", "file_mapped", 50 << 10},
		{"huge pages", request{Alloc: 40 * mb, Kind: "huge"}, "", "AnonHugePages", "rss_huge", "anon_thp", 40 << 10},
		{"anonymous", request{Alloc: 40 * mb, Kind: "anon"}, "", "AnonPages", "rss", "anon", 40 << 10},
		{"written, not synced", request{}, "dd if=/dev/zero of=FILE.dirty bs=1M count=16 2>/dev/null", "Dirty", "dirty", "file_dirty", 0},
		{"locked shared memory", request{Alloc: 40 * mb, Kind: "shm"}, "", "Shmem", "shmem", "shmem", 40 << 10},
		{"locked shared memory", request{Alloc: 40 * mb, Kind: "shm"}, "", "Unevictable", "unevictable", "unevictable", 40 << 10},
	}
	host := parseMeminfo(t, read(t, "/proc/meminfo"))
	for _, tt := range tests {
		t.Run(tt.name+"/"+tt.line, func(t *testing.T) {
			if tt.alloc.Kind == "huge" && !strings.Contains(read(t, "/sys/kernel/mm/transparent_hugepage/enabled"), "[never]") == false {
				t.Fatal("transparent huge pages are switched off on this machine")
			}
			c := newContainer(t, "--memory", "256Mi")
			file := filepath.Join(disk(t), "file")
			if tt.alloc.File != "" {
				tt.alloc.File = file
				c.sh("dd if=/dev/zero of=" + file + " bs=1M count=50 2>/dev/null")
			}
			if tt.alloc.Alloc > 0 {
				c.do(tt.alloc)
			}
			if tt.script != "" {
				c.sh(strings.ReplaceAll(tt.script, "FILE", file))
			}
			// The kernel writes dirty pages back meanwhile, and brings
			// memory.stat up to date every two seconds: a value is right if
			// it lies between two looks at the kernel's own.
			for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
				before := c.stat(tt.v1, tt.v2)
				time.Sleep(freshness + 20*time.Millisecond)
				m := c.meminfo()
				after := c.stat(tt.v1, tt.v2)
				got := m[tt.line]
				if got >= min(before, after) && got <= max(before, after) && got >= tt.least {
					checkMeminfo(t, m, host)
					return
				}
				if time.Now().After(end) {
					t.Fatalf("%s: %d kB, memory.stat says %d before and %d after, want at least %d", tt.line, got, before, after, tt.least)
				}
			}
		})
	}
}

// checkMeminfo looks for what can never be.
func checkMeminfo(t *testing.T, m, host map[string]int) {
	t.Helper()
	for key, value := range m {
		if value > host["MemTotal"]+host["SwapTotal"] && !strings.HasPrefix(key, "Vmalloc") && !strings.HasPrefix(key, "DirectMap") {
			t.Errorf("%s: %d kB is more than the machine has", key, value)
		}
	}
	if !(m["MemFree"] <= m["MemAvailable"] && m["MemAvailable"] <= m["MemTotal"] && m["MemTotal"] > 0) {
		t.Errorf("MemFree %d, MemAvailable %d, MemTotal %d", m["MemFree"], m["MemAvailable"], m["MemTotal"])
	}
}

// disk is a directory on a file system that writes to a disk, not in memory.
func disk(t *testing.T) string {
	t.Helper()
	for _, dir := range []string{os.TempDir(), "/var/tmp", "/root", "/"} {
		var st unix.Statfs_t
		if unix.Statfs(dir, &st) != nil || st.Type == unix.TMPFS_MAGIC || st.Type == unix.RAMFS_MAGIC || st.Type == unix.OVERLAYFS_SUPER_MAGIC {
			continue
		}
		if d, err := os.MkdirTemp(dir, "podproc-test-"); err == nil {
			t.Cleanup(func() { os.RemoveAll(d) })
			return d
		}
	}
	t.Fatal("no directory on a disk can be written")
	return ""
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestSwap: swap in meminfo and swaps is the container's, and both agree.
func TestSwap(t *testing.T) {
	host := parseMeminfo(t, read(t, "/proc/meminfo"))["SwapTotal"]
	c := newContainer(t, "--memory", "128Mi")
	for _, limit := range []int{0, 64 << 10} { // kB
		want := min(limit, host)
		if unified() {
			if !exists(c.cgroup["memory"] + "/memory.swap.max") {
				t.Fatal("the kernel does not count swap: boot with swapaccount=1")
			}
			write(t, c.cgroup["memory"]+"/memory.swap.max", strconv.Itoa(limit<<10))
		} else {
			if !exists(c.cgroup["memory"] + "/memory.memsw.limit_in_bytes") {
				t.Fatal("the kernel does not count swap: boot with swapaccount=1")
			}
			write(t, c.cgroup["memory"]+"/memory.memsw.limit_in_bytes", strconv.Itoa(128*mb+limit<<10))
		}
		time.Sleep(2 * freshness)
		m, swaps := c.meminfo(), strings.Split(strings.TrimSpace(c.read("/proc/swaps")), "\n")
		if m["SwapTotal"] != want || m["SwapFree"] > want {
			t.Errorf("limit of swap %d kB on a machine with %d: SwapTotal %d, SwapFree %d", limit, host, m["SwapTotal"], m["SwapFree"])
		}
		total := 0
		for _, line := range swaps[1:] {
			n, err := strconv.Atoi(strings.Fields(line)[2])
			if err != nil {
				t.Fatal(err)
			}
			total += n
		}
		if !strings.HasPrefix(swaps[0], "Filename") || total != want {
			t.Errorf("swaps says %d kB in all, want %d: %q", total, want, swaps)
		}
	}
}

// TestSiblings: a limit above the container counts, and what others use of it.
func TestSiblings(t *testing.T) {
	parent := newParent(t, "", 200*mb)
	flags := []string{"--cgroup-parent", parent, "--memory", "400Mi"}
	one, other := newContainer(t, flags...), newContainer(t, flags...)
	one.do(request{Alloc: 120 * mb, Kind: "anon"})
	time.Sleep(2 * freshness)
	m := other.meminfo()
	if got, want := m["MemTotal"], 200<<10; got != want {
		t.Errorf("MemTotal below a parent of 200 MiB: %d kB, want %d", got, want)
	}
	// Both agents and what the kernel keeps for them come on top.
	if got := m["MemFree"]; got < 50<<10 || got > 80<<10 {
		t.Errorf("MemFree beside a sibling that uses 120 of 200 MiB: %d kB", got)
	}
	if got := m["AnonPages"]; got > 60<<10 {
		t.Errorf("AnonPages are %d kB, the sibling's", got)
	}
}

// TestNodeWide: what other containers hold as page cache is there to be had.
func TestNodeWide(t *testing.T) {
	parent := newParent(t, "/kubepods", 160*mb)
	idle := newContainer(t, "--cgroup-parent", parent, "--memory", "64Mi")
	filler := newContainer(t, "--cgroup-parent", parent)
	file := filepath.Join(disk(t), "file")
	// Clean pages: dirty ones are not there to be had at once.
	for i := range 4 { // a disk may be slow
		filler.sh(fmt.Sprintf("dd if=/dev/zero of=%s bs=1M count=50 seek=%d conv=notrunc 2>/dev/null; sync %[1]s", file, 50*i))
	}
	filler.sh(fmt.Sprintf("cat %s >/dev/null", file))
	eventually(t, "Available of a small idle container near its limit while others fill the node's with page cache", func() bool {
		m := idle.meminfo()
		return m["MemTotal"] == 64<<10 && m["MemAvailable"] > 48<<10 && m["MemFree"] > 32<<10
	})
	// The node's level really is full.
	level := &container{t: t, cgroup: map[string]string{"memory": filepath.Dir(idle.cgroup["memory"])}}
	name := "memory.usage_in_bytes"
	if unified() {
		name = "memory.current"
	}
	usage, err := strconv.Atoi(strings.TrimSpace(level.file("memory", name)))
	if err != nil || usage < 120*mb {
		t.Errorf("only %d bytes of the node's level are in use (%v): this test shows nothing", usage, err)
	}
}
