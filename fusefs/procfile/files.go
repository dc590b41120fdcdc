// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package procfile

import (
	"fmt"
	"time"

	"github.com/podproc/podproc/fusefs/view"
)

// Source is a file of the host that the renderers need.
type Source uint8

const (
	HostMeminfoFile Source = iota
	HostCpuinfoFile
	HostStatFile
	HostSwapsFile
	HostOnlineFile
	HostUptimeFile
	HostLoadavgFile
	HostDiskstatsFile
	HostPressureCPUFile
	HostPressureIOFile
	HostPressureMemoryFile
	NumSources
)

type source struct {
	path  string
	every time.Duration
	empty bool // it is on some machines
	parse func(*Host, []byte) error
}

// sources holds what there is to know of each Source.
var sources = [NumSources]source{
	HostMeminfoFile: {path: "proc/meminfo", parse: func(h *Host, b []byte) (err error) {
		h.Meminfo, err = ParseMeminfo(b)
		return err
	}},
	// Only the clock rates change here, and the kernel asks every CPU for
	// its own: 10 ms of work on a host of 256 CPUs.
	HostCpuinfoFile: {path: "proc/cpuinfo", every: time.Second, parse: func(h *Host, b []byte) (err error) {
		h.Cpuinfo, err = ParseCpuinfo(b)
		return err
	}},
	HostStatFile: {path: "proc/stat", parse: func(h *Host, b []byte) (err error) {
		h.Stat, err = ParseStat(b)
		return err
	}},
	HostSwapsFile: {path: "proc/swaps", parse: func(h *Host, b []byte) (err error) {
		h.Swaps, err = ParseSwaps(b)
		return err
	}},
	HostOnlineFile: {path: "sys/devices/system/cpu/online", parse: func(h *Host, b []byte) (err error) {
		h.Online, err = ParseOnline(b)
		return err
	}},
	HostUptimeFile: {path: "proc/uptime", parse: func(h *Host, b []byte) (err error) {
		h.Uptime, err = ParseUptime(b)
		return err
	}},
	HostLoadavgFile: {path: "proc/loadavg", parse: func(h *Host, b []byte) (err error) {
		h.Loadavg, err = ParseLoadavg(b)
		return err
	}},
	HostDiskstatsFile: {path: "proc/diskstats", empty: true, parse: func(h *Host, b []byte) (err error) {
		h.Diskstats, err = ParseDiskstats(b)
		return err
	}},
	HostPressureCPUFile:    pressureSource("proc/pressure/cpu", view.CPUResource),
	HostPressureIOFile:     pressureSource("proc/pressure/io", view.IOResource),
	HostPressureMemoryFile: pressureSource("proc/pressure/memory", view.MemoryResource),
}

func pressureSource(path string, r view.Resource) source {
	return source{path: path, parse: func(h *Host, b []byte) (err error) {
		h.Pressure[r], err = ParsePressure(b)
		return err
	}}
}

// Path returns where the kernel has the file, relative to the root:
// "proc/meminfo".
func (s Source) Path() string { return sources[s].path }

// Every returns how often the file is worth reading again; 0 stands for the
// bound of freshness that holds for every file.
func (s Source) Every() time.Duration { return sources[s].every }

// Empty tells whether the file may be empty.
func (s Source) Empty() bool { return sources[s].empty }

// Host is what was read of the host at one moment. A field is nil until its
// Source was parsed. What is in it is never changed after that: a copy of Host
// may be handed out and renderers may share it.
type Host struct {
	Meminfo   *HostMeminfo
	Cpuinfo   *HostCpuinfo
	Stat      *HostStat
	Swaps     *HostSwaps
	Online    *HostOnline
	Uptime    *HostUptime
	Loadavg   *HostLoadavg
	Diskstats *HostDiskstats
	Pressure  [view.NumResources]*HostPressure
}

// Parse sets what h holds of s from the file's text, which it keeps: the
// caller must not write to it again.
func (h *Host) Parse(s Source, text []byte) error {
	if err := sources[s].parse(h, text); err != nil {
		return fmt.Errorf("parse %s: %w", s.Path(), err)
	}
	return nil
}

// Need is a set of the fields of Container that a file is rendered from.
type Need uint8

const (
	NeedMemory   Need = 1 << iota // Container.Memory
	NeedCPUs                      // Container.CPUs
	NeedCounters                  // Container.Counters, advanced
	NeedTasks                     // Container.Tasks
	NeedLoad                      // Container.Load, and what its reader sees as Container.Tasks
	NeedPressure                  // Container.Pressure, of File.Pressure
	NeedDisks                     // Container.Disks
)

// NeedCounted are the needs that the kernel may not count for a container. Then
// the file cannot be read.
const NeedCounted = NeedPressure | NeedDisks

