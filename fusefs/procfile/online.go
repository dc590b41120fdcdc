// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package procfile

import (
	"bytes"
	"fmt"
	"strconv"
)

// maxCPUs is more than any kernel can be built for; a higher number is not a
// CPU's.
const maxCPUs = 1 << 16

// HostOnline is the host's /sys/devices/system/cpu/online.
type HostOnline struct {
	CPUs []int // the host's online CPUs, ascending; at least one
	text []byte
}

// ParseOnline parses a list of CPUs as the kernel writes it: "0-3,8".
func ParseOnline(text []byte) (*HostOnline, error) {
	list, ok := bytes.CutSuffix(text, []byte("\n"))
	h := &HostOnline{text: text}
	next := 0
	for part := range bytes.SplitSeq(list, []byte(",")) {
		a, b, ranged := bytes.Cut(part, []byte("-"))
		from, okFrom := parseUint(a)
		to, okTo := from, true
		if ranged {
			to, okTo = parseUint(b)
		}
		if !ok || !okFrom || !okTo || from < uint64(next) || to < from || to >= maxCPUs {
			return nil, fmt.Errorf("%.100q is not an ascending list of CPUs", text)
		}
		for c := from; c <= to; c++ {
			h.CPUs = append(h.CPUs, int(c))
		}
		next = int(to) + 1
	}
	return h, nil
}

// Online appends /sys/devices/system/cpu/online to dst.
//
//	limited      "0-(N-1)", or "0" for one CPU
//	not limited  the host's text
func Online(dst []byte, h *HostOnline, c CPUs) []byte {
	if !c.Limited {
		return append(dst, h.text...)
	}
	dst = append(dst, '0')
	if c.N > 1 {
		dst = append(dst, '-')
		dst = strconv.AppendInt(dst, int64(c.N-1), 10)
	}
	return append(dst, '\n')
}
