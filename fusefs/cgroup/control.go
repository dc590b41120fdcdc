// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package cgroup

import "fmt"

// fileID is one of the control files that are read again and again.
type fileID uint8

const (
	v1MemoryLimit fileID = iota
	v1MemoryUsage
	v1MemswLimit
	v1MemswUsage
	v1Quota
	v1Period
	v1CpusetEffective
	v1Cpuset
	v1UsageAll
	v1PerCPU
	v1PerCPUUser
	v1PerCPUSystem
	v1CPUAcctStat
	v1ServiceBytes
	v1Serviced

	v2MemoryMax
	v2MemoryCurrent
	v2SwapMax
	v2SwapCurrent
	v2CPUMax
	v2CpusetEffective
	v2CPUStat
	v2CPUPressure
	v2IOPressure
	v2MemoryPressure
	v2IOStat

	memoryStat
	pidsCurrent
	numFiles
)

var fileName = [numFiles]string{
	v1MemoryLimit: "memory.limit_in_bytes",
	v1MemoryUsage: "memory.usage_in_bytes",
	v1MemswLimit:  "memory.memsw.limit_in_bytes",
	v1MemswUsage:  "memory.memsw.usage_in_bytes",

	v1Quota:  "cpu.cfs_quota_us",
	v1Period: "cpu.cfs_period_us",

	v1CpusetEffective: "cpuset.effective_cpus",
	v1Cpuset:          "cpuset.cpus",

	v1UsageAll:     "cpuacct.usage_all",
	v1PerCPU:       "cpuacct.usage_percpu",
	v1PerCPUUser:   "cpuacct.usage_percpu_user",
	v1PerCPUSystem: "cpuacct.usage_percpu_sys",
	v1CPUAcctStat:  "cpuacct.stat",

	v1ServiceBytes: "blkio.throttle.io_service_bytes_recursive",
	v1Serviced:     "blkio.throttle.io_serviced_recursive",

	v2MemoryMax:       "memory.max",
	v2MemoryCurrent:   "memory.current",
	v2SwapMax:         "memory.swap.max",
	v2SwapCurrent:     "memory.swap.current",
	v2CPUMax:          "cpu.max",
	v2CpusetEffective: "cpuset.cpus.effective",
	v2CPUStat:         "cpu.stat",
	v2CPUPressure:     "cpu.pressure",
	v2IOPressure:      "io.pressure",
	v2MemoryPressure:  "memory.pressure",
	v2IOStat:          "io.stat",

	memoryStat:  "memory.stat",
	pidsCurrent: "pids.current",
}

// presence says when a cgroup must have a control file. One that is missing
// although it must be there is an error, and not "no limit": what podproc is
// shown is no cgroup.
type presence uint8

const (
	optional presence = iota // depends on the kernel's version or configuration
	always                   // or where the one that is read before it is there
	enabled                  // on v2 where the parent enables the controller; on v1 always; never at the root
)

var filePresence = [numFiles]presence{
	v1MemoryLimit:  always,
	v1MemoryUsage:  always,
	v1MemswUsage:   always,
	v1Period:       always,
	v1Cpuset:       always,
	v1PerCPUSystem: always,
	v1CPUAcctStat:  always,

	v2MemoryMax:       enabled,
	v2MemoryCurrent:   enabled,
	v2SwapCurrent:     always,
	v2CpusetEffective: enabled,
	v2CPUStat:         always,
	v2IOStat:          enabled,

	memoryStat:  always,
	pidsCurrent: enabled,
}

// unless names, for an optional file, one that is not and whose presence tells
// that the kernel was built without the other.
var unless = [numFiles]string{
	v1Quota:  "cpu.shares",
	v2CPUMax: "cpu.weight",
}

// text reads a control file into buf. parsed wraps what a parser then says.
func (d *dir) text(id fileID, buf *buffer) ([]byte, error) { return d.files[id].read(buf) }

func (d *dir) parsed(id fileID, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("parse %s: %w", &d.files[id], err)
}
