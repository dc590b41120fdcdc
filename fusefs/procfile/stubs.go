// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package procfile

import (
	"time"

	"github.com/podproc/podproc/fusefs/view"
)

// HostMeminfo is the host's /proc/meminfo.
type HostMeminfo struct{ text []byte }

// ParseMeminfo parses the host's /proc/meminfo.
func ParseMeminfo(text []byte) (*HostMeminfo, error) { return &HostMeminfo{text}, nil }

// Meminfo appends /proc/meminfo of the container v to dst; the host's where v is nil.
func Meminfo(dst []byte, h *HostMeminfo, v *view.Memory) []byte { return append(dst, h.text...) }

// HostCpuinfo is the host's /proc/cpuinfo.
type HostCpuinfo struct{ text []byte }

// ParseCpuinfo parses the host's /proc/cpuinfo.
func ParseCpuinfo(text []byte) (*HostCpuinfo, error) { return &HostCpuinfo{text}, nil }

// Cpuinfo appends /proc/cpuinfo of a container with the CPUs c to dst.
func Cpuinfo(dst []byte, h *HostCpuinfo, c CPUs) []byte { return append(dst, h.text...) }

// HostStat is the host's /proc/stat.
type HostStat struct{ text []byte }

// ParseStat parses the host's /proc/stat.
func ParseStat(text []byte) (*HostStat, error) { return &HostStat{text}, nil }

// Stat appends /proc/stat of the container that c counts for to dst; the host's where c is nil.
func Stat(dst []byte, h *HostStat, c *Counters, t *view.Tasks) []byte { return append(dst, h.text...) }

// HostSwaps is the host's /proc/swaps.
type HostSwaps struct{ text []byte }

// ParseSwaps parses the host's /proc/swaps.
func ParseSwaps(text []byte) (*HostSwaps, error) { return &HostSwaps{text}, nil }

// Swaps appends /proc/swaps of the container v to dst; the host's where v is nil.
func Swaps(dst []byte, h *HostSwaps, m *HostMeminfo, v *view.Memory) []byte {
	return append(dst, h.text...)
}

// HostOnline is the host's /sys/devices/system/cpu/online.
type HostOnline struct {
	CPUs []int // the host's online CPUs, ascending
	text []byte
}

// ParseOnline parses a list of CPUs as the kernel writes it ("0-3,8").
func ParseOnline(text []byte) (*HostOnline, error) {
	return &HostOnline{CPUs: []int{0}, text: text}, nil
}

// Online appends /sys/devices/system/cpu/online of a container with the CPUs c to dst.
func Online(dst []byte, h *HostOnline, c CPUs) []byte { return append(dst, h.text...) }

// Counters is what /proc/stat counts for one container: CPU time used and
// idle, per CPU, since the container's birth. Values grow by increments from
// one look to the next, so that a change of limits changes their slope and
// never the values. It is not safe for concurrent use.
type Counters struct{}

// Started tells whether there was a first look. Until then Advance wants to
// know the container's birth.
func (c *Counters) Started() bool { return false }

// Advance takes a look: at the time now the container has the CPUs cpus and
// has used s. birth is the start of the container's oldest process and is
// only asked for at the first look. Both times are since the host's boot.
func (c *Counters) Advance(now, birth time.Duration, cpus CPUs, s *view.CPUTime) {}

// AppendBinary appends c for a successor process.
func (c *Counters) AppendBinary(b []byte) ([]byte, error) { return b, nil }

// UnmarshalBinary sets c to what AppendBinary wrote, by any version of podproc
// that writes the same first byte.
func (c *Counters) UnmarshalBinary(b []byte) error { return nil }