// Container is what is known of one container at one moment.
type Container struct {
	Memory   *view.Memory
	CPUs     CPUs
	Counters *Counters
	Tasks    *view.Tasks
	Load     *Load
	Pressure *view.Pressure
	Disks    *view.Disks
}

// File is a file that is served.
type File struct {
	Path     string        // below the mount, and where it is bound over: "proc/meminfo"
	Host     Source        // the kernel's own file of that name
	Sources  []Source      // what Render takes from the host, Host among them
	Needs    Need          // what Render takes from the container
	Pressure view.Resource // with NeedPressure
	Empty    bool          // there may be nothing to show
	// Render appends the file to dst. A nil container stands for a reader
	// that has none: it gets the host's text. Render neither allocates nor
	// fails, nor keeps anything of c.
	Render func(dst []byte, h *Host, c *Container) []byte
}

// Files is every file that podproc serves.
var Files = []File{
	{
		Path: "proc/meminfo", Host: HostMeminfoFile,
		Sources: []Source{HostMeminfoFile},
		Needs:   NeedMemory,
		Render: func(dst []byte, h *Host, c *Container) []byte {
			if c == nil {
				return Meminfo(dst, h.Meminfo, nil)
			}
			return Meminfo(dst, h.Meminfo, c.Memory)
		},
	},
	{
		Path: "proc/cpuinfo", Host: HostCpuinfoFile,
		Sources: []Source{HostCpuinfoFile, HostOnlineFile},
		Needs:   NeedCPUs,
		Render: func(dst []byte, h *Host, c *Container) []byte {
			if c == nil {
				return Cpuinfo(dst, h.Cpuinfo, CPUs{})
			}
			return Cpuinfo(dst, h.Cpuinfo, c.CPUs)
		},
	},
	{
		Path: "proc/stat", Host: HostStatFile,
		Sources: []Source{HostStatFile, HostOnlineFile},
		Needs:   NeedCPUs | NeedCounters | NeedTasks,
		Render: func(dst []byte, h *Host, c *Container) []byte {
			if c == nil {
				return Stat(dst, h.Stat, nil, nil)
			}
			return Stat(dst, h.Stat, c.Counters, c.Tasks)
		},
	},
	{
		Path: "proc/swaps", Host: HostSwapsFile,
		Sources: []Source{HostSwapsFile, HostMeminfoFile},
		Needs:   NeedMemory,
		Render: func(dst []byte, h *Host, c *Container) []byte {
			if c == nil {
				return Swaps(dst, h.Swaps, h.Meminfo, nil)
			}
			return Swaps(dst, h.Swaps, h.Meminfo, c.Memory)
		},
	},
	{
		Path: "sys/devices/system/cpu/online", Host: HostOnlineFile,
		Sources: []Source{HostOnlineFile},
		Needs:   NeedCPUs,
		Render: func(dst []byte, h *Host, c *Container) []byte {
			if c == nil {
				return Online(dst, h.Online, CPUs{})
			}
			return Online(dst, h.Online, c.CPUs)
		},
	},
	{
		Path: "proc/uptime", Host: HostUptimeFile,
		Sources: []Source{HostUptimeFile, HostOnlineFile},
		Needs:   NeedCPUs | NeedCounters,
		Render: func(dst []byte, h *Host, c *Container) []byte {
			if c == nil {
				return Uptime(dst, h.Uptime, nil)
			}
			return Uptime(dst, h.Uptime, c.Counters)
		},
	},
	{
		Path: "proc/loadavg", Host: HostLoadavgFile,
		Sources: []Source{HostLoadavgFile},
		Needs:   NeedLoad,
		Render: func(dst []byte, h *Host, c *Container) []byte {
			if c == nil {
				return Loadavg(dst, h.Loadavg, nil, nil)
			}
			return Loadavg(dst, h.Loadavg, c.Load, c.Tasks)
		},
	},
	{
		Path: "proc/diskstats", Host: HostDiskstatsFile,
		Sources: []Source{HostDiskstatsFile},
		Needs:   NeedDisks,
		Empty:   true,
		Render: func(dst []byte, h *Host, c *Container) []byte {
			if c == nil {
				return Diskstats(dst, h.Diskstats, nil)
			}
			return Diskstats(dst, h.Diskstats, c.Disks)
		},
	},
	pressureFile("proc/pressure/cpu", HostPressureCPUFile, view.CPUResource),
	pressureFile("proc/pressure/io", HostPressureIOFile, view.IOResource),
	pressureFile("proc/pressure/memory", HostPressureMemoryFile, view.MemoryResource),
}

func pressureFile(path string, host Source, r view.Resource) File {
	return File{
		Path: path, Host: host,
		Sources:  []Source{host},
		Needs:    NeedPressure,
		Pressure: r,
		Render: func(dst []byte, h *Host, c *Container) []byte {
			if c == nil {
				return Pressure(dst, h.Pressure[r], nil)
			}
			return Pressure(dst, h.Pressure[r], c.Pressure.Text)
		},
	}
}
