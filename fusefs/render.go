// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package fusefs

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podproc/podproc/fusefs/cgroup"
	"github.com/podproc/podproc/fusefs/procfile"
	"github.com/podproc/podproc/fusefs/view"
)

// values is what a container's file is rendered from, to be used again.
type values struct {
	host      procfile.Host
	memory    view.Memory
	cpu       view.CPU
	cpuTime   view.CPUTime
	tasks     view.Tasks
	pressure  view.Pressure
	disks     view.Disks
	container procfile.Container
	record    []byte
}

// render appends the text of f for c to dst, which it returns grown also with
// an error. What it shows of the container is not older than at, which is now,
// and which it sets back a little where it shows what was read before. Kernel
// reads in flight are bounded. look tells that c need not be who will read it.
func (fs *FS) render(f *procfile.File, c *container, look bool, at *time.Duration, dst []byte) ([]byte, error) {
	c.reads <- struct{}{}
	defer func() { <-c.reads }()
	fs.reads <- struct{}{}
	defer func() { <-fs.reads }()
	fs.Stats.Refreshes.Add(1)
	if f.Render == nil {
		text, err := fs.host.text(f.Path, fs.config.Proc, fs.config.Sys)
		return append(dst, text...), err
	}
	v := fs.values.Get().(*values)
	defer fs.values.Put(v)
	v.host, v.container = procfile.Host{}, procfile.Container{}
	host := &v.host
	err := fs.host.get(f, host)
	if f.Needs&procfile.NeedPressure != 0 && (errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.EOPNOTSUPP)) {
		err = fmt.Errorf("%w: %w", cgroup.ErrNotCounted, err) // CONFIG_PSI off, psi=0
	}
	if err != nil {
		return dst, err
	}
	if c.host() {
		return f.Render(dst, host, nil), nil
	}
	cg, err := c.open(fs.cgroups)
	if err != nil {
		return dst, err
	}
	if f.Needs&procfile.NeedMemory != 0 {
		if err := cg.Memory(&v.memory); err != nil {
			return dst, err
		}
		v.container.Memory = &v.memory
	}
	if f.Needs&(procfile.NeedCPUs|procfile.NeedCounters) != 0 {
		if err := c.cpus(cg, at, fs.config.Freshness/4, &v.cpu); err != nil {
			return dst, err
		}
		v.container.CPUs = procfile.CountCPUs(&v.cpu, host.Online)
	}
	if f.Needs&procfile.NeedTasks != 0 {
		v.tasks = view.Tasks{}
		if err := cg.Tasks(&v.tasks); err != nil && !errors.Is(err, cgroup.ErrNotCounted) {
			return dst, err
		}
		v.container.Tasks = &v.tasks
	}
	if f.Needs&procfile.NeedCounted != 0 {
		err := v.count(f, cg)
		if errors.Is(err, cgroup.ErrNotCounted) && !c.boundary.Container() {
			return f.Render(dst, host, nil), nil
		}
		if err != nil {
			return dst, err
		}
	}
	if f.Needs&procfile.NeedLoad != 0 {
		return fs.renderLoad(f, c, cg, host, v, dst)
	}
	if f.Needs&procfile.NeedCounters == 0 {
		return f.Render(dst, host, &v.container), nil
	}
	return fs.renderCounters(f, c, look, cg, host, v, dst)
}

// count reads what the kernel may not count.
func (v *values) count(f *procfile.File, cg *cgroup.Container) error {
	if f.Needs&procfile.NeedDisks != 0 {
		v.container.Disks = &v.disks
		return cg.Disks(&v.disks)
	}
	v.container.Pressure = &v.pressure
	return cg.Pressure(&v.pressure, f.Pressure)
}

// renderCounters renders a file that shows CPU time. The counters go to the
// journal before anybody can see them: a successor must not step back.
//
// A look does not begin them: the runtime looks at a container's files before
// it sets the limits, and counts of more CPUs than it has would stay.
func (fs *FS) renderCounters(f *procfile.File, c *container, look bool, cg *cgroup.Container, host *procfile.Host, v *values, dst []byte) ([]byte, error) {
	now := sinceBoot()
	err := cg.CPUTime(&v.cpuTime)
	if errors.Is(err, cgroup.ErrNotCounted) {
		return f.Render(dst, host, nil), nil // of CPU time the reader has the host's
	}
	if err != nil {
		return dst, err
	}
	birth, err := c.birth(cg)
	if err != nil {
		return dst, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	counters, begun := c.counters, c.counters != nil
	if !begun {
		counters = new(procfile.Counters)
	}
	counters.Advance(now, birth, v.container.CPUs, &v.cpuTime)
	v.container.Counters = counters
	if look && !begun {
		return f.Render(dst, host, &v.container), nil
	}
	c.counters = counters
	if v.record, err = c.appendCounters(v.record[:0]); err != nil {
		return dst, err
	}
	fs.record(v.record)
	return f.Render(dst, host, &v.container), nil
}
