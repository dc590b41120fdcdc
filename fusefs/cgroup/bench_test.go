// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"os"
	"testing"

	"github.com/podproc/podproc/fusefs/view"
)

// kernelPod is a container at the depth that the kubelet makes, on this
// machine's kernel: node-wide, QoS and pod level above, limits at three.
func kernelPod(t testing.TB, change func(*Config)) (*FS, *Container) {
	t.Helper()
	fs := kernelFS(t, change)
	newGroup(t, testRoot+"/kubepods", limits(1024*mib, -1, 100000))
	newGroup(t, testRoot+"/kubepods/burstable", limits(-1, -1, 100000))
	newGroup(t, testRoot+podPath, limits(512*mib, 150000, 100000))
	g := newGroup(t, testRoot+path1, limits(256*mib, 100000, 100000))
	_, c := g.openWaiting(fs)
	return fs, c
}

// reads are all reads of a container, into values that are used again.
func reads(c *Container) map[string]func() error {
	var m view.Memory
	var cpu view.CPU
	var used view.CPUTime
	var tasks view.Tasks
	return map[string]func() error{
		"Memory":  func() error { return c.Memory(&m) },
		"CPU":     func() error { return c.CPU(&cpu) },
		"CPUTime": func() error { return c.CPUTime(&used) },
		"Tasks":   func() error { return c.Tasks(&tasks) },
	}
}

// TestKernelReadsDoNotAllocate: also when node-wide numbers are kept, are not
// kept, and when files are missing.
func TestKernelReadsDoNotAllocate(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"node-wide numbers kept":  func(cfg *Config) { cfg.NodeWideAge = 0 },
		"node-wide numbers fresh": nil,
	} {
		t.Run(name, func(t *testing.T) {
			_, c := kernelPod(t, change)
			for read, f := range reads(c) {
				if err := f(); err != nil {
					t.Fatal(err)
				}
				// A file that is missing is looked for again after a while: less
				// than once a read.
				if n := testing.AllocsPerRun(1000, func() {
					if err := f(); err != nil {
						t.Error(err)
					}
				}); n != 0 {
					t.Errorf("%s allocates %v times", read, n)
				}
			}
		})
	}
}

func BenchmarkKernel(b *testing.B) {
	fs, c := kernelPod(b, func(cfg *Config) { cfg.NodeWideAge = 0 })
	for _, name := range []string{"Memory", "CPU", "CPUTime", "Tasks"} {
		read := reads(c)[name]
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := read(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("MemoryParallel", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			var m view.Memory
			for pb.Next() {
				if err := c.Memory(&m); err != nil {
					b.Error(err)
				}
			}
		})
	})
	b.Run("Boundary", func(b *testing.B) {
		b.ReportAllocs()
		pid := uint32(os.Getpid())
		for b.Loop() {
			if _, err := fs.Boundary(pid); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("OpenClose", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			c, err := fs.Open(c.Boundary())
			if err := errors.Join(err, c.Close()); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkParse is what parsing costs without the kernel.
func BenchmarkParse(b *testing.B) {
	var s view.MemoryStat
	text := []byte(memoryStatTextV2)
	b.ReportAllocs()
	for b.Loop() {
		if err := parseMemoryStat(&s, text, true); err != nil {
			b.Fatal(err)
		}
	}
}
