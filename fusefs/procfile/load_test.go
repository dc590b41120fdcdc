// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package procfile

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/podproc/podproc/fusefs/view"
)

// averages is what is shown of l.
func averages(l *Load) string {
	text := Loadavg(nil, &HostLoadavg{}, l, nil)
	return strings.Join(strings.Fields(string(text))[:3], " ")
}

// sampled has samples 1 to n after the container's birth at 0.
func sampled(n int, tasks view.Load) *Load {
	l := new(Load)
	for i := 1; i <= n; i++ {
		l.Sample(time.Duration(i)*LoadEvery, 0, &tasks)
	}
	return l
}

// The kernel's numbers: one task from an idle start, as a machine that has
// just booted shows them.
func TestLoadIsTheKernels(t *testing.T) {
	for _, tt := range []struct {
		samples int
		tasks   view.Load
		want    string
	}{
		{1, view.Load{Running: 1}, "0.08 0.02 0.01"},
		{2, view.Load{Running: 1}, "0.15 0.03 0.01"},
		{12, view.Load{Running: 1}, "0.63 0.18 0.06"}, // 1 - 1/e after a minute
		{12, view.Load{Blocked: 1}, "0.63 0.18 0.06"}, // uninterruptible ones are load, too
		{12, view.Load{Running: 1, Blocked: 1}, "1.27 0.37 0.13"},
		{1000, view.Load{Running: 2}, "2.00 2.00 2.00"},
		{1000, view.Load{}, "0.00 0.00 0.00"},
	} {
		if got := averages(sampled(tt.samples, tt.tasks)); got != tt.want {
			t.Errorf("%d samples of %+v: %s, want %s", tt.samples, tt.tasks, got, tt.want)
		}
	}
	l := sampled(1000, view.Load{Running: 2})
	for i := 1001; i <= 1012; i++ {
		l.Sample(time.Duration(i)*LoadEvery, 0, &view.Load{})
	}
	if got, want := averages(l), "0.73 1.63 1.87"; got != want {
		t.Errorf("a minute after two loops have ended: %s, want %s", got, want)
	}
}

// Samples that were missed count as the next one, by one step of the formula
// for all of them, which agrees with that many steps but for rounding.
func TestLoadMissed(t *testing.T) {
	for _, missed := range []int{1, 2, 11, 100, 10_000} {
		for _, tasks := range []view.Load{{}, {Running: 1}, {Running: 3, Blocked: 4}} {
			each, once := sampled(12, view.Load{Running: 2}), sampled(12, view.Load{Running: 2})
			for i := 13; i <= 12+missed; i++ {
				each.Sample(time.Duration(i)*LoadEvery, 0, &tasks)
			}
			once.Sample(time.Duration(12+missed)*LoadEvery, 0, &tasks)
			for i := range each.average {
				if d := int64(each.average[i]) - int64(once.average[i]); d > loadOne/16 || d < -loadOne/16 {
					t.Errorf("%d missed, %+v: average %d is %d, sample by sample %d", missed, tasks, i, once.average[i], each.average[i])
				}
			}
		}
	}
}

func TestLoadRounds(t *testing.T) {
	busy := view.Load{Running: 1, Total: 1}
	l := new(Load)
	if !l.Missed(0) {
		t.Error("the first look has a sample already")
	}
	// The first look, at a container that has run for 100 intervals.
	l.Sample(1000*LoadEvery, 900*LoadEvery, &busy)
	first := averages(l)
	if want := "1.00 0.81 0.42"; first != want {
		t.Errorf("the first look shows %s, want %s", first, want)
	}
	for _, at := range []time.Duration{1000 * LoadEvery, 1001*LoadEvery - 1, 999 * LoadEvery} {
		l.Sample(at, 0, &view.Load{Total: 7})
		if averages(l) != first || l.tasks.Total != 7 || l.Missed(at) {
			t.Errorf("a second sample at %s: %s, %+v", at, averages(l), l.tasks)
		}
	}
	if l.Missed(1002*LoadEvery - 1) {
		t.Error("the sample after 1001 intervals is missed before the next one is due")
	}
	if !l.Missed(1002 * LoadEvery) {
		t.Error("no sample is missed after 1002 intervals")
	}
	// A container younger than an interval.
	young := new(Load)
	young.Sample(1000*LoadEvery+time.Second, 1000*LoadEvery, &busy)
	if got := averages(young); got != "0.00 0.00 0.00" || !young.Started() {
		t.Errorf("a container of a second shows %s", got)
	}
}

