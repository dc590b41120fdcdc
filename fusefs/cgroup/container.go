// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/podproc/podproc/fusefs/view"
)

// Container reads the numbers of one container. Its methods are safe for
// concurrent use, fill in a value that the caller may reuse, and return
// ErrGone once the cgroup was removed.
type Container struct {
	fs     *FS
	b      Boundary
	chains []chain
	by     [numControllers]*chain
	main   *chain // the one that the boundary's id is of

	namespace atomic.Pointer[pidNamespace] // nil: not known yet
}

// chain is the way from a boundary to the root in one hierarchy.
type chain struct {
	dirs   []*dir // boundary first; root last, see climb
	shared int    // index of the first one that is node-wide
	inside bool   // the boundary is the container's, see inside
}

// Open returns the container inside b, whose cgroups exist at that moment
// (else ErrGone). Close it when no file of it is asked for any more; opening
// the same boundary twice is cheap and shares descriptors.
func (fs *FS) Open(b Boundary) (*Container, error) {
	places, err := fs.places(b)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", b, err)
	}
	c := &Container{fs: fs, b: b, chains: make([]chain, len(places))}
	stands := primary(fs.by[memory], places, b.kind)
	for i, p := range places {
		ch := &c.chains[i]
		if err := fs.climb(ch, p); err != nil {
			c.Close()
			return nil, fmt.Errorf("open cgroup: %w", err)
		}
		ch.inside = inside(p.path, b.kind)
		for ctl, h := range fs.by {
			if h == p.h {
				c.by[ctl] = ch
			}
		}
		if p == stands {
			c.main = ch
		}
	}
	if id, err := fs.identify(places, b.kind); err != nil || id != b.id {
		c.Close()
		if err == nil {
			err = fmt.Errorf("%s: %w", b, ErrGone)
		}
		return nil, fmt.Errorf("open cgroup: %w", err)
	}
	return c, nil
}

// climb fills in the way from p to the root, or only p's own cgroup where
// nothing is read from the ones above.
func (fs *FS) climb(ch *chain, p place) error {
	shared := nodeWide(p.path)
	up := p.h == fs.by[memory] || p.h == fs.by[cpu] || p.h == fs.by[cpuset] || p.h == fs.by[pids]
	for path, ok := p.path, true; ok; path, ok = parent(path) {
		d, err := fs.dir(p.h, path)
		if err != nil {
			return err
		}
		if len(path) > shared {
			ch.shared++
		}
		ch.dirs = append(ch.dirs, d)
		if !up {
			break
		}
	}
	return nil
}

// Boundary returns the boundary that c was opened with.
func (c *Container) Boundary() Boundary { return c.b }

// Close gives back what c holds. It may be called once, after all reads.
func (c *Container) Close() error {
	for _, ch := range c.chains {
		for _, d := range ch.dirs {
			d.release()
		}
	}
	return nil
}

// CPU reads quota and cpuset.
//
// Quota is the smallest of all levels, if at least one that is not node-wide
// has any; Cpuset is that of the boundary or of the nearest level above that
// has one.
func (c *Container) CPU(v *view.CPU) error {
	buf := c.fs.scratch.get()
	defer c.fs.scratch.put(buf)
	v.Cpuset = v.Cpuset[:0]
	v.Quota = view.Unlimited
	if ch := c.by[cpuset]; ch != nil {
		for _, d := range ch.dirs {
			var err error
			if v.Cpuset, err = d.cpuset(v.Cpuset, buf); err != nil {
				return err
			}
			if len(v.Cpuset) > 0 {
				break
			}
		}
	}
	ch := c.by[cpu]
	if ch == nil {
		return nil
	}
	for i, d := range ch.dirs {
		if i == ch.shared && v.Quota == view.Unlimited {
			return nil
		}
		q, err := d.readQuota(buf)
		if err != nil {
			return err
		}
		v.Quota = min(v.Quota, q.milli())
	}
	return nil
}

func (d *dir) readQuota(buf *buffer) (quota, error) {
	if d.h.v2 {
		return d.quotaV2(buf)
	}
	return d.quotaV1(buf)
}

func (d *dir) cpuset(dst []int, buf *buffer) ([]int, error) {
	var cpus []int
	var err error
	if d.h.v2 {
		cpus, err = d.cpusetV2(dst, buf)
	} else {
		cpus, err = d.cpusetV1(dst, buf)
	}
	if errors.Is(err, errAbsent) {
		return dst, nil
	}
	return cpus, err
}

// CPUTime reads the CPU time used. User, System and each of PerCPU never step
// back from one call to the next while the container is open. ErrNotCounted
// where the container is in no cgroup that counts CPU time.
func (c *Container) CPUTime(v *view.CPUTime) error {
	d := c.unified() // v2 counts in every cgroup
	if ch := c.by[cpuacct]; ch != nil && ch.inside {
		d = ch.dirs[0]
	}
	if d == nil {
		return fmt.Errorf("CPU time of %s: %w", c.b, ErrNotCounted)
	}
	buf := c.fs.scratch.get()
	defer c.fs.scratch.put(buf)
	if d.h.v2 {
		return d.cpuTimeV2(v, buf)
	}
	return d.cpuTimeV1(v, buf)
}

// Tasks reads how many tasks (threads) there are, from pids.current. The root
// has none, nor has a cgroup without the pids controller: not Known.
func (c *Container) Tasks(v *view.Tasks) error {
	*v = view.Tasks{}
	ch := c.by[pids]
	if ch == nil || !ch.inside {
		return nil
	}
	return c.tasksIn(ch.dirs[0], v)
}

func (c *Container) tasksIn(d *dir, v *view.Tasks) error {
	buf := c.fs.scratch.get()
	defer c.fs.scratch.put(buf)
	n, err := d.value(pidsCurrent, buf)
	if errors.Is(err, errAbsent) {
		return nil
	}
	v.Total, v.Known = n, err == nil
	return err
}

// limit, value and cpus read and parse one control file; errAbsent if the
// cgroup has none.

func (d *dir) limit(id fileID, buf *buffer) (view.Limit, error) {
	b, err := d.text(id, buf)
	if err != nil {
		return 0, err
	}
	l, err := parseLimit(b)
	return l, d.parsed(id, err)
}

func (d *dir) value(id fileID, buf *buffer) (uint64, error) {
	b, err := d.text(id, buf)
	if err != nil {
		return 0, err
	}
	n, err := parseValue(b)
	return n, d.parsed(id, err)
}

func (d *dir) cpus(id fileID, dst []int, buf *buffer) ([]int, error) {
	b, err := d.text(id, buf)
	if err != nil {
		return dst, err
	}
	cpus, err := parseCPUList(dst, b)
	return cpus, d.parsed(id, err)
}
