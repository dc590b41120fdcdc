// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"math"

	"github.com/podproc/podproc/fusefs/view"
)

// The parsers take the text of a whole file. They allocate nothing unless they
// fail, and accept only what the kernel writes: its text ends in a newline, so
// half a file is told from a whole one.

// parseUint reads decimal digits and nothing else.
func parseUint(b []byte) (uint64, bool) {
	if len(b) == 0 {
		return 0, false
	}
	var n uint64
	for _, c := range b {
		d := uint64(c - '0')
		if d > 9 || n > (math.MaxUint64-d)/10 {
			return 0, false
		}
		n = n*10 + d
	}
	return n, true
}

// line returns the only line of b without its newline.
func line(b []byte) ([]byte, bool) {
	if len(b) < 2 || bytes.IndexByte(b, '\n') != len(b)-1 {
		return nil, false
	}
	return b[:len(b)-1], true
}

// parseValue reads "123\n".
func parseValue(b []byte) (uint64, error) {
	if l, ok := line(b); ok {
		if n, ok := parseUint(l); ok {
			return n, nil
		}
	}
	return 0, fmt.Errorf("%.100q is not a number and a newline", b)
}

// noLimit is where v1's spelling of "no limit" begins: LONG_MAX rounded down
// to pages, whose size differs (9223372036854771712 with 4 KiB); more memory
// than this no machine has.
const noLimit = 1 << 62

// parseLimit reads a limit in bytes: "max\n" on v2, "-1\n" or a number too big
// to be one on v1.
func parseLimit(b []byte) (view.Limit, error) {
	l, ok := line(b)
	if !ok {
		return 0, fmt.Errorf("%.100q is not a limit and a newline", b)
	}
	if string(l) == "max" || string(l) == "-1" {
		return view.Unlimited, nil
	}
	n, ok := parseUint(l)
	if !ok {
		return 0, fmt.Errorf("%.100q is not a limit", l)
	}
	if n >= noLimit {
		return view.Unlimited, nil
	}
	return view.Limit(n), nil
}

// quota is a CPU limit: us of CPU time in each period of us.
type quota struct {
	us     view.Limit
	period uint64
}

// milli returns the quota in thousandths of a CPU, rounded up.
func (q quota) milli() view.Limit {
	if q.us == view.Unlimited {
		return view.Unlimited
	}
	return view.Limit((uint64(q.us)*1000 + q.period - 1) / q.period)
}

// check refuses what the kernel never lets in, so that milli can not overflow:
// periods are 1 ms to 1 s, quotas under 2^44 us.
func (q quota) check() error {
	if q.period == 0 {
		return errors.New("CPU period is 0")
	}
	if q.us != view.Unlimited && q.us > 1<<44 || q.period > 1<<44 {
		return fmt.Errorf("CPU quota of %d us in %d us is out of range", q.us, q.period)
	}
	return nil
}

// parseCPUMax reads v2's cpu.max: "QUOTA PERIOD\n" in us, where QUOTA may be "max".
func parseCPUMax(b []byte) (quota, error) {
	l, ok := line(b)
	us, period, ok2 := bytes.Cut(l, []byte(" "))
	if !ok || !ok2 {
		return quota{}, fmt.Errorf("%.100q is not QUOTA PERIOD and a newline", b)
	}
	q := quota{us: view.Unlimited}
	if string(us) != "max" {
		n, ok := parseUint(us)
		if !ok {
			return quota{}, fmt.Errorf("%.100q is not a quota", us)
		}
		q.us = view.Limit(n)
	}
	if q.period, ok = parseUint(period); !ok {
		return quota{}, fmt.Errorf("%.100q is not a period", period)
	}
	return q, q.check()
}

const maxCPUs = 1 << 16 // the kernel's own bound is 8192

