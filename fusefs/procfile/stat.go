// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package procfile

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/podproc/podproc/fusefs/view"
)

// HostStat is the host's /proc/stat, in pieces: the lines of the CPUs, the
// intr line, and the rest.
type HostStat struct {
	cpus   []byte // the lines that begin with "cpu"
	fields int    // numbers in the first of them
	intr   []byte // without its newline; empty where there is none
	// reserve is how much of the file each piece of intr may take with all
	// before it: piece i is "intr" or " " and a number.
	reserve []int32
	piece   []int32 // where piece i ends in intr
	rest    []byte  // all other lines
	room    int     // how much of the file rest may take
	spots   []statSpot
}

// statSpot is where a number that a container knows better stands in rest.
type statSpot struct {
	blocked  bool // procs_blocked, else procs_running
	from, to int
	value    uint64
}

// Digits that a number is given room for. The kernel counts single interrupts
// in 32 bits.
const (
	counterDigits   = 20
	interruptDigits = 10
)

// ParseStat parses the host's /proc/stat.
func ParseStat(text []byte) (*HostStat, error) {
	if !bytes.HasSuffix(text, []byte("\n")) {
		return nil, errors.New("text does not end in a newline")
	}
	h := new(HostStat)
	rest := text
	for bytes.HasPrefix(rest, []byte("cpu")) {
		_, rest = cutLine(rest)
	}
	h.cpus = text[:len(text)-len(rest)]
	first, _ := cutLine(h.cpus)
	h.fields = bytes.Count(bytes.TrimPrefix(bytes.TrimRight(first, " \n"), []byte("cpu  ")), []byte(" ")) + 1
	if !bytes.HasPrefix(first, []byte("cpu  ")) || h.fields < 4 {
		return nil, fmt.Errorf("%.100q is not the line of all CPUs", first)
	}
	if bytes.HasPrefix(rest, []byte("intr ")) {
		h.intr, rest = cutLine(rest)
		h.intr = h.intr[:len(h.intr)-1]
		h.parseIntr()
	}
	h.rest = rest
	h.parseRest()
	return h, nil
}

// parseIntr cuts the intr line into pieces. A number that is not 0 is given
// room for all it can become, 0 none: most interrupts never come.
func (h *HostStat) parseIntr() {
	reserve, start := 0, 0
	for start < len(h.intr) {
		end := start + 1
		if i := bytes.IndexByte(h.intr[end:], ' '); i >= 0 {
			end += i
		} else {
			end = len(h.intr)
		}
		room := end - start
		switch piece := h.intr[start:end]; {
		case len(h.piece) == 1: // all interrupts
			room = max(room, 1+counterDigits)
		case len(piece) == 2 && piece[1] == '0' || !isDigit(piece[len(piece)-1]):
		default:
			room = max(room, 1+interruptDigits)
		}
		reserve += room
		h.reserve = append(h.reserve, int32(reserve))
		h.piece = append(h.piece, int32(end))
		start = end
	}
}

func (h *HostStat) parseRest() {
	for rest := h.rest; len(rest) > 0; {
		offset := len(h.rest) - len(rest)
		var line []byte
		line, rest = cutLine(rest)
		h.room += len(line)
		for at := 0; at < len(line); {
			from, to := number(line[at:])
			if from < to {
				h.room += max(0, counterDigits-(to-from))
			}
			at += to
		}
		key, value, _ := bytes.Cut(line, []byte(" "))
		blocked := string(key) == "procs_blocked"
		if n, ok := parseUint(bytes.TrimSuffix(value, []byte("\n"))); ok && (blocked || string(key) == "procs_running") {
			from := offset + len(key) + 1
			h.spots = append(h.spots, statSpot{blocked, from, from + len(value) - 1, n})
		}
	}
}

// Stat appends /proc/stat of the container that c counts for to dst; the host's where
// c is nil.
//
//	line                 v1                   v2               formula
//	cpu, cpuN user       cpuacct.usage_all    user_usec        Counters
//	          system     cpuacct.usage_all    system_usec      Counters
//	          idle       -                    -                N x time since birth - used, see Counters
//	          others     -                    -                0
//	procs_running        -                    -                the container's if known; else the host's,
//	procs_blocked        -                    -                at most as many as it has tasks (pids.current)
//	intr, ctxt, btime,   -                    -                the host's (ps depends on btime)
//	processes, softirq
//
// A container whose CPUs are not limited is shown its use on the host's cpuN
// lines. procs_running is never 0: the reader itself runs, and vmstat takes
// itself off.
//
// # Room
//
// The lines of the CPUs are exactly the kernel's: people cut them at single
// blanks. The room that their numbers grow into, and that of all other lines,
// is blanks at the end of the intr line, of which parsers read the first
// number (or all, by fields); where there is no such line, of the last one.
// 64 bytes are reserved for a line of a CPU, 20 digits for other numbers, 10
// for those of the intr line that are not 0, and the sum is rounded up to 256:
// the size changes with the number of CPUs, and seldom when the host meets a
// new kind of interrupt.
//
// A file over one page must stay valid when its pages come from different
// snapshots: so no line and no number crosses the border of a page, and each
// page holds the same lines in all snapshots. The room of a page is at its
// end: blanks after the last of its lines of CPUs (only who sees 64 CPUs and
// more sees such), between two numbers of the intr line, or at the end of that.
// No line of a CPU gets longer than the kernel might make it, for libuv and
// others read into buffers of fixed size.
func Stat(dst []byte, h *HostStat, c *Counters, t *view.Tasks) []byte {
	start := len(dst)
	p := pages{text: dst, start: start}
	for width := 64; ; width *= 2 {
		p = pages{text: dst, start: start}
		if c == nil && p.hostCPUs(h, width) || c != nil && p.cpus(h, c, width) {
			break
		}
	}
	p.intr(h)
	return p.rest(h, t)
}

// of returns the number for a container with the tasks t; the host's where t
// is nil.
func (s *statSpot) of(t *view.Tasks) uint64 {
	n := s.value
	if t == nil || !t.Known {
		return n
	}
	switch {
	case t.Running > 0 && s.blocked:
		n = t.Blocked
	case t.Running > 0:
		n = t.Running
	}
	n = min(n, t.Total)
	if !s.blocked {
		n = max(n, 1)
	}
	return n
}
