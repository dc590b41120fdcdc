// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package mounts

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// Info is one line of mountinfo, as far as it matters here.
type Info struct {
	// ID is the mount's number, Parent that of the mount it lies on. Numbers
	// are used again when a mount is gone.
	ID, Parent int
	// Dev is the superblock's device number, as in "0:49". While anything of
	// the superblock is mounted anywhere no other one has that number.
	Dev string
	// Root is the path within the file system that is seen at Point.
	// Deleted says that the name is gone there: usual for a bind mount of a
	// file whose name was looked up again.
	Root    string
	Deleted bool
	// Point is the mount point, as seen from the root of the process whose
	// mountinfo it is.
	Point        string
	Type, Source string
}

// Ours tells whether the mount is of a podproc file system, be it live or
// dead, of this node or of one that runs as a container on it: the whole of
// it or one file.
func (m Info) Ours() bool {
	return m.Type == "fuse."+subtype && strings.HasPrefix(m.Source, sourcePrefix)
}

// of tells whether the mount is of a file system that was mounted at the
// point that source belongs to.
func (m Info) of(source string) bool { return m.Ours() && m.Source == source }

// parse reads the text of mountinfo. Lines that it cannot read are an error:
// a mount missed would be a container never repaired.
func parse(text []byte) ([]Info, error) {
	var list []Info
	for line := range bytes.Lines(text) {
		m, err := parseLine(string(bytes.TrimSuffix(line, []byte("\n"))))
		if err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	return list, nil
}

// parseLine reads
//
//	36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
//
// where between the options and the hyphen are any number of fields.
func parseLine(line string) (Info, error) {
	left, right, ok := strings.Cut(line, " - ")
	l, r := strings.Split(left, " "), strings.Split(right, " ")
	if !ok || len(l) < 6 || len(r) < 2 {
		return Info{}, fmt.Errorf("parse mountinfo: %q", line)
	}
	id, err1 := strconv.Atoi(l[0])
	parent, err2 := strconv.Atoi(l[1])
	if err1 != nil || err2 != nil {
		return Info{}, fmt.Errorf("parse mountinfo: %q", line)
	}
	m := Info{
		ID: id, Parent: parent, Dev: l[2], Root: unescape(l[3]), Point: unescape(l[4]),
		Type: unescape(r[0]), Source: unescape(r[1]),
	}
	m.Root, m.Deleted = strings.CutSuffix(m.Root, "//deleted")
	return m, nil
}

// unescape undoes the kernel's \ooo for blanks, tabs, line ends, backslashes
// and number signs.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+4 <= len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// stack returns the mounts at point, the lowest first. Lines are in no
// order that says so: a mount may have been put beneath another one.
func stack(list []Info, point string) []Info {
	var at []Info
	upon := make(map[int]Info) // by the mount it lies on
	for _, m := range list {
		if m.Point == point {
			at = append(at, m)
			upon[m.Parent] = m
		}
	}
	var sorted []Info
	for _, m := range at {
		if hasID(at, m.Parent) {
			continue
		}
		for ok := true; ok && len(sorted) < len(at); m, ok = upon[m.ID] {
			sorted = append(sorted, m)
		}
	}
	return sorted
}

func hasID(list []Info, id int) bool {
	for _, m := range list {
		if m.ID == id {
			return true
		}
	}
	return false
}
