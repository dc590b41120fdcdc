// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

// Package cgroup leads from a thread id to the container that the thread runs
// in, and from there to that container's limits, usage, CPU time, tasks, load,
// pressure, disks and age, on cgroup v1, v2 and hybrid.
//
// It promises: what is told of one thread is read from one process, pid reuse
// or not; a cgroup that was removed is ErrGone, also when another one has
// taken its path; every spelling of "no limit" is view.Unlimited; a read
// allocates nothing once it is warm, holds no lock while the kernel works, and
// keeps no more descriptors open than Config.MaxOpen.
//
// It refuses to guess: text that the kernel does not write is an error that
// names the file and quotes it.
package cgroup

import (
	"errors"
	"fmt"
	"sync"
	"time"

	cgroups "github.com/containerd/cgroups/v3"
	"golang.org/x/sys/unix"
)

// Errors that callers branch on; they come wrapped.
var (
	// ErrGone tells that a cgroup was removed. Its numbers will never be
	// known again, even if a cgroup of the same path exists by now.
	ErrGone = errors.New("cgroup is gone")

	// ErrNoProcess tells that the thread has ended or is about to, or that a
	// container has no process left.
	ErrNoProcess = errors.New("no such process")

	// ErrNamespaced tells that the kernel shows cgroup paths relative to a
	// cgroup namespace that the reader is outside of ("/../..").
	ErrNamespaced = errors.New("cgroup path leads out of this process's cgroup namespace")

	// ErrNotCounted tells that the kernel does not count this for the
	// container: the container is no member of a cgroup that would.
	ErrNotCounted = errors.New("not counted for this container")
)

// Config says where the kernel's trees are. Its zero value is right on a host.
type Config struct {
	Proc   string // procfs that knows the readers' thread ids; "" is /proc
	Cgroup string // where the cgroup hierarchies are mounted; "" is /sys/fs/cgroup

	// MaxOpen bounds the control files kept open. 0 is half of
	// RLIMIT_NOFILE, at most 65536.
	MaxOpen int

	// NodeWideAge is how old the memory numbers of a node-wide level
	// (kubepods, the root) may be; they are shared by all containers and
	// the dearest to read. 0 is 50 ms, negative is always fresh. Numbers of
	// containers and pods are never kept.
	NodeWideAge time.Duration
}

// FS is a node's cgroups. It is safe for concurrent use.
type FS struct {
	proc        string
	procFD      int // O_PATH
	nodeWideAge time.Duration

	mode    cgroups.CGMode
	hiers   []*hierarchy
	by      [numControllers]*hierarchy // nil: the kernel has no such controller
	unified *hierarchy                 // nil on pure v1

	files   fileCache
	scratch scratchList

	mu   sync.Mutex
	dirs map[dirKey]*dir
}

// New finds the cgroup hierarchies under cfg.Cgroup.
func New(cfg Config) (*FS, error) {
	if cfg.Proc == "" {
		cfg.Proc = "/proc"
	}
	if cfg.Cgroup == "" {
		cfg.Cgroup = "/sys/fs/cgroup"
	}
	if cfg.NodeWideAge == 0 {
		cfg.NodeWideAge = 50 * time.Millisecond
	}
	if cfg.MaxOpen == 0 {
		var lim unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
			return nil, fmt.Errorf("read RLIMIT_NOFILE: %w", err)
		}
		cfg.MaxOpen = int(min(lim.Cur/2, 65536))
	}
	if cfg.MaxOpen < 1 {
		return nil, fmt.Errorf("at least one open control file is needed, not %d", cfg.MaxOpen)
	}
	procFD, err := unix.Open(cfg.Proc, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", cfg.Proc, err)
	}
	fs := &FS{proc: cfg.Proc, procFD: procFD, nodeWideAge: cfg.NodeWideAge, dirs: map[dirKey]*dir{}}
	fs.files.max = cfg.MaxOpen
	if err := fs.discover(cfg.Cgroup); err != nil {
		return nil, errors.Join(err, fs.Close())
	}
	return fs, nil
}

// Close closes all descriptors. Containers of fs must not be used any more.
func (fs *FS) Close() error {
	fs.files.dropAll()
	err := unix.Close(fs.procFD)
	for _, h := range fs.hiers {
		err = errors.Join(err, unix.Close(h.fd))
	}
	return err
}

// Mode tells which cgroup versions the tree under Config.Cgroup holds. It is
// read off that tree: cgroups.Mode knows only this process's /sys/fs/cgroup.
func (fs *FS) Mode() cgroups.CGMode { return fs.mode }
