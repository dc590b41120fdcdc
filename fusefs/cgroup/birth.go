// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"fmt"
	"math"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// What Birth looks at, at most; the oldest process is among the first.
const (
	maxProcesses = 4096
	maxDirs      = 512
)

// Birth returns when the oldest process in the boundary and below started, as
// time since the node's boot, in the kernel's ticks of 10 ms. ErrNoProcess if
// there is none.
func (c *Container) Birth() (time.Duration, error) {
	oldest := uint64(math.MaxUint64)
	left := maxProcesses
	d := c.main.dirs[0]
	err := d.h.walk(d.path, func(path string) error {
		ids, err := d.h.procs(path, left)
		if err != nil {
			return err
		}
		left -= len(ids)
		for _, id := range ids {
			start, err := c.fs.startTime(id)
			if ignoreEnded(err) != nil {
				return err
			}
			if err == nil {
				oldest = min(oldest, start)
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	if oldest == math.MaxUint64 {
		return 0, fmt.Errorf("%s: %w", c.b, ErrNoProcess)
	}
	return time.Duration(oldest * tick), nil
}

// startTime returns when a process started, in ticks since boot.
func (fs *FS) startTime(id int) (uint64, error) {
	p, err := fs.process(id)
	if err != nil {
		return 0, err
	}
	defer p.close()
	b, err := p.read("stat")
	if err != nil {
		return 0, err
	}
	n, err := statField(b, 22)
	if err != nil {
		return 0, fmt.Errorf("parse %s/%d/stat: %w", fs.proc, id, err)
	}
	return n, nil
}

// walk calls f for the cgroup at path and those below it, at most maxDirs.
// One that is removed meanwhile is passed over, unless it is the first.
func (h *hierarchy) walk(path string, f func(path string) error) error {
	queue := []string{path}
	for n := 0; n < len(queue) && n < maxDirs; n++ {
		err := f(queue[n])
		if err == nil {
			var names []string
			if names, err = h.children(queue[n]); err == nil {
				for _, name := range names {
					queue = append(queue, join(queue[n], name))
				}
			}
		}
		if err != nil && (n == 0 || !errors.Is(err, ErrGone)) {
			return err
		}
	}
	return nil
}

func join(path, name string) string {
	if path == "/" {
		return path + name
	}
	return path + "/" + name
}

// children returns the names of the cgroups in the one at path.
func (h *hierarchy) children(path string) ([]string, error) {
	fd, err := openat(h.fd, relative(path), unix.O_RDONLY|unix.O_DIRECTORY)
	if err == nil {
		dir := os.NewFile(uintptr(fd), path)
		defer dir.Close()
		var entries []os.DirEntry
		if entries, err = dir.ReadDir(-1); err == nil {
			var names []string
			for _, e := range entries {
				if e.IsDir() {
					names = append(names, e.Name())
				}
			}
			return names, nil
		}
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", h.show(path), ErrGone)
	}
	return nil, fmt.Errorf("list cgroup %s: %w", h.show(path), err)
}