// parseCPUList appends the CPUs of a list like "0-3,8\n" to dst. An empty list
// is "\n".
func parseCPUList(dst []int, b []byte) ([]int, error) {
	if len(b) == 0 || b[len(b)-1] != '\n' {
		return dst, fmt.Errorf("%.100q is not a CPU list and a newline", b)
	}
	next := uint64(0)
	for rest := b[:len(b)-1]; len(rest) > 0; {
		item, after, more := bytes.Cut(rest, []byte(","))
		from, to, isRange := bytes.Cut(item, []byte("-"))
		if !isRange {
			to = from
		}
		lo, ok1 := parseUint(from)
		hi, ok2 := parseUint(to)
		if !ok1 || !ok2 || lo < next || hi < lo || hi >= maxCPUs || more && len(after) == 0 {
			return dst, fmt.Errorf("%.100q is not an ascending CPU list", b)
		}
		for n := lo; n <= hi; n++ {
			dst = append(dst, int(n))
		}
		next = hi + 1
		rest = after
	}
	return dst, nil
}

// flat walks over the "KEY VALUE\n" lines of memory.stat and cpu.stat.
type flat struct{ rest []byte }

// next returns a line's key and value; ok is false at the end and at a line
// that is not whole.
func (f *flat) next() (key, value []byte, ok bool) {
	end := bytes.IndexByte(f.rest, '\n')
	space := bytes.IndexByte(f.rest[:max(end, 0)], ' ')
	if space <= 0 {
		return nil, nil, false
	}
	key, value = f.rest[:space], f.rest[space+1:end]
	f.rest = f.rest[end+1:]
	return key, value, true
}

// err tells whether the walk stopped before the end.
func (f *flat) err() error {
	if len(f.rest) > 0 {
		return fmt.Errorf("%.100q is not a line KEY VALUE", f.rest)
	}
	return nil
}

// parsePair reads the two values with these keys, which must be there, times
// unit.
func parsePair(b []byte, first, second string, unit uint64) (v, w uint64, err error) {
	f := flat{b}
	seen := 0
	for {
		key, value, ok := f.next()
		if !ok {
			break
		}
		var to *uint64
		switch string(key) {
		case first:
			to, seen = &v, seen|1
		case second:
			to, seen = &w, seen|2
		default:
			continue
		}
		n, ok := parseUint(value)
		if !ok || n > 1<<63/unit {
			return 0, 0, fmt.Errorf("%s is %.100q", key, value)
		}
		*to = n * unit
	}
	if err := f.err(); err != nil {
		return 0, 0, err
	}
	if seen != 3 {
		return 0, 0, fmt.Errorf("no %s and %s in %.100q", first, second, b)
	}
	return v, w, nil
}

// parseIDs reads up to limit numbers, one a line. 0 stands for a process that
// has no id in the reader's pid namespace, and is left out.
func parseIDs(b []byte, limit int) ([]int, error) {
	var ids []int
	for len(b) > 0 && len(ids) < limit {
		l, rest, ok := bytes.Cut(b, []byte("\n"))
		n, ok2 := parseUint(l)
		if !ok || !ok2 || n > math.MaxInt32 {
			return nil, fmt.Errorf("%.100q is not an id and a newline", b)
		}
		if n != 0 {
			ids = append(ids, int(n))
		}
		b = rest
	}
	return ids, nil
}

// statField returns field n, counted from 1 as in proc(5) and above 2, of the
// text of /proc/PID/stat, whose second may hold any character.
func statField(b []byte, n int) (uint64, error) {
	i := bytes.LastIndexByte(b, ')')
	at := 2
	for f := range bytes.FieldsSeq(b[i+1:]) {
		if at++; at == n {
			v, ok := parseUint(f)
			if !ok {
				return 0, fmt.Errorf("field %d is %.100q", n, f)
			}
			return v, nil
		}
	}
	return 0, fmt.Errorf("no field %d in %.200q", n, b)
}

// statState returns the state of a task, one letter, from the text of its stat.
func statState(b []byte) (byte, error) {
	i := bytes.LastIndexByte(b, ')')
	if i < 0 || len(b) < i+4 || b[i+1] != ' ' || b[i+3] != ' ' {
		return 0, fmt.Errorf("no state in %.200q", b)
	}
	return b[i+2], nil
}
