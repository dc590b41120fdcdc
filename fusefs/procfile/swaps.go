// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package procfile

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/podproc/podproc/fusefs/view"
)

// space is the swap space of a container in kB.
type space struct {
	total, free uint64
	limited     bool // by the container's own levels or its pod's
	own         bool // not simply the host's
}

// swapSpace applies the rule of MemTotal and MemFree to swap: total is the
// smallest limit over all levels and the host, free what is left up to the
// level that sets it. A level's limit counts swap alone; on v1 it is
// memsw.limit - limit, what the container may swap out with its memory full.
//
// Without swap accounting, and in a container with no limit at all, it is
// the host's.
func swapSpace(h *HostMeminfo, v *view.Memory) space {
	host := space{total: h.value[memSwapTotal], free: h.value[memSwapFree]}
	if !v.SwapAccounted || len(v.Levels) == 0 {
		return host
	}
	total, setter, limited := host.total<<10, len(v.Levels), false
	for i := range v.Levels {
		l := &v.Levels[i]
		if l.SwapLimit == view.Unlimited {
			continue
		}
		limited = limited || !l.NodeWide
		if uint64(l.SwapLimit) < total {
			total, setter = uint64(l.SwapLimit), i
		}
	}
	if !limited && !memoryLimited(v) {
		return host
	}
	free := sub(total, v.Levels[0].SwapUsage)
	if setter == len(v.Levels) {
		free = min(free, host.free<<10)
	}
	for i := range min(setter+1, len(v.Levels)) {
		if l := &v.Levels[i]; l.SwapLimit != view.Unlimited {
			free = min(free, uint64(sub(l.SwapLimit, view.Limit(l.SwapUsage))))
		}
	}
	return space{total: total >> 10, free: free >> 10, limited: limited, own: true}
}

// HostSwaps is the host's /proc/swaps.
type HostSwaps struct {
	text []byte // with room
	// What a container sees of the first device: its name and type as they
	// stand in the line, its priority with the newline.
	header, name, priority []byte
	width                  int
}

// swapWidth is the width of a number that the kernel's two tabs stand for.
const swapWidth = 8

// ParseSwaps parses the host's /proc/swaps and gives its numbers room: blanks
// after them, where the kernel has tabs, up to the width of the largest size,
// so that the size of the file does not change with what is used.
func ParseSwaps(text []byte) (*HostSwaps, error) {
	if !bytes.HasSuffix(text, []byte("\n")) {
		return nil, errors.New("text does not end in a newline")
	}
	header, rest := cutLine(text)
	if !bytes.HasPrefix(header, []byte("Filename")) {
		return nil, fmt.Errorf("%.100q is not the header", header)
	}
	h := &HostSwaps{header: header}
	var total uint64 // a container sees all devices as one
	for lines := rest; len(lines) > 0; {
		var line []byte
		line, lines = cutLine(lines)
		s, err := parseSwapLine(line)
		if err != nil {
			return nil, err
		}
		total = add(total, s.size)
	}
	h.width = max(swapWidth, digits(total))
	h.text = append(make([]byte, 0, len(text)+64), header...)
	for lines := rest; len(lines) > 0; {
		var line []byte
		line, lines = cutLine(lines)
		s, _ := parseSwapLine(line)
		if h.name == nil {
			h.name, h.priority = s.name, s.priority
		}
		h.text = h.appendLine(h.text, s.name, s.size, s.used, s.priority)
	}
	return h, nil
}

// swapLine is a device: name and type as one, with the blanks after them.
type swapLine struct {
	name, priority []byte
	size, used     uint64 // kB
}

// parseSwapLine takes a line apart from its end: a name may hold anything but
// blanks, which the kernel writes as \040.
func parseSwapLine(line []byte) (swapLine, error) {
	bad := fmt.Errorf("%.200q is not name, type, size, used and priority", line)
	fields := bytes.Fields(line)
	if len(fields) != 5 && len(fields) != 6 { // "(deleted)" after the name
		return swapLine{}, bad
	}
	last := fields[len(fields)-3:]
	size, okSize := parseUint(last[0])
	used, okUsed := parseUint(last[1])
	if !okSize || !okUsed {
		return swapLine{}, bad
	}
	priority := line[bytes.LastIndex(line, last[2]):]
	used0 := bytes.LastIndex(line[:len(line)-len(priority)], last[1])
	size0 := bytes.LastIndex(line[:used0], last[0])
	return swapLine{name: line[:size0], priority: priority, size: size, used: used}, nil
}

func (h *HostSwaps) appendLine(dst, name []byte, size, used uint64, priority []byte) []byte {
	dst = append(dst, name...)
	dst = appendLeft(dst, size, h.width)
	dst = append(dst, '\t')
	dst = appendLeft(dst, used, h.width)
	dst = append(dst, '\t')
	return append(dst, priority...)
}

// Swaps appends /proc/swaps of the container v to dst; the host's where v is nil.
// It agrees with SwapTotal and SwapFree of Meminfo.
//
//	container            text
//	swap is the host's   the host's
//	SwapTotal 0          the header
//	otherwise            one device, named as the host's first: Size = SwapTotal, Used = SwapTotal - SwapFree
func Swaps(dst []byte, h *HostSwaps, m *HostMeminfo, v *view.Memory) []byte {
	if v == nil {
		return append(dst, h.text...)
	}
	s := swapSpace(m, v)
	if !s.own {
		return append(dst, h.text...)
	}
	dst = append(dst, h.header...)
	if s.total == 0 || h.name == nil {
		return dst
	}
	return h.appendLine(dst, h.name, s.total, s.total-s.free, h.priority)
}
