// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package procfile

import (
	"time"

	"github.com/podproc/podproc/fusefs/view"
)

// tick is the unit of /proc/stat in ns: USER_HZ is 100 on every architecture
// that Kubernetes runs on.
const tick = 10_000_000

// maxPending bounds how much of a CPU's use waits to be shown. A quota lets a
// container use up to two periods' worth of time at once (the end of one and
// the beginning of the next); more than this is no such burst.
const maxPending = uint64(time.Second)

// cpuCounter is what one CPU of a container has gathered, in ns.
type cpuCounter struct {
	user, system, idle uint64
	// pending is used time that would put the CPU above its elapsed time.
	pending view.CPUUse
}

// Counters is what /proc/stat counts for one container: CPU time used and
// idle, per CPU, since the container's birth.
//
// It grows by increments from one look (Advance) to the next. Between two
// looks each CPU shown gathers exactly the time that has passed: used as far
// as the container used it, idle the rest. So a change of limits changes the
// slope of the counters and never their values, no field ever steps back, and
// no CPU is above its elapsed time. CPUs taken away keep what they had
// gathered, in the sum and for the day they come back, as the kernel's do when
// they go offline.
//
// The zero value is a container never looked at. It is not safe for concurrent
// use. It crosses from process to process by AppendBinary and UnmarshalBinary.
type Counters struct {
	started   bool
	birth, at time.Duration // since boot

	shown []int        // the CPUs of the last look by the number they bear
	cpus  []cpuCounter // by that number; also those that are not shown now
	base  view.CPUUse  // used, but more than the CPUs had time for

	last    view.CPUUse   // what the kernel had counted at the last look
	lastPer []view.CPUUse // the same by the host's number of the CPU
}

// Started tells whether there was a first look. Until then Advance wants to
// know the container's birth.
func (c *Counters) Started() bool { return c.started }

// Birth returns the container's birth, since boot, as told at the first look.
func (c *Counters) Birth() time.Duration { return c.birth }

// Age returns how old the container was at the last look.
func (c *Counters) Age() time.Duration { return c.at - c.birth }

// Advance takes a look: at the time now the container has the CPUs cpus and
// has used s. birth is the start of the container's oldest process and is
// only asked for at the first look. Both times are since the host's boot.
// Advance keeps nothing of cpus and s, and allocates only when there are more
// CPUs than ever before.
//
// At the first look capacity is N times the age. What was used beyond that (by
// a container that had more CPUs once) counts, but on no CPU.
//
// Use is the kernel's own per CPU where it counts so and every CPU that the
// container may use is shown; otherwise it is spread evenly.
func (c *Counters) Advance(now, birth time.Duration, cpus CPUs, s *view.CPUTime) {
	first := !c.started
	if first {
		c.started = true
		c.birth = max(0, min(birth, now))
		c.at = c.birth
		c.last, c.lastPer = view.CPUUse{}, c.lastPer[:0]
		c.show(cpus)
		c.use(cpus, s, true)
	} else {
		c.use(cpus, s, false)
	}
	elapsed := uint64(max(0, now-c.at))
	c.at = max(c.at, now)
	for _, cpu := range c.shown {
		c.cpus[cpu].settle(elapsed, true)
	}
	if !first && c.change(cpus, elapsed) {
		c.show(cpus)
	}
	next := 0
	for cpu := range c.cpus {
		limit := uint64(0)
		if next < len(c.shown) && c.shown[next] == cpu {
			next++
			if !first {
				limit = maxPending
			}
		}
		c.overflow(&c.cpus[cpu], limit)
	}
}

// show makes cpus the CPUs shown.
func (c *Counters) show(cpus CPUs) {
	c.shown = c.shown[:0]
	for i := range cpus.N {
		c.shown = append(c.shown, cpus.label(i))
	}
	c.grow(cpus)
}

// grow makes room for all of cpus.
func (c *Counters) grow(cpus CPUs) {
	for highest := cpus.label(cpus.N - 1); len(c.cpus) <= highest; {
		c.cpus = append(c.cpus, cpuCounter{})
	}
}

