// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

// Package fusefs is podproc's file system: /proc files that show the
// container of their reader.
//
// A file such as proc/meminfo is a symlink, and each READLINK of it names an
// inode that did not exist before: .inode/meminfo-17. Whoever binds
// proc/meminfo over a file of a container so gets an inode for this mount
// alone. The container that mounts it, or else the one that first reads it,
// owns it for ever: its text is that container's, whoever passes by later
// (through /proc/PID/root, say). Until then each reader sees itself, and the
// kernel asks for the attributes of each.
//
// Why a symlink, and not simply another inode for each LOOKUP of one name:
// the kernel drops a dentry whose name has got another inode, also while
// somebody else is about to mount it; containers that start at the same
// moment would fail with "no such file or directory".
//
// The kernel's page cache does the work. A GETATTR, which the kernel sends
// when what it knows is older than the freshness bound, renders a snapshot
// and reports its true size and its own mtime; with a new mtime the kernel
// drops its pages and READs the snapshot. Between two GETATTRs open, read and
// close cost no round trip: OPEN is answered by ENOSYS, for good. There is no
// direct I/O, since sendfile does not know it.
//
// What may block: reading cgroup and proc files, in GETATTR, and in READ of a
// new inode. These reads are bounded in all and for each container.
// No lock but the inode's own is held across them. A request that takes
// longer than a second is answered by Late, from the last snapshot. The
// package never opens a file of its own mount.
package fusefs

import (
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	cgroups "github.com/containerd/cgroups/v3"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/podproc/podproc/fusefs/cgroup"
)

// Config says where the kernel's own trees are. Its zero value is right on a
// host.
type Config struct {
	Proc   string // "" is /proc
	Sys    string // "" is /sys
	Cgroup string // "" is /sys/fs/cgroup

	// Freshness is how old what a reader sees may be; 0 is 100 ms.
	Freshness time.Duration

	// Foreign are the Paths of the process that served before.
	Foreign map[uint8]string

	// Journal gets every change of the state that has to cross to a
	// successor, before a reader can see what comes of it. It must not block
	// and not keep the slice.
	Journal func(record []byte)

	Log *slog.Logger // default: discards
}

// maxReads bounds the reads of kernel files in flight, in all; each container
// may have containerReads of them.
const (
	maxReads       = 256
	containerReads = 2
)

// FS is the file system. It implements fuse.RawFileSystem.
type FS struct {
	fuse.RawFileSystem // ENOSYS for everything that is not said here

	config  Config
	log     *slog.Logger
	cgroups *cgroup.FS
	host    *host
	table   *table
	reads   chan struct{}
	journal atomic.Pointer[func([]byte)]
	Stats   Stats

	first  uint64        // the first inode number of this process
	next   atomic.Uint64 // the last inode number that a READLINK has named
	nobody *container    // the view of readers that we cannot see: the host

	buffers sync.Pool // *[]byte, to render into
	values  sync.Pool // *values, to render from

	crowd chan struct{} // asks for a collection at once

	mu         sync.Mutex // guards what follows
	owned      int        // inodes that have an owner
	inodes     map[uint64]*inode
	containers map[cgroup.Boundary]*container
}

// Stats counts what an operator wants to know.
type Stats struct {
	Refreshes atomic.Uint64 // snapshots rendered
	Stale     atomic.Uint64 // reads answered with the last snapshot since no new one could be had
	Errors    atomic.Uint64 // reads that failed
	Owned     atomic.Uint64 // inodes that found their container
	Unseen    atomic.Uint64 // requests of readers outside our pid namespace
	Overdue   atomic.Uint64 // requests answered by Late
	Panics    atomic.Uint64 // requests that made a handler panic
}

var _ fuse.RawFileSystem = (*FS)(nil)

