// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	cgroups "github.com/containerd/cgroups/v3"
	"github.com/containerd/cgroups/v3/cgroup1"
	"github.com/containerd/cgroups/v3/cgroup2"
	"github.com/opencontainers/runtime-spec/specs-go"
)

const cgroupRoot = "/sys/fs/cgroup"

// parent is the cgroup of this process's containers.
var parent = fmt.Sprint("podproc-bench-", os.Getpid())

// container is a cgroup with 256 MiB and the time of two CPUs.
type container struct {
	path string
	del  func() error
}

func newContainer(id int) (*container, error) {
	memory, quota, period := int64(256<<20), int64(200_000), uint64(100_000)
	limits := &specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: &memory},
		CPU:    &specs.LinuxCPU{Quota: &quota, Period: &period},
	}
	c := &container{path: fmt.Sprintf("/%s/podproc-%d.scope", parent, id)}
	if cgroups.Mode() == cgroups.Unified {
		group, err := cgroup2.NewManager(cgroupRoot, c.path, cgroup2.ToResources(limits))
		if err != nil {
			return nil, err
		}
		c.del = group.Delete
		return c, nil
	}
	group, err := cgroup1.New(cgroup1.StaticPath(c.path), limits)
	if err != nil {
		return nil, err
	}
	c.del = group.Delete
	return c, nil
}

// dirs are the container's directories: one on v2, one a hierarchy on v1.
func (c *container) dirs() []string { return cgroupDirs(c.path) }

func cgroupDirs(pattern string) []string {
	root := cgroupRoot
	if cgroups.Mode() != cgroups.Unified {
		root += "/*"
	}
	dirs, _ := filepath.Glob(root + pattern) // fails for bad patterns only
	return dirs
}

// join moves this process into the cgroups of the directories.
func join(dirs []string) error {
	for _, dir := range dirs {
		if err := os.WriteFile(dir+"/cgroup.procs", []byte("0"), 0); err != nil {
			return err
		}
	}
	return nil
}

// removeContainers removes every cgroup that this bench has made, or one that
// was killed.
func removeContainers() error {
	var all []string
	for _, dir := range cgroupDirs("/podproc-bench-*") {
		_, pid, _ := strings.Cut(filepath.Base(dir), "bench-")
		if _, err := os.Stat("/proc/" + pid); err == nil && filepath.Base(dir) != parent {
			continue // another bench, at work
		}
		err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err == nil && e.IsDir() {
				all = append(all, path)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	slices.SortFunc(all, func(a, b string) int { return strings.Count(b, "/") - strings.Count(a, "/") }) // children first
	for _, dir := range all {
		if err := syscall.Rmdir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove %s: %w", dir, err)
		}
	}
	return nil
}
