// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package procfile

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/podproc/podproc/fusefs/view"
)

func seed(f *testing.F, path string, more ...any) {
	for _, text := range recorded(f, path) {
		if len(text) < 20000 {
			f.Add(append([]any{text}, more...)...)
		}
	}
}

// unchanged fails if rendering wrote to the host's text, or the text does not
// end in a newline, or did not keep what dst had.
func unchanged(t *testing.T, host []byte, render func(dst []byte) []byte) []byte {
	t.Helper()
	before := slices.Clone(host)
	got := render([]byte("dst"))
	if !bytes.Equal(before, host) {
		t.Fatal("the host's text was written to")
	}
	got, ok := bytes.CutPrefix(got, []byte("dst"))
	if !ok || len(got) == 0 || got[len(got)-1] != '\n' {
		t.Fatalf("got %.200q", got)
	}
	return got
}

func FuzzMeminfo(f *testing.F) {
	seed(f, "proc/meminfo", uint64(256<<20), uint64(100<<20), uint64(1<<30), uint64(900<<20), uint64(64<<20), uint64(1<<20), uint64(12345678), false)
	seed(f, "proc/meminfo", uint64(0), uint64(1), uint64(1<<63), uint64(1<<63), uint64(1<<62), uint64(1<<63), uint64(1<<63), true)
	f.Fuzz(func(t *testing.T, text []byte, limit, usage, podLimit, podUsage, swapLimit, swapUsage, stat uint64, node bool) {
		h, err := ParseMeminfo(text)
		if err != nil {
			return
		}
		v := &view.Memory{SwapAccounted: swapLimit%2 == 0, Levels: []view.MemoryLevel{
			{Limit: view.Limit(limit), Usage: usage, SwapLimit: view.Limit(swapLimit), SwapUsage: swapUsage,
				ActiveFile: stat, InactiveFile: stat / 3, SlabReclaimable: stat / 5},
			{Limit: view.Limit(podLimit), Usage: podUsage, SwapLimit: view.Limit(swapUsage), SwapUsage: swapLimit,
				ActiveFile: stat / 7, InactiveFile: stat, NodeWide: node},
			{Limit: view.Unlimited, SwapLimit: view.Unlimited, NodeWide: true},
		}, Stat: view.MemoryStat{
			ActiveAnon: stat, InactiveAnon: stat, ActiveFile: stat, InactiveFile: stat / 3, Anon: stat, File: stat,
			SlabReclaimable: stat, SlabUnreclaimable: stat, SwapCached: stat / 2, Zswapped: stat, Shmem: stat,
		}}
		own := unchanged(t, text, func(dst []byte) []byte { return Meminfo(dst, h, v) })
		host := unchanged(t, text, func(dst []byte) []byte { return Meminfo(dst, h, nil) })
		if len(own) != len(host) {
			t.Errorf("%d bytes, the host's text %d", len(own), len(host))
		}
		if memKeys(own) != memKeys(text) || memKeys(host) != memKeys(text) {
			t.Errorf("keys changed:\n%s", own)
		}
		value := func(key string) (n uint64) {
			for line := range bytes.Lines(own) {
				if field, from, to, ok := memLine(line); ok && field == memFields[key] {
					n, _ = parseUint(line[from:to])
				}
			}
			return n
		}
		total := value("MemTotal")
		if total == 0 || value("MemFree") > total || value("MemAvailable") > total || value("SwapFree") > value("SwapTotal") {
			t.Errorf("free above total, or no total:\n%s", own)
		}
		if h2, err := ParseMeminfo(own); err != nil {
			t.Errorf("what was rendered cannot be parsed: %v", err)
		} else if bytes.Contains(own, []byte("MemAvailable")) && h2.value[memFree] > h2.value[memAvailable] && memoryLimited(v) {
			t.Errorf("MemFree above MemAvailable:\n%s", own)
		}
	})
}

func FuzzCpuinfo(f *testing.F) {
	seed(f, "proc/cpuinfo", 1, 0)
	seed(f, "proc/cpuinfo", 2, 3)
	f.Fuzz(func(t *testing.T, text []byte, n, first int) {
		h, err := ParseCpuinfo(text)
		if err != nil || n < 1 || n > 16 || first < 0 || first > 1<<20 {
			return
		}
		c := CPUs{N: n, Limited: true}
		for i := range n + 1 {
			c.Host = append(c.Host, first+i)
		}
		unchanged(t, text, func(dst []byte) []byte { return Cpuinfo(dst, h, CPUs{}) })
		got := unchanged(t, text, func(dst []byte) []byte { return Cpuinfo(dst, h, c) })
		if len(h.blocks) == 0 && len(h.summary) == 0 {
			return
		}
		for line := range bytes.Lines(got) {
			if key, _ := cutKey(line); !bytes.Contains(text, key) && !bytes.HasPrefix(key, []byte("processor ")) {
				t.Errorf("line %q is not of the host", line)
			}
		}
	})
}

