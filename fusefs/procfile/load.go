// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package procfile

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/podproc/podproc/fusefs/view"
)

// LoadEvery is the time between two samples of a load average. Samples are
// numbered by it from the host's boot on, and sample n is due at n*LoadEvery.
const LoadEvery = 5 * time.Second

// The kernel's own fixed-point numbers (include/linux/sched/loadavg.h).
const (
	loadShift = 11
	loadOne   = 1 << loadShift
)

// loadExp is 1/exp(5 s/1 min) and so on.
var loadExp = [3]uint64{1884, 2014, 2037}

// Load is the load average of one container: the kernel's own formula over
// its runnable and uninterruptible tasks, one sample every LoadEvery.
//
// Samples that were missed, because nobody has read the file or nobody has
// served it, count as if the container had been as busy as the next sample
// finds it: calc_load_n, as the kernel does it for samples missed in idle. So
// does the time from the container's birth to its first sample. There the
// averages are 0, as the kernel's are at its boot.
//
// The zero value is a container never sampled. It is not safe for concurrent
// use. It crosses from process to process by AppendBinary and UnmarshalBinary.
type Load struct {
	started bool
	number  uint64    // of the last sample
	average [3]uint64 // over 1, 5 and 15 minutes
	tasks   view.Load // of the last sample
}

// Started tells whether there was a sample. Until then Sample wants to know
// the container's birth.
func (l *Load) Started() bool { return l.started }

// Missed tells whether at the time now a sample has been missed.
func (l *Load) Missed(now time.Duration) bool {
	return !l.started || uint64(now/LoadEvery) > l.number+1
}

// Sample adds a sample: the tasks v at the time now. Both times are since the
// host's boot. The sample of an interval that has one is only the newest count
// of tasks.
func (l *Load) Sample(now, birth time.Duration, v *view.Load) {
	number := uint64(max(0, now) / LoadEvery)
	if !l.started {
		l.started = true
		l.number = uint64(max(0, min(birth, now)) / LoadEvery)
	}
	l.tasks = *v
	if number <= l.number {
		return
	}
	active := min(add(v.Running, v.Blocked), maxLoad) << loadShift
	for i := range l.average {
		l.average[i] = calcLoad(l.average[i], power(loadExp[i], number-l.number), active)
	}
	l.number = number
}

// maxLoad is more than there can be tasks; what is below it does not overflow.
const maxLoad = 1 << 30

// calcLoad is the kernel's calc_load: load decays towards active.
func calcLoad(load, exp, active uint64) uint64 {
	n := load*exp + active*(loadOne-exp)
	if active >= load {
		n += loadOne - 1
	}
	return n / loadOne
}

// power is the kernel's fixed_power_int: x to the power of n.
func power(x, n uint64) uint64 {
	result := uint64(loadOne)
	for ; n > 0; n >>= 1 {
		if n&1 != 0 {
			result = (result*x + loadOne/2) >> loadShift
		}
		x = (x*x + loadOne/2) >> loadShift
	}
	return result
}

// loadFormat is the first byte of the binary form. What follows it are
// uvarints: number, the averages, then running, blocked, total and last pid.
const loadFormat = 1

// AppendBinary appends l for a successor process. It never fails.
func (l *Load) AppendBinary(b []byte) ([]byte, error) {
	b = append(b, loadFormat)
	if !l.started {
		return b, nil
	}
	for _, n := range [...]uint64{l.number, l.average[0], l.average[1], l.average[2],
		l.tasks.Running, l.tasks.Blocked, l.tasks.Total, l.tasks.LastPID} {
		b = binary.AppendUvarint(b, n)
	}
	return b, nil
}

// MarshalBinary returns what AppendBinary appends.
func (l *Load) MarshalBinary() ([]byte, error) { return l.AppendBinary(nil) }

var errLoad = errors.New("load average is cut short, damaged or of another form")

// UnmarshalBinary sets l to what AppendBinary wrote. A form that it does not
// know is an error, and l is as if never sampled.
func (l *Load) UnmarshalBinary(b []byte) error {
	*l = Load{}
	if len(b) == 0 || b[0] != loadFormat {
		return errLoad
	}
	if len(b) == 1 {
		return nil
	}
	r := &uvarints{b: b[1:]}
	n := Load{started: true, number: r.next(), average: [3]uint64{r.next(), r.next(), r.next()},
		tasks: view.Load{Running: r.next(), Blocked: r.next(), Total: r.next(), LastPID: r.next()}}
	for _, a := range n.average {
		if a > maxLoad<<loadShift {
			return errLoad
		}
	}
	if r.err != nil || len(r.b) > 0 {
		return errLoad
	}
	*l = n
	return nil
}
