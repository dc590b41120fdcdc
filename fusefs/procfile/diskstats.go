// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package procfile

import (
	"bytes"
	"fmt"
	"strconv"

	"github.com/podproc/podproc/fusefs/view"
)

// HostDiskstats is the host's /proc/diskstats.
type HostDiskstats struct {
	lines []diskLine
}

type diskLine struct {
	text         []byte // without its newline
	name         int    // where the device's name ends in it
	fields       int    // numbers after that
	major, minor uint64
}

// ParseDiskstats parses the host's /proc/diskstats. A machine without disks has
// no line.
func ParseDiskstats(text []byte) (*HostDiskstats, error) {
	h := new(HostDiskstats)
	for rest := text; len(rest) > 0; {
		var line []byte
		line, rest = cutLine(rest)
		l, err := parseDiskLine(line)
		if err != nil {
			return nil, err
		}
		h.lines = append(h.lines, l)
	}
	return h, nil
}

// parseDiskLine parses "   8       0 sda 1 2 3 ..." with at least the 11
// numbers of Linux 2.6.
func parseDiskLine(line []byte) (l diskLine, err error) {
	bad := fmt.Errorf("%.200q is not two numbers, a device and 11 numbers or more", line)
	text, ok := bytes.CutSuffix(line, []byte("\n"))
	l.text = text
	major, rest, ok1 := bytes.Cut(bytes.TrimLeft(text, " "), []byte(" "))
	minor, rest, ok2 := bytes.Cut(bytes.TrimLeft(rest, " "), []byte(" "))
	name, numbers, ok3 := bytes.Cut(rest, []byte(" "))
	var ok4, ok5 bool
	l.major, ok4 = parseUint(major)
	l.minor, ok5 = parseUint(minor)
	l.name = len(text) - len(numbers) - 1
	if !ok || !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || len(name) == 0 {
		return l, bad
	}
	for f := range bytes.SplitSeq(numbers, []byte(" ")) {
		if _, ok := parseUint(f); !ok {
			return l, bad
		}
		l.fields++
	}
	if l.fields < 11 {
		return l, bad
	}
	return l, nil
}

// diskStep is what the length of a line is rounded up to. It divides a page.
const diskStep = 256

// Diskstats appends /proc/diskstats of a container that has used the disks v
// to dst; the host's where v is nil. It is empty for one that has used none.
//
//	field after the name        v1 blkio.throttle.*_recursive      v2 io.stat
//	1  reads completed          io_serviced Read                   rios
//	3  sectors read             io_service_bytes Read / 512        rbytes / 512
//	5  writes completed         io_serviced Write                  wios
//	7  sectors written          io_service_bytes Write / 512       wbytes / 512
//	12 discards completed       io_serviced Discard                dios
//	14 sectors discarded        io_service_bytes Discard / 512     dbytes / 512
//	others                      0                                  0
//
// A device's name, its place and the number of fields are those of the host's
// line. Cgroups count whole disks: partitions are not shown.
//
// A line is 256 bytes, the room at its end, so that none crosses the border of
// a page; the size changes when the container uses another disk.
func Diskstats(dst []byte, h *HostDiskstats, v *view.Disks) []byte {
	for i := range h.lines {
		l := &h.lines[i]
		start := len(dst)
		if v == nil {
			dst = append(dst, l.text...)
		} else if d := v.Find(l.major, l.minor); d != nil {
			dst = l.append(dst, d)
		} else {
			continue
		}
		dst = endLine(dst, start, roundUp(len(dst)+1-start, diskStep))
	}
	return dst
}

// append appends the line for a container's use of the disk.
func (l *diskLine) append(dst []byte, d *view.Disk) []byte {
	const sector = 512
	dst = append(dst, l.text[:l.name]...)
	for i := range l.fields {
		n := uint64(0)
		switch i + 1 {
		case 1:
			n = d.Reads
		case 3:
			n = d.ReadBytes / sector
		case 5:
			n = d.Writes
		case 7:
			n = d.WriteBytes / sector
		case 12:
			n = d.Discards
		case 14:
			n = d.DiscardBytes / sector
		}
		dst = append(dst, ' ')
		dst = strconv.AppendUint(dst, n, 10)
	}
	return dst
}
