// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	cgroups "github.com/containerd/cgroups/v3"
	"github.com/containerd/cgroups/v3/cgroup1"
	"github.com/containerd/cgroups/v3/cgroup2"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// cgroupRoot is where the hierarchies are mounted; containerd/cgroups knows no
// other place either.
const cgroupRoot = "/sys/fs/cgroup"

// controllers are those whose limits or numbers are shown, and pids and
// freezer, by which a container is managed. Others are left alone.
var controllers = []string{"cpu", "cpuacct", "cpuset", "memory", "pids", "blkio", "io", "freezer"}

// scopeName is the pattern of newScope's names: only these are ever swept.
var scopeName = regexp.MustCompile(`^podproc-r[0-9a-f]{16}\.scope$`)

// scope is the cgroup of one container: on v1 and hybrid one directory in each
// hierarchy, on v2 one in all.
type scope struct {
	name string
	dirs []string // in the order of hierarchies
	lock *os.File
}

// newScope names a scope below parent that does not exist yet.
func newScope(parent string) (*scope, error) {
	roots, err := hierarchies()
	if err != nil {
		return nil, err
	}
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails
	s := &scope{name: "podproc-r" + hex.EncodeToString(id[:]) + ".scope"}
	for _, root := range roots {
		s.dirs = append(s.dirs, filepath.Join(root, parent, s.name))
	}
	return s, nil
}

// hierarchies returns the mount points of the hierarchies to be in, each once:
// v1 controllers may share one, under several names.
func hierarchies() ([]string, error) {
	switch cgroups.Mode() {
	case cgroups.Unified:
		return []string{cgroupRoot}, nil
	case cgroups.Unavailable:
		return nil, fmt.Errorf("no cgroup hierarchy at %s: mount one (mount -t cgroup2 none %[1]s), and see podproc check", cgroupRoot)
	}
	var roots []string
	for _, c := range controllers {
		root, err := filepath.EvalSymlinks(filepath.Join(cgroupRoot, c))
		if err == nil && !slices.Contains(roots, root) {
			roots = append(roots, root)
		}
	}
	if len(roots) == 0 {
		return nil, fmt.Errorf("no cgroup v1 controller is mounted in %s: see podproc check", cgroupRoot)
	}
	return roots, nil
}

// create makes the cgroups with the limits of o. Who makes or sweeps scopes
// holds the lock of the parent directory, and who has a scope the lock of that.
func (s *scope) create(o *options) (err error) {
	parent, err := lockDir(filepath.Dir(s.dirs[0]), unix.LOCK_EX)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no cgroup %s: make it, or leave --cgroup-parent out", o.parent)
	}
	if err != nil {
		return err
	}
	defer parent.Close()
	s.sweep()
	defer func() {
		if err != nil {
			s.remove(time.Second)
		}
	}()
	if cgroups.Mode() == cgroups.Unified {
		err = s.createV2(o)
	} else {
		err = s.createV1(o)
	}
	if err != nil {
		return fmt.Errorf("make cgroup %s with these limits: %w", filepath.Join(o.parent, s.name), err)
	}
	s.lock, err = lockDir(s.dirs[0], unix.LOCK_EX)
	return err
}

func (s *scope) createV1(o *options) error {
	res := &specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: o.cpuset}}
	if o.memory > 0 {
		res.Memory = &specs.LinuxMemory{Limit: &o.memory}
	}
	if p := uint64(period); o.quota > 0 {
		res.CPU.Period, res.CPU.Quota = &p, &o.quota
	}
	_, err := cgroup1.New(cgroup1.StaticPath(filepath.Join(o.parent, s.name)), res, cgroup1.WithHierarchy(wanted))
	return err
}

// wanted are the v1 controllers that there are of ours.
func wanted() ([]cgroup1.Subsystem, error) {
	all, err := cgroup1.Default()
	return slices.DeleteFunc(all, func(s cgroup1.Subsystem) bool {
		return !slices.Contains(controllers, string(s.Name()))
	}), err
}

func (s *scope) createV2(o *options) error {
	m, err := cgroup2.NewManager(cgroupRoot, filepath.Join(o.parent, s.name), &cgroup2.Resources{})
	if err != nil {
		return err
	}
	have, err := m.RootControllers()
	if err != nil {
		return err
	}
	// Also those that are not limited now: they may be while CMD runs, and
	// only they count.
	have = slices.DeleteFunc(have, func(c string) bool { return !slices.Contains(controllers, c) })
	if err := m.ToggleControllers(have, cgroup2.Enable); err != nil {
		return fmt.Errorf("%w: a cgroup that has processes of its own can have no limited children; leave --cgroup-parent out", err)
	}
	res := &cgroup2.Resources{}
	if o.memory > 0 {
		res.Memory = &cgroup2.Memory{Max: &o.memory}
	}
	if o.quota > 0 || o.cpuset != "" {
		res.CPU = &cgroup2.CPU{Cpus: o.cpuset}
	}
	if p := uint64(period); o.quota > 0 {
		res.CPU.Max = cgroup2.NewCPUMax(&o.quota, &p)
	}
	return m.Update(res)
}

// join moves the calling process in. It is the inner stage's: what starts the
// container is not charged to it.
func join(dirs []string) error {
	for _, dir := range dirs {
		// v1 refuses (EINVAL) a process whose thread is just being made.
		var err error
		for range 100 {
			err = os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0)
			if !errors.Is(err, unix.EINVAL) {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if err != nil {
			return fmt.Errorf("enter cgroup: %w", err)
		}
	}
	return nil
}

// remove removes the cgroups and what was made below them. The kernel lets go
// of an ended process a moment after it was waited for, so it tries for a while.
func (s *scope) remove(patience time.Duration) bool {
	end := time.Now().Add(patience)
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		gone := true
		for _, dir := range s.dirs {
			gone = removeTree(dir) && gone
		}
		if gone || time.Now().After(end) {
			return gone
		}
		time.Sleep(pause)
	}
}

// removeTree removes a cgroup without processes from the leaves up.
func removeTree(dir string) bool {
	if err := unix.Rmdir(dir); err == nil || errors.Is(err, fs.ErrNotExist) {
		return true
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	for _, e := range entries {
		if e.IsDir() {
			removeTree(filepath.Join(dir, e.Name()))
		}
	}
	err = unix.Rmdir(dir)
	return err == nil || errors.Is(err, fs.ErrNotExist)
}

// sweep removes what a "podproc run" has left that was killed together with
// its helper. It is called with the lock of the parent held.
func (s *scope) sweep() {
	for _, own := range s.dirs {
		parent := filepath.Dir(own)
		entries, _ := os.ReadDir(parent)
		for _, e := range entries {
			if !scopeName.MatchString(e.Name()) {
				continue
			}
			// The lock is on the directory in the first hierarchy, which may
			// be gone there already.
			lock, err := lockDir(filepath.Join(filepath.Dir(s.dirs[0]), e.Name()), unix.LOCK_EX|unix.LOCK_NB)
			if err == nil || errors.Is(err, fs.ErrNotExist) {
				removeTree(filepath.Join(parent, e.Name()))
				lock.Close()
			}
		}
	}
}

func lockDir(dir string, how int) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), how)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", strings.TrimSuffix(dir, "/"), err)
		}
	}
}
