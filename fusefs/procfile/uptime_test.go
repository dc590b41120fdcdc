// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package procfile

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestUptime(t *testing.T) {
	h, err := ParseUptime([]byte("12183.28 5005.95\n"))
	if err != nil {
		t.Fatal(err)
	}
	c := new(Counters)
	c.Advance(110*time.Second+70*time.Millisecond, 100*time.Second, limitedTo(2), used(4*time.Second, 2*time.Second))
	for _, tt := range []struct {
		name string
		c    *Counters
		want string
	}{
		{"container", c, "10.07 14.14"}, // 2 x 10.07 s - 6 s
		{"host", nil, "12183.28 5005.95"},
	} {
		got := string(Uptime(nil, h, tt.c))
		if strings.TrimRight(got, " \n") != tt.want || !strings.HasSuffix(got, " \n") || len(got) != 48 {
			t.Errorf("%s: got %q, want %q and blanks", tt.name, got, tt.want)
		}
	}
	if len(Uptime(nil, h, countersAt(512, 1<<54))) != 48 {
		t.Error("no room for a year on 512 CPUs")
	}
}

// The idle time is the one that stat shows, to the tick.
func TestUptimeAgreesWithStat(t *testing.T) {
	h := recordedHost(t, "x86-v2-docker")
	c := countersAt(3, 123_456_789_012)
	c.Advance(c.at+time.Hour, 0, limitedTo(2), used(time.Hour, time.Hour))
	_, idle, _ := strings.Cut(squeeze(Uptime(nil, h.Uptime, c)), " ")
	line, _, _ := strings.Cut(squeeze(Stat(nil, h.Stat, c, nil)), "\n")
	if got, want := strings.Replace(idle, ".", "", 1), strings.Fields(line)[4]; got != want {
		t.Errorf("uptime says %s ticks idle, stat %s", got, want)
	}
}

func TestParseUptimeRefuses(t *testing.T) {
	for _, text := range []string{"", "\n", "1.00\n", "1.00 2.00", "1.0 2.00\n", " 1.00 2.00\n", "1.00 2.00 3.00\n", "-1.00 2.00\n", "1.00 \n", "99999999999999999999.00 1.00\n"} {
		if h, err := ParseUptime([]byte(text)); err == nil {
			t.Errorf("%q is %+v", text, h)
		}
	}
}

func FuzzUptime(f *testing.F) {
	seed(f, "proc/uptime", 2, uint64(1e12))
	f.Fuzz(func(t *testing.T, text []byte, n int, ns uint64) {
		h, err := ParseUptime(text)
		if err != nil || n < 1 || n > 200 || ns > 1<<62/200 {
			return
		}
		if got := unchanged(t, text, func(dst []byte) []byte { return Uptime(dst, h, nil) }); squeeze(got) != squeeze(text) {
			t.Errorf("the host's %q became %q", text, got)
		}
		got := unchanged(t, text, func(dst []byte) []byte { return Uptime(dst, h, countersAt(n, ns)) })
		line := append(bytes.TrimRight(got, " \n"), '\n')
		if own, err := ParseUptime(line); err != nil || own.up != ns/tick || own.idle > uint64(n)*own.up+uint64(n) {
			t.Errorf("%q after %d ns on %d CPUs (%v)", got, ns, n, err)
		}
	})
}
