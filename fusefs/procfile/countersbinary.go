// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package procfile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/podproc/podproc/fusefs/view"
)

// countersFormat is the first byte of the binary form. What follows it are
// uvarints: birth, at, last and base (user, system), then three lists, each
// with its length before it: the numbers of the CPUs shown, as distances; the
// counters that are not zero, each with its number as distance; lastPer.
const countersFormat = 1

// AppendBinary appends c for a successor process. It never fails.
func (c *Counters) AppendBinary(b []byte) ([]byte, error) {
	b = append(b, countersFormat)
	if !c.started {
		return b, nil
	}
	put := func(ns ...uint64) {
		for _, n := range ns {
			b = binary.AppendUvarint(b, n)
		}
	}
	put(uint64(c.birth), uint64(c.at), c.last.User, c.last.System, c.base.User, c.base.System)
	put(uint64(len(c.shown)))
	next := 0
	for _, cpu := range c.shown {
		put(uint64(cpu - next))
		next = cpu + 1
	}
	used := uint64(0)
	for _, k := range c.cpus {
		if k != (cpuCounter{}) {
			used++
		}
	}
	put(used)
	next = 0
	for cpu, k := range c.cpus {
		if k != (cpuCounter{}) {
			put(uint64(cpu-next), k.user, k.system, k.idle, k.pending.User, k.pending.System)
			next = cpu + 1
		}
	}
	put(uint64(len(c.lastPer)))
	for _, u := range c.lastPer {
		put(u.User, u.System)
	}
	return b, nil
}

// MarshalBinary returns what AppendBinary appends.
func (c *Counters) MarshalBinary() ([]byte, error) { return c.AppendBinary(nil) }

// UnmarshalBinary sets c to what AppendBinary wrote. A form that it does not
// know is an error, and c is as if never looked at.
func (c *Counters) UnmarshalBinary(b []byte) error {
	*c = Counters{}
	if len(b) == 0 || b[0] != countersFormat {
		return fmt.Errorf("counters are of a form other than %d", countersFormat)
	}
	if len(b) == 1 {
		return nil
	}
	r := &uvarints{b: b[1:]}
	n := Counters{started: true, birth: r.duration(), at: r.duration(),
		last: r.use(), base: r.use()}
	shown := r.length()
	for next := 0; shown > 0 && r.err == nil; shown-- {
		cpu := r.cpu(next)
		n.shown = append(n.shown, cpu)
		next = cpu + 1
	}
	used := r.length()
	for next := 0; used > 0 && r.err == nil; used-- {
		cpu := r.cpu(next)
		n.room(cpu)
		n.cpus[cpu] = cpuCounter{r.next(), r.next(), r.next(), r.use()}
		next = cpu + 1
	}
	for per := r.length(); per > 0 && r.err == nil; per-- {
		n.lastPer = append(n.lastPer, r.use())
	}
	if r.err == nil && (len(r.b) > 0 || len(n.shown) == 0) {
		r.err = errCounters
	}
	if r.err != nil {
		return r.err
	}
	n.room(n.shown[len(n.shown)-1])
	*c = n
	return nil
}

// room makes room for the CPU of that number.
func (c *Counters) room(cpu int) {
	for len(c.cpus) <= cpu {
		c.cpus = append(c.cpus, cpuCounter{})
	}
}

var errCounters = errors.New("counters are cut short or damaged")

// uvarints takes numbers off b until there is an error.
type uvarints struct {
	b   []byte
	err error
}

func (r *uvarints) next() uint64 {
	n, size := binary.Uvarint(r.b)
	if r.err != nil || size <= 0 {
		r.err = errCounters
		return 0
	}
	r.b = r.b[size:]
	return n
}

func (r *uvarints) duration() time.Duration {
	n := r.next()
	if n > math.MaxInt64 {
		r.err = errCounters
		return 0
	}
	return time.Duration(n)
}

func (r *uvarints) use() view.CPUUse { return view.CPUUse{User: r.next(), System: r.next()} }

func (r *uvarints) length() uint64 {
	n := r.next()
	if n > maxCPUs {
		r.err = errCounters
		return 0
	}
	return n
}

// cpu returns the number of a CPU, given as the distance from next.
func (r *uvarints) cpu(next int) int {
	n := r.length()
	if n += uint64(next); n >= maxCPUs {
		r.err = errCounters
		return 0
	}
	return int(n)
}
