// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package fusefs

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/podproc/podproc/fusefs/cgroup"
	"github.com/podproc/podproc/fusefs/procfile"
	"github.com/podproc/podproc/fusefs/view"
)

// container is a reader's view: a container, or the cgroup of a reader that
// is in none, or (boundary zero) the host.
type container struct {
	boundary cgroup.Boundary
	name     string                           // boundary's
	cgroup   atomic.Pointer[cgroup.Container] // nil: not open yet, or no more
	gone     atomic.Bool
	inodes   atomic.Int64  // that it owns, or has looked up
	used     atomic.Int64  // when it was last asked for, since boot
	since    atomic.Int64  // when it last came to own an inode, since boot; see claim
	reads    chan struct{} // bounds kernel reads

	loadRead atomic.Int64 // when its load average was last read, since boot

	mu       sync.Mutex // guards what follows; never held across a kernel read
	counters *procfile.Counters
	load     *procfile.Load
	cpu      view.CPU
	cpuAt    time.Duration // when cpu was read, since boot; 0: never
}

func newContainer(b cgroup.Boundary, counters *procfile.Counters) *container {
	return &container{boundary: b, name: b.String(), counters: counters, reads: make(chan struct{}, containerReads)}
}

// host tells whether c stands for the host itself.
func (c *container) host() bool { return c.boundary == cgroup.Boundary{} }

// open returns the container's cgroups, ErrGone if they are no more. Its caller
// holds a place in reads.
func (c *container) open(cgroups *cgroup.FS) (*cgroup.Container, error) {
	if cg := c.cgroup.Load(); cg != nil {
		return cg, nil
	}
	if c.gone.Load() {
		return nil, fmt.Errorf("container %s: %w", c.boundary, cgroup.ErrGone)
	}
	cg, err := cgroups.Open(c.boundary)
	if err != nil {
		return nil, err
	}
	if !c.cgroup.CompareAndSwap(nil, cg) {
		_ = cg.Close()
	}
	return c.cgroup.Load(), nil
}

// cpus reads what c may run on at the time at, or sets that to when somebody
// has read it a moment ago: files that are read together share it. Nothing is
// shared from before the container came to own a file.
func (c *container) cpus(cg *cgroup.Container, at *time.Duration, moment time.Duration, v *view.CPU) error {
	c.mu.Lock()
	if c.cpuAt > time.Duration(c.since.Load()) && *at-c.cpuAt < moment {
		defer c.mu.Unlock()
		v.Quota, v.Cpuset = c.cpu.Quota, append(v.Cpuset[:0], c.cpu.Cpuset...)
		*at = min(*at, c.cpuAt)
		return nil
	}
	c.mu.Unlock()
	if err := cg.CPU(v); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cpu.Quota, c.cpu.Cpuset, c.cpuAt = v.Quota, append(c.cpu.Cpuset[:0], v.Cpuset...), *at
	return nil
}

// birth is when the container began, since boot.
func (c *container) birth(cg *cgroup.Container) (time.Duration, error) {
	c.mu.Lock()
	if c.counters != nil && c.counters.Started() {
		defer c.mu.Unlock()
		return c.counters.Birth(), nil
	}
	c.mu.Unlock()
	return cg.Birth()
}

// appendCounters appends the record of the counters. Its caller holds mu.
func (c *container) appendCounters(dst []byte) ([]byte, error) {
	dst = appendString(append(dst, kindCounters), c.name)
	return c.counters.AppendBinary(dst)
}

// close closes the descriptors when the last read is over.
func (c *container) close() {
	c.gone.Store(true)
	for range containerReads {
		c.reads <- struct{}{}
	}
	if cg := c.cgroup.Swap(nil); cg != nil {
		_ = cg.Close()
	}
	for range containerReads {
		<-c.reads
	}
}
