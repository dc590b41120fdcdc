// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package fusefs

import (
	"strings"
	"testing"
)

// Node ids outlive processes: a row's index is for ever.
func TestIndicesAreForEver(t *testing.T) {
	want := map[string]uint8{
		"": 0, ".inode": 1, "proc": 2, "sys": 3,
		"sys/devices": 4, "sys/devices/system": 5, "sys/devices/system/cpu": 6, "proc/pressure": 7,
		"proc/meminfo": 32, "proc/cpuinfo": 33, "proc/stat": 34, "proc/swaps": 35,
		"sys/devices/system/cpu/online": 36, "proc/uptime": 37, "proc/loadavg": 38,
		"proc/pressure/cpu": 39, "proc/pressure/io": 40, "proc/pressure/memory": 41, "proc/diskstats": 42,
	}
	seen := map[uint8]string{}
	for _, n := range nodes {
		if want[n.path] != n.index || n.path != "" && n.index == 0 {
			t.Errorf("%s has index %d, want %d", n.path, n.index, want[n.path])
		}
		if n.index == 255 {
			t.Errorf("%s has index 255, which is go-fuse's", n.path)
		}
		if other, ok := seen[n.index]; ok {
			t.Errorf("%s and %s have the same index", n.path, other)
		}
		seen[n.index] = n.path
		delete(want, n.path)
	}
	for path := range want {
		t.Errorf("%s is no more", path)
	}
}

func TestNames(t *testing.T) {
	table := newTable(nil)
	names := map[string]bool{}
	for i := range nodes {
		n := &nodes[i]
		if got, number := table.node(n.id()); got != n || number != 0 {
			t.Errorf("node(%#x) = %v, %d, want %s", n.id(), got, number, n.path)
		}
		if n.file == nil {
			continue
		}
		if names[n.name()] {
			t.Errorf("two files are named %s: their inodes' names would be the same", n.name())
		}
		names[n.name()] = true
		for _, number := range []uint64{1, 17, numberMask} {
			target := n.target(number)
			if ups := strings.Count(target, "../"); ups != strings.Count(n.path, "/") {
				t.Errorf("target of %s is %s: it must lead to the root", n.path, target)
			}
			id := table.inodeByName(target[strings.LastIndexByte(target, '/')+1:])
			if got, back := table.node(id); got != n || back != number {
				t.Errorf("%s leads to %v, %d; want %s, %d", target, got, back, n.path, number)
			}
		}
	}
	for _, name := range []string{"", "-", "meminfo", "meminfo-", "meminfo-0", "meminfo-01", "meminfo-+1", "meminfo--1", "nothing-1", "meminfo-72057594037927936", "meminfo-1\x00"} {
		if id := table.inodeByName(name); id != 0 {
			t.Errorf("inodeByName(%q) = %#x, want 0", name, id)
		}
	}
}

// What another version knew goes on as the host's text.
func TestForeignFile(t *testing.T) {
	table := newTable(map[uint8]string{200: "/proc/future", 32: "/proc/meminfo"})
	n, number := table.node(200<<indexShift | 5)
	if n == nil || number != 5 || n.path != "proc/future" || n.file == nil {
		t.Errorf("an inode of another version's file is %v, %d", n, number)
	}
	if n, _ := table.node(32 << indexShift); n.file == nil || n.file.Render == nil {
		t.Error("our own file was replaced by another version's")
	}
}
