// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package procfile

import (
	"bytes"
	"fmt"
	"strconv"
)

// HostUptime is the host's /proc/uptime.
type HostUptime struct {
	line     []byte // without its newline
	up, idle uint64 // ticks
}

// ParseUptime parses the host's /proc/uptime.
func ParseUptime(text []byte) (*HostUptime, error) {
	line, ok := bytes.CutSuffix(text, []byte("\n"))
	up, idle, ok2 := bytes.Cut(line, []byte(" "))
	h := &HostUptime{line: line}
	var ok3, ok4 bool
	h.up, ok3 = parseHundredths(up)
	h.idle, ok4 = parseHundredths(idle)
	if !ok || !ok2 || !ok3 || !ok4 {
		return nil, fmt.Errorf("%.100q is not two times in seconds and a newline", text)
	}
	return h, nil
}

// parseHundredths parses a number with two decimals, in hundredths.
func parseHundredths(b []byte) (uint64, bool) {
	whole, frac, ok := bytes.Cut(b, []byte("."))
	n, ok2 := parseUint(whole)
	f, ok3 := parseUint(frac)
	if !ok || !ok2 || !ok3 || len(frac) != 2 || n > 1<<56 {
		return 0, false
	}
	return n*100 + f, true
}

// appendHundredths is the opposite of parseHundredths.
func appendHundredths(dst []byte, n uint64) []byte {
	dst = strconv.AppendUint(dst, n/100, 10)
	return append(dst, '.', byte('0'+n/10%10), byte('0'+n%10))
}

// Uptime appends /proc/uptime of the container that c counts for to dst; the
// host's where c is nil.
//
//	number   formula
//	first    time since the container's birth, as /proc/stat counts from
//	second   idle time of its CPUs, the same as the line "cpu" of /proc/stat has
//
// A virtual uptime makes ps show wrong start and elapsed times, which it
// reckons from the host's boot: nobody gets it who has not asked for it.
//
// The numbers are as the kernel writes them (btop refuses leading blanks). The
// room that they grow into is blanks at the end of the line, 48 bytes in all.
func Uptime(dst []byte, h *HostUptime, c *Counters) []byte {
	const size = 48
	start := len(dst)
	if c == nil {
		return endLine(append(dst, h.line...), start, size)
	}
	dst = appendHundredths(dst, uint64(c.Age())/tick)
	dst = append(dst, ' ')
	dst = appendHundredths(dst, c.total().idle)
	return endLine(dst, start, size)
}
