// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package procfile

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/podproc/podproc/fusefs/view"
)

const (
	mib = 1 << 20
	gib = 1 << 30
)

// smallHost is the least that a kernel shows; sizes in kB.
func smallHost(total, free, available, swap, swapFree int) []byte {
	return fmt.Appendf(nil, "MemTotal:       %8d kB\nMemFree:        %8d kB\nMemAvailable:   %8d kB\n"+
		"SwapTotal:      %8d kB\nSwapFree:       %8d kB\n", total, free, available, swap, swapFree)
}

// none is a level without a limit.
func none(l view.MemoryLevel) view.MemoryLevel {
	l.Limit = view.Unlimited
	return l
}

func TestMemorySpace(t *testing.T) {
	type level = view.MemoryLevel
	type want struct{ Total, Free, Available uint64 } // MiB
	host := smallHost(16<<20, 2<<20, 9<<20, 0, 0)
	for _, tt := range []struct {
		name   string
		levels []level
		want   want
	}{
		{"own limit", []level{{Limit: 256 * mib, Usage: 100 * mib, ActiveFile: 20 * mib, InactiveFile: 10 * mib, SlabReclaimable: 5 * mib}},
			want{256, 156, 191}},
		{"usage above limit", []level{{Limit: 256 * mib, Usage: 300 * mib, InactiveFile: 10 * mib}}, want{256, 0, 10}},
		{"more page cache than limit", []level{{Limit: 256 * mib, Usage: 256 * mib, ActiveFile: 300 * mib}}, want{256, 0, 256}},
		{"pod limit, sibling uses 120", []level{none(level{Usage: mib}), {Limit: 200 * mib, Usage: 121 * mib}}, want{200, 79, 79}},
		{"container tighter than pod", []level{{Limit: 100 * mib, Usage: 10 * mib}, {Limit: 200 * mib, Usage: 150 * mib}}, want{100, 50, 50}},
		{"pod tighter than container", []level{{Limit: 300 * mib, Usage: 10 * mib}, {Limit: 200 * mib, Usage: 150 * mib}}, want{200, 50, 50}},
		{"equal limits: the lower level sets Total", []level{{Limit: 200 * mib, Usage: 10 * mib}, {Limit: 200 * mib, Usage: 150 * mib, ActiveFile: 140 * mib}},
			want{200, 190, 190}},
		{"kubepods full of page cache", []level{{Limit: 256 * mib, Usage: 6 * mib}, {Limit: 12 * gib, Usage: 12 * gib, InactiveFile: 8 * gib, NodeWide: true}},
			want{256, 250, 250}},
		{"kubepods full of anonymous memory", []level{{Limit: 256 * mib, Usage: 6 * mib}, {Limit: 12 * gib, Usage: 12*gib - 4*mib, InactiveFile: 6 * mib, NodeWide: true}},
			want{256, 10, 10}},
		{"limit above host", []level{{Limit: 64 * gib, Usage: gib}}, want{16 << 10, 2 << 10, 9 << 10}},
		{"limit above kubepods", []level{{Limit: 64 * gib, Usage: gib}, {Limit: 12 * gib, Usage: 4 * gib, ActiveFile: gib, NodeWide: true}},
			want{12 << 10, 8 << 10, 9 << 10}},
		{"host has less", []level{{Limit: 12 * gib, Usage: gib}}, want{12 << 10, 9 << 10, 9 << 10}},
		{"unlimited", []level{none(level{Usage: gib}), {Limit: 12 * gib, Usage: 4 * gib, NodeWide: true}}, want{16 << 10, 2 << 10, 9 << 10}},
	} {
		h, err := ParseMeminfo(host)
		if err != nil {
			t.Fatal(err)
		}
		got := memValues(t, Meminfo(nil, h, &view.Memory{Levels: tt.levels}))
		if diff := cmp.Diff(tt.want, want{got["MemTotal"] >> 10, got["MemFree"] >> 10, got["MemAvailable"] >> 10}); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestMemTotalIsNever0(t *testing.T) {
	h, err := ParseMeminfo(smallHost(16<<20, 2<<20, 9<<20, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	for _, limit := range []view.Limit{0, 1, 1023, 4096} {
		got := memValues(t, Meminfo(nil, h, &view.Memory{Levels: []view.MemoryLevel{{Limit: limit, Usage: 8192}}}))
		if got["MemTotal"] != 4 || got["MemFree"] > got["MemAvailable"] || got["MemAvailable"] > 4 {
			t.Errorf("limit %d: %v", limit, got)
		}
	}
}

func TestSwapSpace(t *testing.T) {
	type level = view.MemoryLevel
	h, err := ParseMeminfo(smallHost(16<<20, 2<<20, 9<<20, 2<<20, 1536<<10))
	if err != nil {
		t.Fatal(err)
	}
	limited := func(l level) level { l.Limit = 256 * mib; return l }
	const no = view.Unlimited
	for _, tt := range []struct {
		name        string
		unaccounted bool
		levels      []level
		total, free uint64 // MiB
	}{
		{"no limit at all", false, []level{none(level{SwapLimit: no, SwapUsage: mib})}, 2048, 1536},
		{"memory limit only", false, []level{limited(level{SwapLimit: no, SwapUsage: 100 * mib})}, 2048, 1536},
		{"memory limit only, all free swap is its own", false, []level{limited(level{SwapLimit: no, SwapUsage: 512 * mib})}, 2048, 1536},
		{"not accounted", true, []level{limited(level{SwapLimit: no})}, 2048, 1536},
		{"swap limit", false, []level{limited(level{SwapLimit: 100 * mib, SwapUsage: 30 * mib})}, 100, 70},
		{"swap limit without memory limit", false, []level{none(level{SwapLimit: 100 * mib, SwapUsage: 30 * mib})}, 100, 70},
		{"no swap", false, []level{limited(level{SwapLimit: 0})}, 0, 0},
		{"pod limit, sibling swaps", false, []level{limited(level{SwapLimit: no, SwapUsage: mib}), none(level{SwapLimit: 100 * mib, SwapUsage: 60 * mib})}, 100, 40},
		{"more used than allowed", false, []level{limited(level{SwapLimit: 10 * mib, SwapUsage: 30 * mib})}, 10, 0},
		{"limit above host", false, []level{limited(level{SwapLimit: 64 * gib, SwapUsage: 30 * mib})}, 2048, 1536},
		{"limited node-wide only", false, []level{none(level{SwapLimit: no}), none(level{SwapLimit: 0, NodeWide: true})}, 2048, 1536},
	} {
		v := &view.Memory{Levels: tt.levels, SwapAccounted: !tt.unaccounted}
		got := memValues(t, Meminfo(nil, h, v))
		if got["SwapTotal"]>>10 != tt.total || got["SwapFree"]>>10 != tt.free {
			t.Errorf("%s: got %d, %d kB, want %d, %d MiB", tt.name, got["SwapTotal"], got["SwapFree"], tt.total, tt.free)
		}
		// The swaps file says the same.
		s, err := ParseSwaps([]byte("Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n" +
			"/dev/sda2                               partition\t2097152\t\t524288\t\t-2\n"))
		if err != nil {
			t.Fatal(err)
		}
		size, used := swapSums(t, Swaps(nil, s, h, v))
		if size != got["SwapTotal"] || used != got["SwapTotal"]-got["SwapFree"] {
			t.Errorf("%s: swaps has %d used of %d, meminfo %d free of %d", tt.name, used, size, got["SwapFree"], got["SwapTotal"])
		}
	}
}

// TestMeminfoNothingUnderflows has a container with SHM_LOCK: all of its shared
// memory is unevictable, and active + inactive less shmem is below 0.
func TestMeminfoNothingUnderflows(t *testing.T) {
	h := recordedHost(t, "x86-v2-docker").Meminfo
	v := &view.Memory{
		Levels: []view.MemoryLevel{{Limit: 64 * mib, Usage: 41 * mib}},
		Stat:   view.MemoryStat{Shmem: 40 * mib, Unevictable: 40 * mib, File: 40 * mib, SwapCached: 41 * mib},
	}
	for key, n := range memValues(t, Meminfo(nil, h, v)) {
		if !strings.HasPrefix(key, "DirectMap") && !strings.HasPrefix(key, "Vmalloc") && n > 64<<10 {
			t.Errorf("%s: %d kB in a container of 65536 kB", key, n)
		}
	}
}

// TestMeminfoLines holds that every line of every kernel stays, in its place.
func TestMeminfoLines(t *testing.T) {
	v := &view.Memory{Levels: []view.MemoryLevel{{Limit: 64 * mib, Usage: 41 * mib}}}
	for machine, text := range recorded(t, "proc/meminfo") {
		h, err := ParseMeminfo(text)
		if err != nil {
			t.Fatalf("%s: %v", machine, err)
		}
		if got, want := memKeys(Meminfo(nil, h, v)), memKeys(text); got != want {
			t.Errorf("%s (-want +got):\n%s", machine, cmp.Diff(want, got))
		}
		if got, want := squeeze(Meminfo(nil, h, nil)), squeeze(text); got != want {
			t.Errorf("%s: the host's text changed (-want +got):\n%s", machine, cmp.Diff(want, got))
		}
		// Over 100 GB the kernel's own columns break; Committed_AS may be that
		// high on a host of 25 GB.
		if got := Meminfo(nil, h, nil); machine != "x86-v2-128-cpus" && len(got) > len(text)+1 {
			t.Errorf("%s: the host's text has %d bytes of room, without need", machine, len(got)-len(text))
		}
	}
}

// TestMeminfoSize holds the size while numbers pass over digits.
func TestMeminfoSize(t *testing.T) {
	for _, total := range []int{3 << 20, 99_999_999, 100_000_000, 2_113_929_216} {
		sizes := map[int]bool{}
		for _, free := range []int{1, total / 1000, total / 10, total} {
			h, err := ParseMeminfo(smallHost(total, free, free, total*2, free))
			if err != nil {
				t.Fatal(err)
			}
			sizes[len(Meminfo(nil, h, nil))] = true
			for use := uint64(1); use < 1<<40; use *= 10 {
				sizes[len(Meminfo(nil, h, &view.Memory{SwapAccounted: true, Levels: []view.MemoryLevel{
					{Limit: view.Limit(use * 2), Usage: use, SwapLimit: view.Limit(use * 3), SwapUsage: use}}}))] = true
			}
		}
		if len(sizes) != 1 {
			t.Errorf("host of %d kB: sizes %v", total, sizes)
		}
	}
}

func TestParseMeminfoErrors(t *testing.T) {
	for name, text := range map[string]string{
		"empty":            "",
		"cut-short":        "MemTotal:       16330196 kB\nMemFree:     ",
		"zero-total":       "MemTotal:              0 kB\nMemFree:               0 kB\n",
		"no-free":          "MemTotal:              1 kB\n",
		"negative":         "MemTotal:             -1 kB\nMemFree:               0 kB\n",
		"huge":             "MemTotal: 99999999999999999999 kB\nMemFree:               0 kB\n",
		"two-of-a-line":    "MemTotal:              1 kB\nMemTotal:              1 kB\nMemFree:               0 kB\n",
		"somebody-elses":   "cpu  1 2 3 4\n",
		"pages-not-kb":     "MemTotal:              1\nMemFree:               0\n",
		"no-number-at-all": "MemTotal:                kB\nMemFree:               0 kB\n",
	} {
		if _, err := ParseMeminfo([]byte(text)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// memValues takes a meminfo apart and checks what holds for all of them.
func memValues(t testing.TB, text []byte) map[string]uint64 {
	t.Helper()
	got := map[string]uint64{}
	for line := range bytes.Lines(text) {
		key, value, ok := strings.Cut(string(line), ":")
		var n uint64
		if _, err := fmt.Sscanf(value, "%d", &n); !ok || err != nil || line[len(line)-1] != '\n' {
			t.Fatalf("line %q: %v", line, err)
		}
		got[key] = n
	}
	if got["MemTotal"] == 0 || got["MemFree"] > got["MemTotal"] || got["MemAvailable"] > got["MemTotal"] ||
		got["SwapFree"] > got["SwapTotal"] {
		t.Fatalf("free above total, or no total:\n%s", text)
	}
	return got
}

func memKeys(text []byte) string {
	var keys []string
	for line := range strings.Lines(string(text)) {
		key, _, _ := strings.Cut(line, ":")
		keys = append(keys, key)
	}
	return strings.Join(keys, "\n")
}
