// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	cgroups "github.com/containerd/cgroups/v3"
	"golang.org/x/sys/unix"
)

// controller is one of the controllers that podproc reads.
type controller uint8

const (
	memory controller = iota
	cpu
	cpuacct
	cpuset
	pids
	blkio // io on v2
	numControllers
)

var controllerName = [numControllers]string{"memory", "cpu", "cpuacct", "cpuset", "pids", "blkio"}

// v2Name is the controller's name in v2's cgroup.controllers. cpuacct has
// none: v2 counts CPU time in every cgroup.
var v2Name = [numControllers]string{"memory", "cpu", "", "cpuset", "pids", "io"}

// hierarchy is one mounted tree of cgroups.
type hierarchy struct {
	index int    // in FS.hiers
	name  string // directory under the root: "memory", "cpu,cpuacct", "unified"; "" is the root itself
	first string // the controller that finds it in /proc/TID/cgroup, "" on v2
	v2    bool
	fd    int // O_PATH
}

// discover fills in the hierarchies under root: root itself on v2, otherwise
// its directories by name, alone ("cpuacct") or as the comma list that
// controllers mounted together have ("cpu,cpuacct", with symlinks cpu and
// cpuacct beside it), and the one that is v2's on hybrid ("unified").
func (fs *FS) discover(root string) error {
	if isV2(root) {
		fs.mode = cgroups.Unified
		h, err := fs.addHierarchy(root, "", true)
		if err != nil {
			return err
		}
		fs.unified = h
		for c := range fs.by {
			fs.by[c] = h
		}
		return nil
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		return fmt.Errorf("find cgroup hierarchies: %w", err)
	}
	// Directories before the symlinks that point to them.
	slices.SortStableFunc(entries, func(a, b os.DirEntry) int { return isLink(a) - isLink(b) })
	for _, e := range entries {
		if err := fs.discoverV1(root, e.Name()); err != nil {
			return err
		}
	}
	if len(fs.hiers) == 0 {
		return fmt.Errorf("no cgroup hierarchy under %s: is it the node's /sys/fs/cgroup?", root)
	}
	fs.mode = cgroups.Legacy
	if fs.unified != nil {
		fs.mode = cgroups.Hybrid
		return fs.adoptUnified(root)
	}
	return nil
}

func isLink(e os.DirEntry) int {
	if e.Type()&os.ModeSymlink != 0 {
		return 1
	}
	return 0
}

func isV2(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "cgroup.controllers"))
	return err == nil
}

func (fs *FS) discoverV1(root, name string) error {
	dir := filepath.Join(root, name)
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		return nil // a plain file, or a symlink to nothing
	}
	if isV2(dir) {
		if fs.unified != nil {
			return nil
		}
		h, err := fs.addHierarchy(dir, name, true)
		fs.unified = h
		return err
	}
	var h *hierarchy
	for _, n := range strings.Split(name, ",") {
		c := controller(slices.Index(controllerName[:], n))
		if c >= numControllers || fs.by[c] != nil {
			continue
		}
		if h == nil {
			var err error
			if h, err = fs.addHierarchy(dir, name, false); err != nil {
				return err
			}
			h.first = n
		}
		fs.by[c] = h
	}
	return nil
}

// adoptUnified gives controllers without a v1 hierarchy to the v2 one, where
// the kernel has bound them there.
func (fs *FS) adoptUnified(root string) error {
	b, err := os.ReadFile(filepath.Join(root, fs.unified.name, "cgroup.controllers"))
	if err != nil {
		return fmt.Errorf("find controllers of v2: %w", err)
	}
	has := strings.Fields(string(b))
	for c := range numControllers {
		if fs.by[c] == nil && (c == cpuacct || slices.Contains(has, v2Name[c])) {
			fs.by[c] = fs.unified
		}
	}
	return nil
}

func (fs *FS) addHierarchy(dir, name string, v2 bool) (*hierarchy, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	h := &hierarchy{index: len(fs.hiers), name: name, v2: v2, fd: fd}
	fs.hiers = append(fs.hiers, h)
	return h, nil
}

// inode returns the kernfs id of the cgroup at path, ErrGone if there is none.
func (h *hierarchy) inode(path string) (uint64, error) {
	var st unix.Stat_t
	err := ignoringEINTR(func() error { return unix.Fstatat(h.fd, relative(path), &st, unix.AT_SYMLINK_NOFOLLOW) })
	switch {
	case errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR):
		return 0, fmt.Errorf("%s: %w", h.show(path), ErrGone)
	case err != nil:
		return 0, fmt.Errorf("stat cgroup %s: %w", h.show(path), err)
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return 0, fmt.Errorf("%s: %w", h.show(path), ErrGone)
	}
	return st.Ino, nil
}

// show is the cgroup at path as people know it.
func (h *hierarchy) show(path string) string {
	if h.name == "" {
		return path
	}
	return h.name + ":" + path
}

// relative turns an absolute cgroup path into one for the *at system calls.
func relative(path string) string {
	if path == "/" {
		return "."
	}
	return path[1:]
}

func ignoringEINTR(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}
