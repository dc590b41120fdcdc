// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"

	"github.com/podproc/podproc/fusefs/view"
)

// memoryV2 reads the limits of one level, and its usage where it has one or
// where usage is asked for.
//
//	Limit      memory.max
//	Usage      memory.current
//	SwapLimit  memory.swap.max
//	SwapUsage  memory.swap.current
//
// The root has none of these, nor has a cgroup whose parent does not enable
// the controller: the level is not accounted. Without memory.swap.* (before
// Linux 4.5, swapaccount=0, CONFIG_SWAP off) swap is not.
func (d *dir) memoryV2(l *memoryLevel, usage bool, buf *buffer) error {
	*l = memoryLevel{}
	l.Limit, l.SwapLimit = view.Unlimited, view.Unlimited
	limit, err := d.limit(v2MemoryMax, buf)
	if errors.Is(err, errAbsent) {
		return nil
	}
	if err != nil {
		return err
	}
	l.accounted, l.Limit = true, limit
	swapLimit, err := d.limit(v2SwapMax, buf)
	switch {
	case err == nil:
		l.swap, l.SwapLimit = true, swapLimit
	case !errors.Is(err, errAbsent):
		return err
	}
	if !usage && l.Limit == view.Unlimited && l.SwapLimit == view.Unlimited {
		return nil
	}
	if l.Usage, err = d.value(v2MemoryCurrent, buf); err != nil || !l.swap {
		return err
	}
	l.SwapUsage, err = d.value(v2SwapCurrent, buf)
	return err
}

// memoryStatV2 maps the keys of memory.stat. Those with a version are missing
// before it and stay 0.
func memoryStatV2(s *view.MemoryStat, key []byte) *uint64 {
	switch string(key) {
	case "anon":
		return &s.Anon
	case "file":
		return &s.File
	case "kernel_stack":
		return &s.KernelStack
	case "pagetables": // Linux 5.12
		return &s.PageTables
	case "sec_pagetables": // 6.1
		return &s.SecPageTables
	case "percpu": // 5.9
		return &s.Percpu
	case "vmalloc": // 5.17
		return &s.Vmalloc
	case "shmem":
		return &s.Shmem
	case "zswap": // 5.19
		return &s.Zswap
	case "zswapped": // 5.19
		return &s.Zswapped
	case "file_mapped":
		return &s.Mapped
	case "file_dirty":
		return &s.Dirty
	case "file_writeback":
		return &s.Writeback
	case "swapcached": // 5.12
		return &s.SwapCached
	case "anon_thp": // 5.4
		return &s.AnonTHP
	case "file_thp": // 5.11
		return &s.FileTHP
	case "shmem_thp": // 5.11
		return &s.ShmemTHP
	case "inactive_anon":
		return &s.InactiveAnon
	case "active_anon":
		return &s.ActiveAnon
	case "inactive_file":
		return &s.InactiveFile
	case "active_file":
		return &s.ActiveFile
	case "unevictable":
		return &s.Unevictable
	case "slab_reclaimable":
		return &s.SlabReclaimable
	case "slab_unreclaimable":
		return &s.SlabUnreclaimable
	}
	return nil
}

// quotaV2 reads cpu.max. The root has none, nor has a cgroup whose parent does
// not enable the controller: no limit.
func (d *dir) quotaV2(buf *buffer) (quota, error) {
	b, err := d.text(v2CPUMax, buf)
	if errors.Is(err, errAbsent) {
		return quota{us: view.Unlimited, period: 1}, nil
	}
	if err != nil {
		return quota{}, err
	}
	q, err := parseCPUMax(b)
	return q, d.parsed(v2CPUMax, err)
}

// cpusetV2 appends the CPUs that the kernel really lets the cgroup use, none
// if it does not say here: the controller may be enabled only further up.
func (d *dir) cpusetV2(dst []int, buf *buffer) ([]int, error) {
	return d.cpus(v2CpusetEffective, dst, buf)
}

// cpuTimeV2 reads cpu.stat, which every cgroup has, with or without the
// controller.
func (d *dir) cpuTimeV2(v *view.CPUTime, buf *buffer) error {
	b, err := d.text(v2CPUStat, buf)
	if err != nil {
		return err
	}
	usage, user, err := parseCPUStat(b)
	if err != nil {
		return d.parsed(v2CPUStat, err)
	}
	v.PerCPU = v.PerCPU[:0]
	d.mu.Lock()
	defer d.mu.Unlock()
	v.User, v.System = d.used.advance(usage, user)
	return nil
}

// usedTime splits usage into user and system so that they add up to it and
// neither ever steps back: the kernel rounds each to us by itself, and shows
// what it samples.
type usedTime struct{ usage, user uint64 }

func (t *usedTime) advance(usage, user uint64) (u, s uint64) {
	usage = max(usage, t.usage)
	most := t.user + (usage - t.usage) // else system would step back
	t.user = min(max(user, t.user), most)
	t.usage = usage
	return t.user, t.usage - t.user
}

// parseCPUStat reads usage_usec and user_usec of cpu.stat, in ns. The rest of
// usage is system time.
func parseCPUStat(b []byte) (usage, user uint64, err error) {
	return parsePair(b, "usage_usec", "user_usec", 1000)
}
