// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

// Package view holds what is known of one container at one moment, as plain
// values: package cgroup fills them in, package procfile renders them. It does
// no I/O and knows no cgroup version; sizes are bytes and times nanoseconds
// unless a field says otherwise.
package view

import "math"

// Limit is an upper bound in the unit of what it bounds. Parsers turn every
// spelling of "no limit" ("max", -1, 9223372036854771712) into Unlimited, so
// that nothing behind them needs a special case.
type Limit uint64

// Unlimited is the Limit that bounds nothing.
const Unlimited Limit = math.MaxUint64

// Or returns l, or n where l is unlimited or above n.
func (l Limit) Or(n uint64) uint64 { return min(uint64(l), n) }

// MemoryLevel is the memory of one cgroup on the way from a container's
// boundary to the root.
type MemoryLevel struct {
	Limit Limit // memory.max, memory.limit_in_bytes
	// Usage is memory.current, memory.usage_in_bytes. It, SwapUsage and what
	// can be reclaimed are only known of levels that have a limit, and of the
	// boundary; otherwise 0.
	Usage uint64

	// SwapLimit and SwapUsage count swap alone, also on v1, where the kernel
	// counts memory and swap together (memsw). Without swap accounting
	// SwapLimit is Unlimited and SwapUsage 0.
	SwapLimit Limit
	SwapUsage uint64

	// What the kernel gives back on demand; hierarchical (total_* on v1).
	ActiveFile, InactiveFile, SlabReclaimable uint64

	// NodeWide marks the levels that every container of the node shares
	// (kubepods, kubepods.slice, the root): a limit there makes no container
	// a limited one, but bounds what it can get.
	NodeWide bool
}

// MemoryStat is the container's memory.stat in bytes, hierarchical. A key that
// the kernel lacks is 0.
type MemoryStat struct {
	ActiveAnon, InactiveAnon, ActiveFile, InactiveFile, Unevictable uint64

	Anon, File, Mapped, Shmem, Dirty, Writeback uint64
	AnonTHP, FileTHP, ShmemTHP                  uint64
	SlabReclaimable, SlabUnreclaimable          uint64
	KernelStack, PageTables, SecPageTables      uint64
	Percpu, Vmalloc                             uint64
	SwapCached, Zswap, Zswapped                 uint64
}

// Memory is the memory of one container.
type Memory struct {
	Levels []MemoryLevel // boundary first, root last; never empty
	// Stat is the boundary's. It, and what can be reclaimed there, is only
	// known if some level that is not node-wide has a limit: else the
	// container is unlimited, and shown the host's.
	Stat MemoryStat
	// SwapAccounted tells that the kernel counts swap for cgroups
	// (memory.swap.*, memory.memsw.*). Without it the container's swap is
	// unknown and shown as the host's limits allow.
	SwapAccounted bool
}

// CPU is what one container may run on.
type CPU struct {
	// Quota is the smallest quota/period over all levels, in thousandths of
	// a CPU, rounded up. It is Unlimited if none but node-wide levels have
	// one.
	Quota Limit
	// Cpuset lists the host's CPU numbers that the container may use,
	// ascending. It is empty where the kernel does not say.
	Cpuset []int
}

// CPUTime is the CPU time that a container has used since its birth.
type CPUTime struct {
	User, System uint64 // ns
	// PerCPU is the same per host CPU, indexed by the host's CPU number,
	// where the kernel counts it (v1 cpuacct.usage_all); otherwise empty.
	PerCPU []CPUUse
}

// CPUUse is the time used on one CPU, in ns.
type CPUUse struct{ User, System uint64 }

// Tasks counts the container's tasks (threads).
type Tasks struct {
	Known bool // that is Total; otherwise all are 0
	Total uint64
	// Running and Blocked are 0 where they are not known: cgroups do not
	// count them. Who reads runs, so known is at least 1 running.
	Running, Blocked uint64
}

// Load is how busy the container's tasks (threads) are at one moment.
type Load struct {
	Running uint64 // runnable
	Blocked uint64 // uninterruptible
	Total   uint64
	// LastPID is the newest one's number in the container's pid namespace; 0
	// where that is not known.
	LastPID uint64
}

// Resource is what tasks wait for.
type Resource uint8

const (
	CPUResource Resource = iota
	IOResource
	MemoryResource
	NumResources
)

// Pressure is how much of the time the container's tasks have waited for a
// Resource, in the kernel's own words: "some avg10=0.00 ...", a line for each.
type Pressure struct{ Text []byte }
