// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package procfile

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/podproc/podproc/fusefs/view"
)

// statText makes a host's /proc/stat: so many interrupts (none: no intr line),
// every third of which ever comes, and all numbers as high as n.
func statText(cpus, interrupts int, n uint64) []byte {
	b := fmt.Appendf(nil, "cpu  %d 0 %d %d 0 0 0 0 0 0\n", n, n, n)
	for cpu := range cpus {
		b = fmt.Appendf(b, "cpu%d %d 0 %d %d 0 0 0 0 0 0\n", cpu, n/7, n/9, n)
	}
	if interrupts > 0 {
		b = fmt.Appendf(b, "intr %d", n*3)
		for i := range interrupts {
			b = fmt.Appendf(b, " %d", uint64(i%3%2)*(1+min(n, 1<<31)/uint64(i+1)))
		}
		b = append(b, '\n')
	}
	b = fmt.Appendf(b, "ctxt %d\nbtime 1795621761\nprocesses %d\nprocs_running 3\nprocs_blocked 1\n", n*2, n)
	return fmt.Appendf(b, "softirq %d 0 %d %d 12 %d 0 0 0 0 7\n", n, n, n, n/2)
}

func parseStat(t testing.TB, text []byte) *HostStat {
	t.Helper()
	h, err := ParseStat(text)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// countersAt is n CPUs after so many ns each, about a third of them used.
func countersAt(n int, ns uint64) *Counters {
	host := make([]int, n)
	for i := range host {
		host[i] = i
	}
	c := new(Counters)
	all := ns * uint64(n)
	c.Advance(time.Duration(ns), 0, CPUs{N: n, Limited: true, Host: host}, &view.CPUTime{User: all / 4, System: all / 12})
	return c
}

// TestStatSize holds that neither the size nor the layout of pages changes
// while numbers grow by five digits and more.
func TestStatSize(t *testing.T) {
	for _, n := range []int{1, 2, 62, 63, 64, 127, 200} {
		for _, interrupts := range []int{0, 1, 600, 1500, 4000} {
			var snapshots, hosts [][]byte
			for _, ns := range []uint64{1e10, 99e10, 1e12, 1e14, 1e15, 1e16, 1e17} {
				host := parseStat(t, statText(n, interrupts, ns/tick))
				snapshots = append(snapshots, Stat(nil, host, countersAt(n, ns), &view.Tasks{Known: true, Total: ns}))
				hosts = append(hosts, Stat(nil, host, nil, nil))
			}
			name := fmt.Sprintf("%d CPUs, %d interrupts", n, interrupts)
			checkSnapshots(t, name, n, snapshots)
			checkSnapshots(t, name+", host", n, hosts)
		}
	}
}

func checkSnapshots(t *testing.T, name string, cpus int, snapshots [][]byte) {
	t.Helper()
	for i, a := range snapshots {
		if len(a) != len(snapshots[0]) {
			t.Errorf("%s: %d bytes, then %d", name, len(snapshots[0]), len(a))
			return
		}
		if len(a)%statStep != 0 {
			t.Errorf("%s: %d bytes", name, len(a))
		}
		for line := range bytes.Lines(a) {
			if bytes.HasPrefix(line, []byte("cpu")) && len(line) > maxCPULine {
				t.Errorf("%s: line of %d bytes: %q", name, len(line), line)
			}
		}
		for _, b := range snapshots[:i] {
			for border := pageSize; border < len(a); border += pageSize {
				if err := validMix(a, b, border); err != nil {
					t.Errorf("%s: page border %d: %v", name, border, err)
					return
				}
				if err := validMix(b, a, border); err != nil {
					t.Errorf("%s: page border %d: %v", name, border, err)
					return
				}
			}
		}
		if got := bytes.Count(a, []byte("cpu")); got != cpus+1 {
			t.Errorf("%s: %d lines of CPUs", name, got)
		}
	}
}

// validMix tells whether a up to a page border and b from there on are a valid
// file: the same lines, and of each either a's numbers or b's.
func validMix(a, b []byte, border int) error {
	mix := slices.Concat(a[:border], b[border:])
	m, as, bs := strings.SplitAfter(string(mix), "\n"), strings.SplitAfter(string(a), "\n"), strings.SplitAfter(string(b), "\n")
	if len(m) != len(as) {
		return fmt.Errorf("%d lines, not %d", len(m), len(as))
	}
	for i := range m {
		mf, af, bf := strings.Fields(m[i]), strings.Fields(as[i]), strings.Fields(bs[i])
		if len(mf) != len(af) {
			return fmt.Errorf("%d fields, not %d: %.100q", len(mf), len(af), m[i])
		}
		for j := range mf {
			if mf[j] != af[j] && mf[j] != bf[j] {
				return fmt.Errorf("%q is neither %q nor %q", mf[j], af[j], bf[j])
			}
		}
		if strings.HasPrefix(m[i], "cpu") && strings.TrimRight(m[i], " \n") != strings.TrimRight(as[i], " \n") &&
			strings.TrimRight(m[i], " \n") != strings.TrimRight(bs[i], " \n") {
			return fmt.Errorf("line of a CPU from two snapshots: %q", m[i])
		}
	}
	return nil
}

// TestStatLinesOfCPUs holds that lines of CPUs are the kernel's to the byte:
// no parser that splits at single blanks finds more than the kernel gives.
func TestStatLinesOfCPUs(t *testing.T) {
	h := parseStat(t, statText(4, 100, 12345))
	text := string(Stat(nil, h, countersAt(2, 1e11), nil))
	want := "cpu  5000 0 1666 13332 0 0 0 0 0 0\ncpu0 2500 0 833 6666 0 0 0 0 0 0\ncpu1 2500 0 833 6666 0 0 0 0 0 0\nintr "
	if !strings.HasPrefix(text, want) {
		t.Errorf("got %.200q, want %q first", text, want)
	}
}

func TestStatTasks(t *testing.T) {
	h := parseStat(t, statText(1, 1, 1)) // 3 running, 1 blocked
	for _, tt := range []struct {
		name             string
		tasks            *view.Tasks
		running, blocked string
	}{
		{"unknown", nil, "3", "1"},
		{"not counted", &view.Tasks{}, "3", "1"},
		{"fewer tasks than run on the host", &view.Tasks{Known: true, Total: 2}, "2", "1"},
		{"no tasks: the reader", &view.Tasks{Known: true}, "1", "0"},
		{"known", &view.Tasks{Known: true, Total: 9, Running: 5, Blocked: 4}, "5", "4"},
	} {
		text := string(Stat(nil, h, countersAt(1, 1e9), tt.tasks))
		if !strings.Contains(text, "\nprocs_running "+tt.running+"\nprocs_blocked "+tt.blocked+"\n") {
			t.Errorf("%s: want %s running, %s blocked:\n%s", tt.name, tt.running, tt.blocked, text)
		}
	}
}

// TestStatOldKernel has as many numbers in a line as the host, and no more.
func TestStatOldKernel(t *testing.T) {
	h := parseStat(t, []byte("cpu  1 2 3 4 5 6 7\ncpu0 1 2 3 4 5 6 7\nctxt 5\nbtime 6\n"))
	got := Stat(nil, h, countersAt(1, 1e11), nil)
	want := "cpu 2500 0 833 6666 0 0 0\ncpu0 2500 0 833 6666 0 0 0\nctxt 5\nbtime 6"
	if diff := cmp.Diff(want, squeeze(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(got) != statStep || got[len(got)-1] != '\n' {
		t.Errorf("%d bytes: %q", len(got), got)
	}
}

// TestStatHost holds that the host's own text keeps every line and number.
func TestStatHost(t *testing.T) {
	for machine, text := range recorded(t, "proc/stat") {
		if diff := cmp.Diff(squeeze(text), squeeze(Stat(nil, parseStat(t, text), nil, nil))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", machine, diff)
		}
	}
}

func TestParseStatErrors(t *testing.T) {
	for name, text := range map[string]string{
		"empty":          "",
		"cut-short":      "cpu  1 2 3 4 5 6 7",
		"no-sum":         "cpu0 1 2 3 4\n",
		"too-few-fields": "cpu  1 2 3\n",
		"somebody-elses": "MemTotal: 1 kB\n",
	} {
		if _, err := ParseStat([]byte(text)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