func TestLoadBinary(t *testing.T) {
	for _, l := range []*Load{{}, sampled(12, view.Load{Running: 3, Blocked: 1, Total: 17, LastPID: 99})} {
		b, err := l.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		got := new(Load)
		if err := got.UnmarshalBinary(b); err != nil || *got != *l {
			t.Errorf("%+v came back as %+v (%v)", l, got, err)
		}
		for n := range b {
			if n == 1 {
				continue // one never sampled
			}
			if err := new(Load).UnmarshalBinary(b[:n]); err == nil {
				t.Errorf("%d bytes of %d are taken for a whole record", n, len(b))
			}
		}
	}
}

func FuzzLoadBinary(f *testing.F) {
	b, _ := sampled(12, view.Load{Running: 3, Total: 5}).MarshalBinary()
	f.Add(b, uint64(1), uint64(2))
	f.Fuzz(func(t *testing.T, b []byte, running, blocked uint64) {
		l := new(Load)
		if l.UnmarshalBinary(b) != nil {
			if *l != (Load{}) {
				t.Fatalf("%+v after an error", l)
			}
			return
		}
		before := *l
		l.Sample(time.Duration(min(l.number, 1<<30)+2)*LoadEvery, 0, &view.Load{Running: running, Blocked: blocked})
		for i, a := range l.average {
			if most := max(before.average[i], min(add(running, blocked), maxLoad)<<loadShift) + 1; a > most {
				t.Errorf("average %d is %d, above all that it is of: %d", i, a, most)
			}
		}
	})
}

func TestLoadavg(t *testing.T) {
	h, err := ParseLoadavg([]byte("3.31 2.47 5.17 3/312 20569\n"))
	if err != nil {
		t.Fatal(err)
	}
	l := sampled(12, view.Load{Running: 2, Blocked: 1, Total: 9, LastPID: 42})
	idle := sampled(12, view.Load{Total: 9, LastPID: 42})
	for _, tt := range []struct {
		name  string
		load  *Load
		tasks *view.Tasks
		want  string
	}{
		{"busy", l, &view.Tasks{Known: true, Total: 11}, "1.90 0.55 0.19 2/11 42"},
		{"the reader runs", idle, &view.Tasks{Known: true, Total: 11}, "0.00 0.00 0.00 1/11 42"},
		{"tasks have ended since", idle, &view.Tasks{Known: true, Total: 1}, "0.00 0.00 0.00 1/9 42"},
		{"what it sees is not known", idle, &view.Tasks{}, "0.00 0.00 0.00 1/312 42"},
		{"host", nil, nil, "3.31 2.47 5.17 3/312 20569"},
	} {
		got := string(Loadavg(nil, h, tt.load, tt.tasks))
		if strings.TrimRight(got, " \n") != tt.want || !strings.HasSuffix(got, " \n") || len(got) != 64 {
			t.Errorf("%s: got %q, want %q and blanks", tt.name, got, tt.want)
		}
	}
	most := sampled(1000, view.Load{Running: 4 << 20, Total: 4 << 20, LastPID: 4 << 20})
	if text := Loadavg(nil, h, most, &view.Tasks{Known: true, Total: 4 << 20}); len(text) != 64 {
		t.Errorf("no room for four million tasks: %q", text)
	}
}

func TestParseLoadavgRefuses(t *testing.T) {
	for _, text := range []string{"", "\n", "1.00 2.00 3.00 1/2 3", "1.00 2.00 3.00 1/2\n", "1.00 2.00 3.00 12 3\n", "1.00 2.00 3.00 1/2 3 4\n", "1 2 3 1/2 3\n", "1.00  2.00 3.00 1/2 3\n", "1.00 2.00 3.00 /2 3\n"} {
		if h, err := ParseLoadavg([]byte(text)); err == nil {
			t.Errorf("%q is %+v", text, h)
		}
	}
}

func FuzzLoadavg(f *testing.F) {
	seed(f, "proc/loadavg", uint64(1), uint64(2), uint64(3), uint64(4))
	f.Fuzz(func(t *testing.T, text []byte, running, blocked, total, pid uint64) {
		h, err := ParseLoadavg(text)
		if err != nil {
			return
		}
		if got := unchanged(t, text, func(dst []byte) []byte { return Loadavg(dst, h, nil, nil) }); squeeze(got) != squeeze(text) {
			t.Errorf("the host's %q became %q", text, got)
		}
		l := sampled(3, view.Load{Running: running, Blocked: blocked, Total: total, LastPID: pid})
		got := unchanged(t, text, func(dst []byte) []byte { return Loadavg(dst, h, l, &view.Tasks{}) })
		own, err := ParseLoadavg(append(bytes.TrimRight(got, " \n"), '\n'))
		if err != nil || own.total < max(1, running, total, h.total) {
			t.Errorf("%q (%v)", got, err)
		}
	})
}