func FuzzStat(f *testing.F) {
	seed(f, "proc/stat", 1, uint64(1e12), uint64(5))
	seed(f, "proc/stat", 70, uint64(1e18), uint64(0))
	f.Fuzz(func(t *testing.T, text []byte, n int, ns, tasks uint64) {
		h, err := ParseStat(text)
		if err != nil || n < 1 || n > 200 || ns > 1<<62/200 {
			return
		}
		host := unchanged(t, text, func(dst []byte) []byte { return Stat(dst, h, nil, nil) })
		if squeeze(host) != squeeze(text) && !bytes.Contains(text, []byte("procs_")) {
			t.Errorf("the host's text changed:\n%s", host)
		}
		own := unchanged(t, text, func(dst []byte) []byte {
			return Stat(dst, h, countersAt(n, ns), &view.Tasks{Known: tasks > 0, Total: tasks})
		})
		later := Stat(nil, h, countersAt(n, ns/100_000), &view.Tasks{Known: tasks > 0, Total: tasks})
		if h.fields < 11 && len(own) != len(later) {
			t.Errorf("%d bytes, then %d", len(later), len(own))
		}
		if h2, err := ParseStat(own); err != nil {
			t.Errorf("what was rendered cannot be parsed: %v", err)
		} else if got := bytes.Count(h2.cpus, []byte("\n")); got < n+1 {
			t.Errorf("%d lines of CPUs for %d", got, n)
		}
		if got, want := statKeys(own), statKeys(text); got != want {
			t.Errorf("lines are %q, want %q", got, want)
		}
	})
}

// statKeys returns the keys of the lines after those of the CPUs.
func statKeys(text []byte) string {
	var keys []string
	cpus := true
	for line := range strings.Lines(string(text)) {
		if cpus = cpus && strings.HasPrefix(line, "cpu"); !cpus {
			key, _, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
			keys = append(keys, key)
		}
	}
	return strings.Join(keys, " ")
}

func FuzzSwaps(f *testing.F) {
	seed(f, "proc/swaps", uint64(1<<20), uint64(1<<27), uint64(1<<26))
	f.Fuzz(func(t *testing.T, text []byte, hostTotal, limit, usage uint64) {
		h, err := ParseSwaps(text)
		if err != nil || hostTotal > 1<<40 {
			return
		}
		m, err := ParseMeminfo(smallHost(1<<24, 1<<23, 1<<23, int(hostTotal), int(hostTotal/2)))
		if err != nil {
			t.Fatal(err)
		}
		v := &view.Memory{SwapAccounted: true, Levels: []view.MemoryLevel{{Limit: 1 << 30, SwapLimit: view.Limit(limit), SwapUsage: usage}}}
		if got := unchanged(t, text, func(dst []byte) []byte { return Swaps(dst, h, m, nil) }); squeeze(got) != squeeze(text) && !bytes.Contains(text, []byte("\t0")) {
			if _, err := ParseSwaps(got); err != nil {
				t.Errorf("what was rendered cannot be parsed: %v", err)
			}
		}
		got := unchanged(t, text, func(dst []byte) []byte { return Swaps(dst, h, m, v) })
		if !bytes.HasPrefix(got, h.header) || bytes.Count(got, []byte("\n")) > 2 {
			t.Errorf("got %q", got)
		}
		h2, err := ParseSwaps(got)
		if err != nil {
			t.Fatalf("what was rendered cannot be parsed: %v", err)
		}
		s := swapSpace(m, v)
		if s.total > 0 && len(h.name) > 0 {
			line, _ := cutLine(h2.text[len(h2.header):])
			if l, err := parseSwapLine(line); err != nil || l.size != s.total || l.used != s.total-s.free {
				t.Errorf("%q (%v), want %+v", line, err, s)
			}
		}
	})
}

func FuzzOnline(f *testing.F) {
	seed(f, "sys/devices/system/cpu/online", 2)
	f.Fuzz(func(t *testing.T, text []byte, quota int) {
		h, err := ParseOnline(text)
		if err != nil {
			return
		}
		if len(h.CPUs) == 0 || !slices.IsSorted(h.CPUs) {
			t.Fatalf("%q is %v", text, h.CPUs)
		}
		c := CountCPUs(&view.CPU{Quota: view.Limit(quota)}, h)
		got := unchanged(t, text, func(dst []byte) []byte { return Online(dst, h, c) })
		if again, err := ParseOnline(got); err != nil || len(again.CPUs) != c.N {
			t.Errorf("%q for %+v (%v)", got, c, err)
		}
		k := new(Counters)
		k.Advance(time.Second, 0, c, used(0, 0))
	})
}
