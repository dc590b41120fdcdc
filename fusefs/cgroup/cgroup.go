// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

// Package cgroup leads from a thread id to the container that the thread runs
// in, and from there to that container's limits, usage, CPU time, tasks and
// age, on cgroup v1, v2 and hybrid.
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
	"time"

	cgroups "github.com/containerd/cgroups/v3"

	"github.com/podproc/podproc/fusefs/view"
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
type FS struct{}

// New finds the cgroup hierarchies under cfg.Cgroup.
func New(cfg Config) (*FS, error) { return nil, errors.ErrUnsupported }

// Close closes all descriptors. Containers of fs must not be used any more.
func (fs *FS) Close() error { return nil }

// Mode tells which cgroup versions the tree under Config.Cgroup holds.
func (fs *FS) Mode() cgroups.CGMode { return cgroups.Unavailable }

// Boundary returns the boundary of the container that thread tid runs in. The
// errors to branch on are ErrNoProcess, ErrGone and ErrNamespaced.
func (fs *FS) Boundary(tid uint32) (Boundary, error) { return Boundary{}, errors.ErrUnsupported }

// Reopen returns the Boundary that had the given String, maybe in another
// process; ErrGone if it was removed since.
func (fs *FS) Reopen(s string) (Boundary, error) { return Boundary{}, errors.ErrUnsupported }

// Open returns the container inside b, whose cgroups exist at that moment
// (else ErrGone). Close it when no file of it is asked for any more; opening
// the same boundary twice is cheap and shares descriptors.
func (fs *FS) Open(b Boundary) (*Container, error) { return nil, errors.ErrUnsupported }

// Boundary is the cgroup, on v1 and hybrid one for each controller, at which a
// container begins: what is above limits it, what is below belongs to it.
// Boundaries can be compared and used as map keys.
type Boundary struct {
	id        uint64
	paths     string
	container bool
	root      bool
}

// ID returns the kernfs id, that is the inode number, of the boundary's
// directory, on v1 and hybrid of the one in the memory hierarchy. It fits into
// 55 bits. Two live containers have different ids.
func (b Boundary) ID() uint64 { return b.id }

// String returns the boundary's id and paths in a form that Reopen reads.
func (b Boundary) String() string { return "" }

// Container tells whether b is a container's; if not it is the reader's own
// cgroup.
func (b Boundary) Container() bool { return b.container }

// Root tells whether b is the root cgroup for everything that is shown: the
// host's text applies.
func (b Boundary) Root() bool { return b.root }

// Container reads the numbers of one container. Its methods are safe for
// concurrent use, fill in a value that the caller may reuse, and return
// ErrGone once the cgroup was removed.
type Container struct{}

// Boundary returns the boundary that c was opened with.
func (c *Container) Boundary() Boundary { return Boundary{} }

// Memory reads limits and usage of every level from the boundary to the root.
// Usage and page cache are read where a level has a limit, and for the
// boundary; Stat only if some level has a limit.
func (c *Container) Memory(v *view.Memory) error { return errors.ErrUnsupported }

// CPU reads quota and cpuset.
func (c *Container) CPU(v *view.CPU) error { return errors.ErrUnsupported }

// CPUTime reads the CPU time used. User, System and each of PerCPU never step
// back while the container is open. ErrNotCounted where the container is in no
// cgroup that counts CPU time.
func (c *Container) CPUTime(v *view.CPUTime) error { return errors.ErrUnsupported }

// Tasks reads how many tasks (threads) there are. Running and Blocked are not
// known to cgroups.
func (c *Container) Tasks(v *view.Tasks) error { return errors.ErrUnsupported }

// Birth returns when the oldest process in the boundary started, as time since
// the node's boot, in the kernel's ticks of 10 ms. ErrNoProcess if there is none.
func (c *Container) Birth() (time.Duration, error) { return 0, errors.ErrUnsupported }

// Close gives back what c holds. It may be called once, after all reads.
func (c *Container) Close() error { return nil }
