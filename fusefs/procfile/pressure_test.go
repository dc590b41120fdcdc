// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package procfile

import (
	"bytes"
	"strings"
	"testing"
)

const somePressure = "some avg10=44.48 avg60=40.44 avg300=27.36 total=8502946528\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"

func TestPressure(t *testing.T) {
	h, err := ParsePressure([]byte(somePressure))
	if err != nil {
		t.Fatal(err)
	}
	const own = "some avg10=1.50 avg60=0.00 avg300=0.00 total=15\n" // cpu before Linux 5.13 has no more
	for _, tt := range []struct {
		name string
		text []byte
		want string
	}{{"host", nil, somePressure}, {"container", []byte(own), own}, {"both lines", []byte(somePressure), somePressure}} {
		got := Pressure(nil, h, tt.text)
		if want := strings.Count(tt.want, "\n") * 80; squeeze(got) != squeeze([]byte(tt.want)) || len(got) != want {
			t.Errorf("%s: got %q, want %q in %d bytes", tt.name, got, tt.want, want)
		}
	}
	most := []byte("full avg10=100.00 avg60=100.00 avg300=100.00 total=18446744073709551615\n")
	if got := Pressure(nil, h, most); len(got) != 80 {
		t.Errorf("no room for %q", most)
	}
}

func TestParsePressureRefuses(t *testing.T) {
	for _, text := range []string{"", "\n", "full avg10=0.00 total=0\n", "some avg10=0.00", "some avg10=0.00 total\n", "some avg10=0.00\n\n", "some avg10=0.00  total=0\n", "some avg10=x\n", "some avg10=0.00\nfull\n"} {
		if _, err := ParsePressure([]byte(text)); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}

func FuzzPressure(f *testing.F) {
	for _, path := range []string{"proc/pressure/cpu", "proc/pressure/io"} {
		seed(f, path)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		h, err := ParsePressure(text)
		if err != nil {
			return
		}
		for _, own := range [][]byte{nil, text} {
			got := unchanged(t, text, func(dst []byte) []byte { return Pressure(dst, h, own) })
			if squeeze(got) != squeeze(text) || bytes.Count(got, []byte("\n")) != bytes.Count(text, []byte("\n")) {
				t.Errorf("%q became %q", text, got)
			}
		}
	})
}