// New prepares the file system; it serves nothing yet.
func New(config Config) (*FS, error) {
	for p, def := range map[*string]string{&config.Proc: "/proc", &config.Sys: "/sys", &config.Cgroup: "/sys/fs/cgroup"} {
		if *p == "" {
			*p = def
		}
	}
	if config.Freshness == 0 {
		config.Freshness = 100 * time.Millisecond
	}
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	cgroups, err := cgroup.New(cgroup.Config{Proc: config.Proc, Cgroup: config.Cgroup})
	if err != nil {
		return nil, err
	}
	fs := &FS{
		RawFileSystem: fuse.NewDefaultRawFileSystem(),
		config:        config,
		log:           config.Log,
		cgroups:       cgroups,
		host:          newHost(config.Proc, config.Sys, config.Freshness),
		table:         newTable(config.Foreign),
		reads:         make(chan struct{}, maxReads),
		inodes:        map[uint64]*inode{},
		containers:    map[cgroup.Boundary]*container{},
		crowd:         make(chan struct{}, 1),
		buffers:       sync.Pool{New: func() any { return new([]byte) }},
		values:        sync.Pool{New: func() any { return new(values) }},
	}
	fs.SetJournal(config.Journal)
	fs.nobody = newContainer(cgroup.Boundary{}, nil)
	// Numbers are unique over all processes that serve a connection one
	// after the other: each starts at its own time, in steps that nobody can
	// use up before the next.
	fs.first = uint64(sinceBoot()/time.Millisecond) << 16
	fs.next.Store(fs.first)
	return fs, nil
}

// SetJournal replaces Config.Journal.
func (fs *FS) SetJournal(f func(record []byte)) {
	if f == nil {
		f = func([]byte) {}
	}
	fs.journal.Store(&f)
}

func (fs *FS) record(r []byte) { (*fs.journal.Load())(r) }

// String is the name of the file system in mountinfo.
func (fs *FS) String() string { return "podproc" }

// Mode names the cgroup mode of the node: "legacy", "hybrid" or "unified".
func (fs *FS) Mode() string {
	return map[cgroups.CGMode]string{cgroups.Legacy: "legacy", cgroups.Hybrid: "hybrid", cgroups.Unified: "unified"}[fs.cgroups.Mode()]
}

// Close closes the kernel files. It is called when nothing is served any more.
func (fs *FS) Close() error { return fs.cgroups.Close() }

// Text renders a file, by its path in the tree, as thread tid sees it. It is
// for self-tests: it takes the way of a request without one.
func (fs *FS) Text(path string, tid uint32) ([]byte, error) {
	n := fs.table.byPath[path]
	if n == nil || n.file == nil {
		return nil, &os.PathError{Op: "render", Path: path, Err: os.ErrNotExist}
	}
	c, err := fs.viewer(tid)
	if err != nil {
		return nil, err
	}
	now := sinceBoot()
	return fs.render(n.file, c, false, &now, nil)
}

// viewer is the container that thread tid runs in.
func (fs *FS) viewer(tid uint32) (*container, error) {
	if tid == 0 {
		fs.Stats.Unseen.Add(1)
		return fs.nobody, nil
	}
	b, err := fs.cgroups.Boundary(tid)
	if err != nil {
		return nil, fmt.Errorf("find container of thread %d: %w", tid, err)
	}
	return fs.container(b), nil
}

// container finds or makes what is known of the container at b.
func (fs *FS) container(b cgroup.Boundary) *container {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.containerLocked(b)
}

// containerLocked is container for a caller that holds mu.
func (fs *FS) containerLocked(b cgroup.Boundary) *container {
	if b.Root() {
		return fs.nobody
	}
	c := fs.containers[b]
	if c == nil {
		c = newContainer(b, nil)
		fs.containers[b] = c
	}
	c.used.Store(int64(sinceBoot())) // under mu: forget looks at it there
	return c
}

// known is the container at b, if anything is known of it.
func (fs *FS) known(b cgroup.Boundary) *container {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.containers[b]
}

// sinceBoot is the time since the node's boot, suspension included. It is asked
// for more than once a request, so the scheduler is not told of the call.
func sinceBoot() time.Duration {
	var ts unix.Timespec
	unix.RawSyscall(unix.SYS_CLOCK_GETTIME, unix.CLOCK_BOOTTIME, uintptr(unsafe.Pointer(&ts)), 0)
	return time.Duration(ts.Nano())
}

// Containers is how many containers something is known of.
func (fs *FS) Containers() int {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return len(fs.containers)
}

// Inodes is how many inodes the kernel holds, as far as is known.
func (fs *FS) Inodes() int {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return len(fs.inodes)
}
