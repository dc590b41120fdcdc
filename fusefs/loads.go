// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package fusefs

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"github.com/podproc/podproc/fusefs/cgroup"
	"github.com/podproc/podproc/fusefs/procfile"
	"github.com/podproc/podproc/fusefs/view"
)

// A load average needs samples all the time. Only containers that have read
// theirs are sampled, for as long after as the longest of the averages reaches
// back: who looks every 15 minutes or more often sees true ones.
const loadKept = 15 * time.Minute

// Each task costs a read. So many are looked at for one container, and in
// one round for all of them together; of more, the rest is inferred.
const (
	loadTasks  = 2048
	roundTasks = 16384
	leastTasks = 32 // for one container, however many there are
)

// sampleLoads takes a sample of every container that is due, as soon as
// procfile.LoadEvery allows, until ctx ends. Those of a container whose reads
// all hang are missed.
func (fs *FS) sampleLoads(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(procfile.LoadEvery - sinceBoot()%procfile.LoadEvery):
		}
		due := fs.loadsWanted()
		most := max(leastTasks, min(loadTasks, roundTasks/max(1, len(due))))
		for _, c := range due {
			select {
			case c.reads <- struct{}{}:
			default:
				continue
			}
			fs.reads <- struct{}{}
			if err := fs.sampleLoad(c, most); err != nil && !errors.Is(err, cgroup.ErrGone) && !errors.Is(err, cgroup.ErrNoProcess) {
				fs.log.Warn("load average is not sampled", "container", c.name, "error", err)
			}
			<-fs.reads
			<-c.reads
			if ctx.Err() != nil {
				return
			}
		}
	}
}

// loadsWanted lists the containers whose load average somebody reads.
func (fs *FS) loadsWanted() (wanted []*container) {
	since := int64(sinceBoot() - loadKept)
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for _, c := range fs.containers {
		if read := c.loadRead.Load(); read != 0 && read > since {
			wanted = append(wanted, c)
		}
	}
	return wanted
}

// sampleLoad takes a sample, which goes to the journal before anybody can see
// it. Its caller holds a place in the reads of both.
func (fs *FS) sampleLoad(c *container, most int) error {
	cg, err := c.open(fs.cgroups)
	if err != nil {
		return err
	}
	now := sinceBoot()
	var tasks view.Load
	if err := cg.Load(&tasks, most); err != nil {
		return err
	}
	c.mu.Lock()
	started := c.load != nil && c.load.Started()
	c.mu.Unlock()
	var birth time.Duration // asked for at the first sample only
	if !started {
		if birth, err = c.birth(cg); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.load == nil {
		c.load = new(procfile.Load)
	}
	c.load.Sample(now, birth, &tasks)
	fs.record(c.appendLoad(nil))
	return nil
}

// renderLoad renders the load average, from a sample taken now if one has been
// missed.
func (fs *FS) renderLoad(f *procfile.File, c *container, cg *cgroup.Container, host *procfile.Host, v *values, dst []byte) ([]byte, error) {
	now := sinceBoot()
	c.loadRead.Store(int64(now))
	c.mu.Lock()
	missed := c.load == nil || c.load.Missed(now)
	c.mu.Unlock()
	if missed {
		if err := fs.sampleLoad(c, loadTasks); err != nil {
			return dst, err
		}
	}
	if err := cg.Visible(&v.tasks); err != nil {
		return dst, err
	}
	v.container.Tasks = &v.tasks
	c.mu.Lock()
	defer c.mu.Unlock()
	v.container.Load = c.load
	return f.Render(dst, host, &v.container), nil
}

// appendLoad appends the record of the load average. Its caller holds mu.
func (c *container) appendLoad(dst []byte) []byte {
	dst = appendString(append(dst, kindLoad), c.name)
	dst = binary.AppendUvarint(dst, uint64(c.loadRead.Load()))
	dst, _ = c.load.AppendBinary(dst)
	return dst
}

func (fs *FS) applyLoad(boundary string, read uint64, r *reader) error {
	l := new(procfile.Load)
	c, err := fs.applyTo(boundary, r, l)
	if c == nil {
		return err
	}
	c.loadRead.Store(int64(min(read, uint64(sinceBoot()))))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.load = l
	return nil
}
