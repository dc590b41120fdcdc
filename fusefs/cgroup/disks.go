// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/podproc/podproc/fusefs/view"
)

// Disks reads what the container has read from and written to each disk. On v1
// that is what passed blk-throttle, which newer kernels count only where a disk
// has a limit there. ErrNotCounted where the container is in no cgroup that
// counts it, and on v1 where the kernel does not count with what is below the
// cgroup.
func (c *Container) Disks(v *view.Disks) error {
	v.Disks = v.Disks[:0]
	ch := c.by[blkio]
	if ch == nil || !ch.inside {
		return fmt.Errorf("disks of %s: %w", c.b, ErrNotCounted)
	}
	buf := c.fs.scratch.get()
	defer c.fs.scratch.put(buf)
	d := ch.dirs[0]
	var err error
	if d.h.v2 {
		err = d.disks(v, v2IOStat, parseIOStat, buf)
	} else {
		err = errors.Join(d.disks(v, v1ServiceBytes, parseServiceBytes, buf), d.disks(v, v1Serviced, parseServiced, buf))
	}
	return err
}

func (d *dir) disks(v *view.Disks, id fileID, parse func(*view.Disks, []byte) error, buf *buffer) error {
	b, err := d.text(id, buf)
	if errors.Is(err, errAbsent) {
		return fmt.Errorf("read %s: %w", &d.files[id], ErrNotCounted)
	}
	if err != nil {
		return err
	}
	return d.parsed(id, parse(v, b))
}

// parseDevice reads "8:16".
func parseDevice(b []byte) (major, minor uint64, ok bool) {
	x, y, ok := bytes.Cut(b, []byte(":"))
	major, ok1 := parseUint(x)
	minor, ok2 := parseUint(y)
	return major, minor, ok && ok1 && ok2
}

// parseIOStat reads "8:16 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6" and
// so on, a line for each disk. Other keys come and go. Some kernels (5.x) leave
// out the newline after a disk of which they have nothing to say: the next one
// follows in the same line.
func parseIOStat(v *view.Disks, b []byte) error {
	for len(b) > 0 {
		l, rest, ok := bytes.Cut(b, []byte("\n"))
		var disk *view.Disk
		for f := range bytes.FieldsSeq(l) {
			key, value, pair := bytes.Cut(f, []byte("="))
			if !pair {
				major, minor, isDevice := parseDevice(f)
				if isDevice {
					disk = v.At(major, minor)
				}
				ok = ok && isDevice
				continue
			}
			if ok = ok && disk != nil; !ok {
				break
			}
			if to := ioStat(disk, key); to != nil {
				*to, ok = parseUint(value)
			}
		}
		if !ok {
			return fmt.Errorf("%.200q is not a device and KEY=NUMBER", l)
		}
		b = rest
	}
	return nil
}

func ioStat(d *view.Disk, key []byte) *uint64 {
	switch string(key) {
	case "rbytes":
		return &d.ReadBytes
	case "wbytes":
		return &d.WriteBytes
	case "rios":
		return &d.Reads
	case "wios":
		return &d.Writes
	case "dbytes": // Linux 4.19
		return &d.DiscardBytes
	case "dios": // 4.19
		return &d.Discards
	}
	return nil
}

func parseServiceBytes(v *view.Disks, b []byte) error {
	return parseBlkio(v, b, func(d *view.Disk) (read, write, discard *uint64) {
		return &d.ReadBytes, &d.WriteBytes, &d.DiscardBytes
	})
}

func parseServiced(v *view.Disks, b []byte) error {
	return parseBlkio(v, b, func(d *view.Disk) (read, write, discard *uint64) {
		return &d.Reads, &d.Writes, &d.Discards
	})
}

// parseBlkio reads "8:0 Read 1", "8:0 Write 2" and so on, and a last line
// "Total 3".
func parseBlkio(v *view.Disks, b []byte, to func(*view.Disk) (read, write, discard *uint64)) error {
	total := false
	for len(b) > 0 {
		l, rest, ok := bytes.Cut(b, []byte("\n"))
		device, op, _ := bytes.Cut(l, []byte(" "))
		if string(device) == "Total" {
			_, isNumber := parseUint(op)
			if total = ok && isNumber && len(rest) == 0; !total {
				return fmt.Errorf("%.100q is not the last line", b)
			}
			break
		}
		op, value, ok1 := bytes.Cut(op, []byte(" "))
		major, minor, ok2 := parseDevice(device)
		n, ok3 := parseUint(value)
		if !ok || !ok1 || !ok2 || !ok3 {
			return fmt.Errorf("%.100q is not DEVICE OPERATION NUMBER", l)
		}
		read, write, discard := to(v.At(major, minor))
		switch string(op) {
		case "Read":
			*read = n
		case "Write":
			*write = n
		case "Discard": // Linux 4.19
			*discard = n
		}
		b = rest
	}
	if !total {
		return errors.New("the last line is not \"Total\"")
	}
	return nil
}
