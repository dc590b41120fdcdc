// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package procfile

import (
	"bytes"
	"fmt"
	"strconv"

	"github.com/podproc/podproc/fusefs/view"
)

// HostLoadavg is the host's /proc/loadavg.
type HostLoadavg struct {
	line  []byte // without its newline
	total uint64 // tasks of the host
}

// ParseLoadavg parses the host's /proc/loadavg.
func ParseLoadavg(text []byte) (*HostLoadavg, error) {
	line, ok := bytes.CutSuffix(text, []byte("\n"))
	h := &HostLoadavg{line: line}
	field := 0
	for f := range bytes.SplitSeq(line, []byte(" ")) {
		fits := false
		switch field {
		case 0, 1, 2:
			_, fits = parseHundredths(f)
		case 3:
			running, total, slash := bytes.Cut(f, []byte("/"))
			_, isRunning := parseUint(running)
			h.total, fits = parseUint(total)
			fits = fits && slash && isRunning
		case 4:
			_, fits = parseUint(f)
		}
		ok = ok && fits
		field++
	}
	if !ok || field != 5 {
		return nil, fmt.Errorf("%.100q is not three averages, running/total, the last pid and a newline", text)
	}
	return h, nil
}

// Loadavg appends /proc/loadavg of the container with the load l to dst, whose
// reader sees the tasks t; the host's where l is nil.
//
//	field          v1                 v2                 formula
//	1 to 3         states of tasks    states of tasks    see Load; over 1, 5 and 15 minutes
//	running        states of tasks    states of tasks    of the last sample, at least 1: the reader
//	total          pids.current       pids.current       at least as many as the reader sees in /proc
//	last pid       NSpid              NSpid              of the newest task at the last sample: the kernel
//	                                                     does not tell what a pid namespace gave out last
//
// atop hangs where total is less than it finds: so total is the host's where it
// is not known how many tasks the reader sees (t).
//
// The room that the numbers grow into is blanks at the end of the line, 64
// bytes in all: glibc's getloadavg reads no more.
func Loadavg(dst []byte, h *HostLoadavg, l *Load, t *view.Tasks) []byte {
	const size = 64
	start := len(dst)
	if l == nil {
		return endLine(append(dst, h.line...), start, size)
	}
	for _, a := range l.average {
		dst = appendHundredths(dst, (a+loadOne/200)*100>>loadShift)
		dst = append(dst, ' ')
	}
	running := max(1, l.tasks.Running)
	total := max(running, l.tasks.Total, h.total)
	if t != nil && t.Known {
		total = max(running, l.tasks.Total, t.Total)
	}
	dst = strconv.AppendUint(dst, running, 10)
	dst = append(dst, '/')
	dst = strconv.AppendUint(dst, total, 10)
	dst = append(dst, ' ')
	dst = strconv.AppendUint(dst, l.tasks.LastPID, 10)
	return endLine(dst, start, size)
}
