// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package fusefs_test

import (
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/podproc/podproc/fusefs"
)

// numbers of the files in package fusefs, which are for ever.
var numbers = map[string]uint64{"meminfo": 32, "cpuinfo": 33, "stat": 34, "swaps": 35, "online": 36}

// handlers is a file system that nobody mounts, and the GETATTRs that a
// process of a container would send it.
func handlers(tb testing.TB, freshness time.Duration) (*fusefs.FS, func(file string) *fuse.GetAttrIn) {
	fs, err := fusefs.New(fusefs.Config{Freshness: freshness})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { fs.Close() })
	c := newContainer(tb, 64<<20)
	cmd := exec.Command("sleep", "infinity")
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	if err := os.WriteFile(c.dir+"/cgroup.procs", []byte(strconv.Itoa(cmd.Process.Pid)), 0); err != nil {
		tb.Fatal(err)
	}
	return fs, func(file string) *fuse.GetAttrIn {
		in := &fuse.GetAttrIn{Flags_: fuse.FUSE_GETATTR_FH}
		in.NodeId, in.Pid = numbers[file]<<56|1, uint32(cmd.Process.Pid)
		return in
	}
}

// BenchmarkGetAttr is what a snapshot costs without FUSE: of so many mounts
// that each is out of date when its turn comes, while the host's files, which
// all of them share, are not.
func BenchmarkGetAttr(b *testing.B) {
	const mounts = 4096
	fs, get := handlers(b, 10*time.Millisecond)
	for file := range numbers {
		b.Run(file, func(b *testing.B) {
			in, out := get(file), new(fuse.AttrOut)
			first := in.NodeId
			before, n := fs.Stats.Refreshes.Load(), uint64(0)
			one := func() {
				in.NodeId = first + n%mounts
				n++
				if status := fs.GetAttr(nil, in, out); !status.Ok() || out.Size == 0 {
					b.Fatalf("GETATTR: %v, %d bytes", status, out.Size)
				}
			}
			for range mounts {
				one()
			}
			b.ReportAllocs()
			for b.Loop() {
				one()
			}
			b.ReportMetric(float64(fs.Stats.Refreshes.Load()-before)/float64(n), "snapshots/op")
		})
	}
}

// What is answered from the snapshot allocates nothing. (What a new snapshot
// allocates BenchmarkGetAttr tells.)
func TestRequestsDoNotAllocate(t *testing.T) {
	fs, get := handlers(t, time.Hour)
	in, out, buf := get("meminfo"), new(fuse.AttrOut), make([]byte, 8192)
	read := &fuse.ReadIn{InHeader: in.InHeader}
	if n := testing.AllocsPerRun(1000, func() {
		if status := fs.GetAttr(nil, in, out); !status.Ok() {
			t.Errorf("GETATTR: %v", status)
		}
		r, status := fs.Read(nil, read, buf)
		if !status.Ok() || r.Size() == 0 {
			t.Errorf("READ: %v", status)
		}
		r.Done()
	}); n != 0 {
		t.Errorf("a GETATTR and a READ allocate %v times", n)
	}
}
