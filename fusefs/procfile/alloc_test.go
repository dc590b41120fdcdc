// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package procfile

import (
	"fmt"
	"testing"
	"time"

	"github.com/podproc/podproc/fusefs/view"
)

// someContainer has two CPUs, memory and swap limited, on the given machine.
func someContainer(t testing.TB, h *Host) *Container {
	v := &view.CPU{Quota: 1500}
	c := &Container{
		Memory: &view.Memory{SwapAccounted: true, Levels: []view.MemoryLevel{
			{Limit: 256 * mib, Usage: 100 * mib, SwapLimit: 64 * mib, SwapUsage: mib},
			{Limit: view.Unlimited, SwapLimit: view.Unlimited, NodeWide: true}},
			Stat: view.MemoryStat{Anon: 50 * mib, File: 40 * mib}},
		CPUs:     CountCPUs(v, h.Online),
		Counters: new(Counters),
		Tasks:    &view.Tasks{Known: true, Total: 3},
		Disks:    &view.Disks{Disks: []view.Disk{{Major: 8, Reads: 7, ReadBytes: 4096}}},
		Pressure: &view.Pressure{Text: []byte("some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n")},
		Load:     sampled(12, view.Load{Running: 2, Total: 3}),
	}
	c.Counters.Advance(time.Hour, time.Minute, c.CPUs, used(time.Minute, time.Second))
	return c
}

func TestRenderDoesNotAllocate(t *testing.T) {
	for _, machine := range []string{"x86-v2-swap", "x86-v2-128-cpus", "s390x-v2", "arm-v1-docker"} {
		h := recordedHost(t, machine)
		for _, c := range []*Container{someContainer(t, h), nil} {
			for i := range Files {
				if c == nil && Files[i].Needs&NeedPressure != 0 && h.Pressure[0] == nil {
					continue // the machine has none
				}
				dst := make([]byte, 0, 1<<20)
				if n := testing.AllocsPerRun(100, func() { Files[i].Render(dst, h, c) }); n != 0 {
					t.Errorf("%s: %s: %v allocations", machine, Files[i].Path, n)
				}
			}
		}
	}
}

func TestAdvanceDoesNotAllocate(t *testing.T) {
	h := recordedHost(t, "x86-v2-128-cpus")
	per := make([]view.CPUUse, 160)
	for name, quota := range map[string]view.Limit{"limited": 1500, "unlimited": view.Unlimited} {
		v := &view.CPU{Quota: quota, Cpuset: h.Online.CPUs}
		k := new(Counters)
		s := &view.CPUTime{PerCPU: per}
		now := time.Hour
		k.Advance(now, 0, CountCPUs(v, h.Online), s)
		record, _ := k.AppendBinary(nil)
		record = append(record, make([]byte, 4096)...)
		if n := testing.AllocsPerRun(100, func() {
			now += time.Second
			s.User += 1000
			per[5].User += 1000
			k.Advance(now, 0, CountCPUs(v, h.Online), s)
			_, _ = k.AppendBinary(record[:0])
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkRender(b *testing.B) {
	for _, machine := range []string{"x86-v2-unlimited", "x86-v2-128-cpus"} {
		h := recordedHost(b, machine)
		c := someContainer(b, h)
		dst := make([]byte, 0, 1<<20)
		for i := range Files {
			b.Run(fmt.Sprint(machine, "/", Files[i].Path), func(b *testing.B) {
				for b.Loop() {
					Files[i].Render(dst, h, c)
				}
			})
		}
	}
}

func BenchmarkParse(b *testing.B) {
	for _, machine := range []string{"x86-v2-unlimited", "x86-v2-128-cpus"} {
		for s := range NumSources {
			text := recorded(b, s.Path())[machine]
			b.Run(fmt.Sprint(machine, "/", s.Path()), func(b *testing.B) {
				b.ReportAllocs()
				var h Host
				for b.Loop() {
					if err := h.Parse(s, text); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