// use books what was used since the last look as pending.
func (c *Counters) use(cpus CPUs, s *view.CPUTime, first bool) {
	spent := view.CPUUse{User: grown(&c.last.User, s.User), System: grown(&c.last.System, s.System)}
	if !cpus.Whole || len(s.PerCPU) == 0 {
		c.lastPer = c.lastPer[:0]
		c.spread(c.shown, spent)
		return
	}
	known := len(c.lastPer) > 0 || first
	for len(c.lastPer) < len(s.PerCPU) {
		c.lastPer = append(c.lastPer, view.CPUUse{})
	}
	if !known { // since when per CPU, nobody knows
		copy(c.lastPer, s.PerCPU)
		c.spread(c.shown, spent)
		return
	}
	c.grow(cpus)
	var elsewhere view.CPUUse // on CPUs that the container may not use any more
	next := 0
	for cpu := range s.PerCPU {
		d := view.CPUUse{
			User:   grown(&c.lastPer[cpu].User, s.PerCPU[cpu].User),
			System: grown(&c.lastPer[cpu].System, s.PerCPU[cpu].System),
		}
		for next < cpus.N-1 && next < len(cpus.Host)-1 && cpus.Host[next] < cpu {
			next++
		}
		to := &elsewhere
		if next < len(cpus.Host) && cpus.Host[next] == cpu {
			to = &c.cpus[cpus.label(next)].pending
		}
		plus(to, d)
	}
	c.spread(c.shown, elsewhere)
}

// grown returns by how much a counter of the kernel has grown. One that has
// lost more than half was reset; one that is a little behind was read while
// it was being summed up.
func grown(last *uint64, now uint64) uint64 {
	if now < *last && now >= *last/2 {
		return 0
	}
	d := sub(now, *last)
	*last = now
	return d
}

// spread books use evenly on the CPUs of that number.
func (c *Counters) spread(cpus []int, use view.CPUUse) {
	if use == (view.CPUUse{}) {
		return
	}
	n := uint64(len(cpus))
	for i, cpu := range cpus {
		share := view.CPUUse{User: use.User / n, System: use.System / n}
		if i == 0 {
			share.User += use.User % n
			share.System += use.System % n
		}
		plus(&c.cpus[cpu].pending, share)
	}
}

// settle lets a CPU gather the time that has passed: what is pending, and idle
// the rest.
func (k *cpuCounter) settle(elapsed uint64, idle bool) {
	pending := add(k.pending.User, k.pending.System)
	spent := min(pending, elapsed)
	user := min(scale(k.pending.User, spent, pending), k.pending.User)
	system := min(spent-user, k.pending.System)
	k.user += user
	k.system += system
	k.pending.User -= user
	k.pending.System -= system
	if idle {
		k.idle += elapsed - user - system
	}
}

// change tells whether cpus are others than those shown. Since the last look
// shows the old ones, all that time has passed on these; but if the container
// has used more, then that was on those that came, which gather no idle time.
func (c *Counters) change(cpus CPUs, elapsed uint64) bool {
	c.grow(cpus)
	came, next := 0, 0
	same := len(c.shown) == cpus.N
	for i := range cpus.N {
		label := cpus.label(i)
		for next < len(c.shown) && c.shown[next] < label {
			next++
		}
		if next == len(c.shown) || c.shown[next] != label {
			came, same = came+1, false
		}
	}
	if came == 0 {
		return !same
	}
	var left view.CPUUse
	for _, cpu := range c.shown {
		plus(&left, c.cpus[cpu].pending)
		c.cpus[cpu].pending = view.CPUUse{}
	}
	n, next := uint64(came), 0
	for i := range cpus.N {
		label := cpus.label(i)
		for next < len(c.shown) && c.shown[next] < label {
			next++
		}
		if next < len(c.shown) && c.shown[next] == label {
			continue
		}
		k := &c.cpus[label]
		share := view.CPUUse{User: left.User / n, System: left.System / n}
		left.User -= share.User
		left.System -= share.System
		n--
		plus(&k.pending, share)
		k.settle(elapsed, false)
	}
	return true
}

// overflow moves what is pending above limit to the base, where it counts at
// once: all of it on a CPU that is not shown, which has no time to come.
func (c *Counters) overflow(k *cpuCounter, limit uint64) {
	pending := add(k.pending.User, k.pending.System)
	if pending <= limit {
		return
	}
	over := pending - limit
	user := min(scale(k.pending.User, over, pending), k.pending.User)
	system := min(over-user, k.pending.System)
	k.pending.User -= user
	k.pending.System -= system
	plus(&c.base, view.CPUUse{User: user, System: system})
}

func plus(to *view.CPUUse, d view.CPUUse) {
	to.User = add(to.User, d.User)
	to.System = add(to.System, d.System)
}

// ticks is a line of /proc/stat in its own unit.
type ticks struct{ user, system, idle uint64 }

// cpu returns the line of a CPU that is shown.
func (c *Counters) cpu(label int) ticks {
	k := &c.cpus[label]
	return ticks{k.user / tick, k.system / tick, k.idle / tick}
}

// total returns the line of all CPUs: the exact sum of the others and of what
// is not shown any more.
func (c *Counters) total() ticks {
	t := ticks{c.base.User / tick, c.base.System / tick, 0}
	for i := range c.cpus {
		k := c.cpu(i)
		t.user += k.user
		t.system += k.system
		t.idle += k.idle
	}
	return t
}
