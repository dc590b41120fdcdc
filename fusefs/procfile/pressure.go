// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package procfile

import (
	"bytes"
	"fmt"
)

// HostPressure is one of the host's files in /proc/pressure.
type HostPressure struct{ text []byte }

// ParsePressure parses a file of /proc/pressure.
func ParsePressure(text []byte) (*HostPressure, error) {
	if err := checkPressure(text); err != nil {
		return nil, err
	}
	return &HostPressure{text}, nil
}

// checkPressure takes lines of a word and KEY=NUMBER, the first "some".
func checkPressure(text []byte) error {
	if !bytes.HasPrefix(text, []byte("some avg10=")) || !bytes.HasSuffix(text, []byte("\n")) {
		return fmt.Errorf("%.100q does not begin with \"some avg10=\" and end in a newline", text)
	}
	for rest := text; len(rest) > 0; {
		var line []byte
		line, rest = cutLine(rest)
		_, fields, ok := bytes.Cut(line[:len(line)-1], []byte(" "))
		for f := range bytes.SplitSeq(fields, []byte(" ")) {
			_, value, isPair := bytes.Cut(f, []byte("="))
			_, isAverage := parseHundredths(value)
			_, isTotal := parseUint(value)
			ok = ok && isPair && (isAverage || isTotal)
		}
		if !ok {
			return fmt.Errorf("%.100q is not a word and numbers by name", line)
		}
	}
	return nil
}

// Pressure appends a file of /proc/pressure of a container to dst, whose
// cgroup's own file says text; the host's where text is nil.
//
//	file     v1    v2
//	cpu      -     cpu.pressure
//	io       -     io.pressure
//	memory   -     memory.pressure
//
// The kernel gives both the same format, so nothing is changed but this: the
// room that numbers grow into is blanks at the end of each line, 80 bytes in
// all. On v1 the kernel counts no pressure for a cgroup, and there is nothing
// to show: not the host's.
func Pressure(dst []byte, h *HostPressure, text []byte) []byte {
	const size = 80
	if text == nil {
		text = h.text
	}
	for len(text) > 0 {
		var line []byte
		line, text = cutLine(text)
		start := len(dst)
		dst = append(dst, bytes.TrimSuffix(line, []byte("\n"))...)
		dst = endLine(dst, start, size)
	}
	return dst
}
