// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"fmt"

	"github.com/podproc/podproc/fusefs/view"
)

// Memory reads limits and usage of every level from the boundary to the root.
// A boundary without the controller (v2) begins at the nearest level above that
// has it.
//
// Usage and page cache are read where a level has a limit, and usage for the
// boundary. Stat, and the boundary's page cache, only if some level that is not
// node-wide has a limit: else the container is unlimited, and shown the host's.
func (c *Container) Memory(v *view.Memory) error {
	buf := c.fs.scratch.get()
	defer c.fs.scratch.put(buf)
	v.Levels = v.Levels[:0]
	v.Stat = view.MemoryStat{}
	v.SwapAccounted = false
	ch := c.by[memory]
	if ch == nil { // cgroup_disable=memory
		v.Levels = append(v.Levels, view.MemoryLevel{
			Limit: view.Unlimited, SwapLimit: view.Unlimited, NodeWide: true,
		})
		return nil
	}
	var first *dir
	limited := false
	for i, d := range ch.dirs {
		var l memoryLevel
		if err := d.memory(&l, first == nil, i >= ch.shared, buf); err != nil {
			return err
		}
		if !l.accounted && i < len(ch.dirs)-1 {
			continue
		}
		if l.accounted && first == nil {
			first = d
		}
		l.NodeWide = i >= ch.shared
		v.SwapAccounted = v.SwapAccounted || l.swap
		limited = limited || !l.NodeWide && (l.Limit != view.Unlimited || l.SwapLimit != view.Unlimited)
		v.Levels = append(v.Levels, l.MemoryLevel)
	}
	if !limited {
		return nil
	}
	if err := first.memoryStat(&v.Stat, buf); err != nil {
		return err
	}
	reclaimable(&v.Levels[0], &v.Stat)
	return nil
}

func reclaimable(l *view.MemoryLevel, s *view.MemoryStat) {
	l.ActiveFile, l.InactiveFile, l.SlabReclaimable = s.ActiveFile, s.InactiveFile, s.SlabReclaimable
}

// memory reads one level. Of a node-wide one it may return what another
// container's look found a moment ago. The boundary's page cache is left to
// Memory.
func (d *dir) memory(l *memoryLevel, boundary, shared bool, buf *buffer) error {
	age := int64(d.fs.nodeWideAge)
	if !shared || boundary || age < 0 {
		return d.readMemory(l, boundary, !boundary, buf)
	}
	d.mu.Lock()
	*l = d.level
	fresh := d.at != 0 && now()-d.at < age
	d.mu.Unlock()
	if fresh {
		return nil
	}
	at := now()
	if err := d.readMemory(l, false, true, buf); err != nil {
		return err
	}
	d.mu.Lock()
	if at > d.at {
		d.level, d.at = *l, at
	}
	d.mu.Unlock()
	return nil
}

func (d *dir) readMemory(l *memoryLevel, usage, cache bool, buf *buffer) error {
	var err error
	if d.h.v2 {
		err = d.memoryV2(l, usage, buf)
	} else {
		err = d.memoryV1(l, usage, buf)
	}
	if err != nil || !cache || l.Limit == view.Unlimited {
		return err
	}
	var s view.MemoryStat
	if err := d.memoryStat(&s, buf); err != nil {
		return err
	}
	reclaimable(&l.MemoryLevel, &s)
	return nil
}

func (d *dir) memoryStat(s *view.MemoryStat, buf *buffer) error {
	b, err := d.text(memoryStat, buf)
	if err != nil {
		return err
	}
	return d.parsed(memoryStat, parseMemoryStat(s, b, d.h.v2))
}

// parseMemoryStat reads memory.stat.
func parseMemoryStat(s *view.MemoryStat, b []byte, v2 bool) error {
	*s = view.MemoryStat{}
	f := flat{b}
	anon, file := false, false
	for {
		key, value, ok := f.next()
		if !ok {
			break
		}
		to := memoryStatV1(s, key)
		if v2 {
			to = memoryStatV2(s, key)
		}
		if to == nil {
			continue
		}
		if *to, ok = parseUint(value); !ok {
			return fmt.Errorf("%s is %.100q", key, value)
		}
		anon = anon || to == &s.Anon
		file = file || to == &s.File
	}
	if err := f.err(); err != nil {
		return err
	}
	if !anon || !file {
		return errors.New("neither half of memory, anonymous and file, may be missing")
	}
	return nil
}
