// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package inject

import "strings"

// A file is one row of the file table: a file of the kernel that podproc can
// put its own over.
type file struct {
	name    string // as in podproc.io/files
	mount   string // where a container sees it
	node    string // where podproc-node serves it, below Config.Root
	volume  string // the name of the pod's volume
	initial bool   // in the default set
	refuse  string // why it can not be mounted; empty if it can
}

// notAllowed files are in the table so that asking for them gets an answer: runc
// lets a mount over a fixed list of files below /proc only, and does not start a
// container that has another one.
const notAllowed = "can not be mounted: container runtimes refuse mounts there"

// files is everything that a pod may ask for. Paths below /proc must be on
// runc's list (libcontainer, checkProcMount).
var files = []file{
	{name: "meminfo", mount: "/proc/meminfo", node: "proc/meminfo", volume: "podproc-meminfo", initial: true},
	{name: "cpuinfo", mount: "/proc/cpuinfo", node: "proc/cpuinfo", volume: "podproc-cpuinfo", initial: true},
	{name: "stat", mount: "/proc/stat", node: "proc/stat", volume: "podproc-stat", initial: true},
	{name: "swaps", mount: "/proc/swaps", node: "proc/swaps", volume: "podproc-swaps", initial: true},
	{name: "cpu/online", mount: "/sys/devices/system/cpu/online", node: "sys/devices/system/cpu/online", volume: "podproc-cpu-online", initial: true},
	{name: "loadavg", mount: "/proc/loadavg", node: "proc/loadavg", volume: "podproc-loadavg"},
	{name: "uptime", mount: "/proc/uptime", node: "proc/uptime", volume: "podproc-uptime"},
	{name: "diskstats", mount: "/proc/diskstats", node: "proc/diskstats", volume: "podproc-diskstats"},
	{name: "pressure/cpu", refuse: notAllowed},
	{name: "pressure/io", refuse: notAllowed},
	{name: "pressure/memory", refuse: notAllowed},
}

// fileSet is a set of rows of the file table, by index.
type fileSet uint32

func (s fileSet) has(i int) bool { return s&(1<<i) != 0 }

// mountable is the set of all files that this version can mount.
func mountable() fileSet {
	var s fileSet
	for i := range files {
		if files[i].refuse == "" {
			s |= 1 << i
		}
	}
	return s
}

// fileByName returns the index of a file in the table, or -1.
func fileByName(name string) int {
	for i := range files {
		if files[i].name == name {
			return i
		}
	}
	return -1
}

// DefaultFiles returns the names of the files that are injected by default.
func DefaultFiles() []string {
	return fileNames(func(f *file) bool { return f.initial })
}

// Files returns the names of the files that this version can mount.
func Files() []string {
	return fileNames(func(f *file) bool { return f.refuse == "" })
}

func fileNames(keep func(*file) bool) []string {
	var names []string
	for i := range files {
		if keep(&files[i]) {
			names = append(names, files[i].name)
		}
	}
	return names
}

// covers reports whether a mount at p, a clean absolute path, decides what a
// container sees at the path of a file: it is that path or a parent of it.
func covers(p, file string) bool {
	if !strings.HasPrefix(file, p) {
		return false
	}
	return len(p) == len(file) || p == "/" || file[len(p)] == '/'
}
