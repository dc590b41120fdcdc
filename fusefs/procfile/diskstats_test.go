// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package procfile

import (
	"bytes"
	"math"
	"strings"
	"testing"

	"github.com/podproc/podproc/fusefs/view"
)

const someDisks = "   7       0 loop0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n" +
	" 254       0 vda 2740800 105471 109803234 2303743 483924 495619 149568464 1332495 0 297716 3766720 541810 78 117388200 123556 14981 6924\n" +
	"   8       1 sda1 1 2 3 4 5 6 7 8 9 10 11\n" // as before Linux 4.18

func TestDiskstats(t *testing.T) {
	h, err := ParseDiskstats([]byte(someDisks))
	if err != nil {
		t.Fatal(err)
	}
	vda := view.Disk{Major: 254, Reads: 10, ReadBytes: 8192 + 511, Writes: 20, WriteBytes: 4096, Discards: 2, DiscardBytes: 1024}
	for _, tt := range []struct {
		name  string
		disks *view.Disks
		want  string
	}{
		{"host", nil, someDisks},
		{"none used", &view.Disks{}, ""},
		{"one used, others not", &view.Disks{Disks: []view.Disk{{Major: 7}, vda, {Major: 253, Reads: 1}}},
			" 254       0 vda 10 0 16 0 20 0 8 0 0 0 0 2 0 2 0 0 0\n"},
		{"as many fields as the kernel has, in its order", &view.Disks{Disks: []view.Disk{{Major: 8, Minor: 1, Writes: 1, Discards: 7}, vda}},
			" 254       0 vda 10 0 16 0 20 0 8 0 0 0 0 2 0 2 0 0 0\n   8       1 sda1 0 0 0 0 1 0 0 0 0 0 0\n"},
	} {
		got := Diskstats(nil, h, tt.disks)
		if trimLines(got) != tt.want || len(got) != strings.Count(tt.want, "\n")*diskStep {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
	all := &view.Disks{Disks: []view.Disk{use(254, 0, math.MaxUint64, math.MaxUint64)}}
	if got := Diskstats(nil, h, all); len(got) != diskStep {
		t.Errorf("no room for %q", got)
	}
	if h, err := ParseDiskstats(nil); err != nil || len(Diskstats(nil, h, all)) != 0 {
		t.Errorf("a machine without disks: %v", err)
	}
}

// use is a disk with n of each operation.
func use(major, minor, n, size uint64) view.Disk {
	return view.Disk{Major: major, Minor: minor, Reads: n, Writes: n, Discards: n, ReadBytes: size, WriteBytes: size, DiscardBytes: size}
}

// trimLines takes the room at the ends of lines away.
func trimLines(text []byte) string {
	var b strings.Builder
	for line := range strings.Lines(string(text)) {
		b.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
	return b.String()
}

func TestParseDiskstatsRefuses(t *testing.T) {
	for _, text := range []string{
		"\n", "   8       0 sda\n", "   8       0 sda 1 2 3 4 5 6 7 8 9 10\n", "   8       0 sda 1 2 3 4 5 6 7 8 9 10 11",
		"   8       0 sda 1 2 3 4 5 6 7 8 9 10 11 \n", "   8       0 sda 1 2 3 4 5 6 7 8 9 10 x\n", "   8       0  1 2 3 4 5 6 7 8 9 10 11\n", "   8       x sda 1 2 3 4 5 6 7 8 9 10 11\n",
	} {
		if _, err := ParseDiskstats([]byte(text)); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}

func FuzzDiskstats(f *testing.F) {
	seed(f, "proc/diskstats", uint64(8), uint64(0), uint64(100), uint64(1<<40))
	f.Fuzz(func(t *testing.T, text []byte, major, minor, n, size uint64) {
		h, err := ParseDiskstats(text)
		if err != nil || len(h.lines) == 0 {
			return
		}
		if got := unchanged(t, text, func(dst []byte) []byte { return Diskstats(dst, h, nil) }); trimLines(got) != string(text) {
			t.Errorf("the host's %q became %q", text, got)
		}
		v := &view.Disks{Disks: []view.Disk{use(major, minor, n, size)}}
		got := Diskstats(nil, h, v)
		for line := range bytes.Lines(got) {
			l, err := parseDiskLine(append(bytes.TrimRight(line, " \n"), '\n'))
			if err != nil || l.major != major || l.minor != minor || !bytes.Contains(text, l.text[:l.name]) || len(line)%diskStep != 0 {
				t.Errorf("%q (%v)", line, err)
			}
		}
	})
}
