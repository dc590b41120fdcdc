// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/podproc/podproc/fusefs/view"
)

// parsers is every parser of a whole control file, as a function that returns
// what it found in one comparable value.
var parsers = map[string]func([]byte) (any, error){
	"value": func(b []byte) (any, error) { return parseValue(b) },
	"limit": func(b []byte) (any, error) { return parseLimit(b) },
	"cpu.max": func(b []byte) (any, error) {
		q, err := parseCPUMax(b)
		if err != nil {
			return view.Limit(0), err
		}
		return q.milli(), nil
	},
	"cpu list":     func(b []byte) (any, error) { return parseCPUList(nil, b) },
	"usage_all":    func(b []byte) (any, error) { return parseUsageAll(nil, b) },
	"usage_percpu": func(b []byte) (any, error) { return parsePerCPU(nil, b, userColumn) },
	"cpuacct.stat": func(b []byte) (any, error) {
		u, s, err := parseCPUAcctStat(b)
		return [2]uint64{u, s}, err
	},
	"cpu.stat": func(b []byte) (any, error) {
		usage, user, err := parseCPUStat(b)
		return [2]uint64{usage, user}, err
	},
	"memory.stat v1": func(b []byte) (any, error) {
		var s view.MemoryStat
		err := parseMemoryStat(&s, b, false)
		return s, err
	},
	"memory.stat v2": func(b []byte) (any, error) { var s view.MemoryStat; err := parseMemoryStat(&s, b, true); return s, err },
	"ids":            func(b []byte) (any, error) { return parseIDs(b, 3) },
	"stat":           func(b []byte) (any, error) { return statField(b, 22) },
}

var good = []struct {
	parser, text string
	want         any
}{
	{"value", "0\n", uint64(0)},
	{"value", "18446744073709551615\n", uint64(math.MaxUint64)},
	{"limit", "268435456\n", view.Limit(268435456)},
	{"limit", "max\n", view.Unlimited},
	{"limit", "-1\n", view.Unlimited},
	{"limit", "9223372036854771712\n", view.Unlimited}, // 4 KiB pages
	{"limit", "9223372036854710272\n", view.Unlimited}, // 64 KiB pages
	{"limit", "9223372036854775807\n", view.Unlimited}, // before Linux 3.19
	{"limit", "0\n", view.Limit(0)},
	{"cpu.max", "max 100000\n", view.Unlimited},
	{"cpu.max", "150000 100000\n", view.Limit(1500)},
	{"cpu.max", "1000 1000000\n", view.Limit(1)},
	{"cpu.max", "33333 100000\n", view.Limit(334)},
	{"cpu list", "\n", []int(nil)},
	{"cpu list", "0\n", []int{0}},
	{"cpu list", "0-2,5,7-8\n", []int{0, 1, 2, 5, 7, 8}},
	{"usage_all", "cpu user system\n0 5 6\n2 7 8\n", []view.CPUUse{{User: 5, System: 6}, {}, {User: 7, System: 8}}},
	{"usage_percpu", "5 0 7 \n", []view.CPUUse{{User: 5}, {}, {User: 7}}},
	{"cpuacct.stat", "user 12\nsystem 3\n", [2]uint64{120_000_000, 30_000_000}},
	{"cpu.stat", "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_throttled 0\n", [2]uint64{30_000, 20_000}},
	{"memory.stat v1", memoryStatTextV1, view.MemoryStat{
		ActiveAnon: 5242881, InactiveAnon: 5242880, ActiveFile: 10485761, InactiveFile: 20971520, Unevictable: 16384,
		Anon: 10485760, File: 41943040, Mapped: 3145728, Shmem: 1048576, Dirty: 8192, Writeback: 4096, AnonTHP: 2097152,
	}},
	{"memory.stat v2", memoryStatTextV2, view.MemoryStat{
		ActiveAnon: 5242881, InactiveAnon: 5242880, ActiveFile: 10485761, InactiveFile: 20971520, Unevictable: 16384,
		Anon: 10485760, File: 41943040, Mapped: 3145728, Shmem: 1048576, Dirty: 8192, Writeback: 4096, AnonTHP: 2097152,
		SlabReclaimable: 300000, SlabUnreclaimable: 100000, KernelStack: 65536, PageTables: 131072, SecPageTables: 4096,
		Percpu: 1440, Vmalloc: 8192, SwapCached: 24576, Zswap: 20480, Zswapped: 40960,
	}},
	{"memory.stat v2", "anon 1\nfile 2\n", view.MemoryStat{Anon: 1, File: 2}}, // a kernel of the first days
	{"ids", "", []int(nil)},
	{"ids", "1\n0\n30\n", []int{1, 30}},
	{"ids", "1\n2\n3\n4\n", []int{1, 2, 3}},
	{"stat", stat("0", "5000"), uint64(5000)},
}

func TestParse(t *testing.T) {
	for _, tt := range good {
		got, err := parsers[tt.parser]([]byte(tt.text))
		if err != nil {
			t.Errorf("%s of %q: %v", tt.parser, tt.text, err)
		} else if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s of %q (-want +got):\n%s", tt.parser, tt.text, diff)
		}
	}
}

// bad is text that the kernel does not write, named for its fault.
var bad = []struct{ parser, fault, text string }{
	{"value", "empty", ""},
	{"value", "newline only", "\n"},
	{"value", "no newline", "12"},
	{"value", "two lines", "12\n13\n"},
	{"value", "sign", "-12\n"},
	{"value", "space", " 12\n"},
	{"value", "hex", "0x12\n"},
	{"value", "too big", "18446744073709551616\n"},
	{"value", "null bytes", "\x00\x00\x00\n"},
	{"value", "max", "max\n"},
	{"limit", "empty", ""},
	{"limit", "half of max", "ma"},
	{"limit", "no newline", "max"},
	{"limit", "below -1", "-2\n"},
	{"limit", "unit", "256M\n"},
	{"cpu.max", "empty", ""},
	{"cpu.max", "no period", "100000\n"},
	{"cpu.max", "no newline", "100000 100000"},
	{"cpu.max", "zero period", "100000 0\n"},
	{"cpu.max", "negative quota", "-1 100000\n"},
	{"cpu.max", "too many fields", "1 2 3\n"},
	{"cpu.max", "quota beyond the kernel's", "17592186044417 1\n"},
	{"cpu list", "empty", ""},
	{"cpu list", "no newline", "0-3"},
	{"cpu list", "no end", "0-\n"},
	{"cpu list", "no start", "-3\n"},
	{"cpu list", "descending range", "3-0\n"},
	{"cpu list", "descending", "4,2\n"},
	{"cpu list", "overlap", "0-3,3\n"},
	{"cpu list", "comma at end", "0,\n"},
	{"cpu list", "comma only", ",\n"},
	{"cpu list", "stride", "0-10:2/4\n"},
	{"cpu list", "more CPUs than there can be", "0-4294967295\n"},
	{"usage_all", "empty", ""},
	{"usage_all", "no header", "0 1 2\n"},
	{"usage_all", "no CPU", "cpu user system\n"},
	{"usage_all", "half a line", "cpu user system\n0 1 2\n1 12"},
	{"usage_all", "CPU twice", "cpu user system\n0 1 2\n0 1 2\n"},
	{"usage_all", "too many fields", "cpu user system\n0 1 2 3\n"},
	{"usage_all", "more CPUs than there can be", "cpu user system\n4294967295 1 2\n"},
	{"usage_percpu", "empty", ""},
	{"usage_percpu", "no CPU", " \n"},
	{"usage_percpu", "no newline", "1 2 3"},
	{"usage_percpu", "garbage", "1 x 3\n"},
	{"cpuacct.stat", "empty", ""},
	{"cpuacct.stat", "half", "user 12\n"},
	{"cpuacct.stat", "half a line", "user 12\nsys"},
	{"cpuacct.stat", "garbage", "user x\nsystem 1\n"},
	{"cpu.stat", "empty", ""},
	{"cpu.stat", "no user", "usage_usec 12\n"},
	{"cpu.stat", "half a line", "usage_usec 12\nuser_usec 1"},
	{"cpu.stat", "garbage", "usage_usec 12\nuser_usec 1x\n"},
	{"cpu.stat", "overflow in ns", "usage_usec 18446744073709551615\nuser_usec 1\n"},
	{"memory.stat v1", "empty", ""},
	{"memory.stat v1", "of v2", "anon 1\nfile 2\n"},
	{"memory.stat v1", "garbage", "total_cache 1\ntotal_rss -5\n"},
	{"memory.stat v2", "empty", ""},
	{"memory.stat v2", "of v1", "total_cache 1\ntotal_rss 5\n"},
	{"memory.stat v2", "half a line", "anon 1\nfile 22"},
	{"memory.stat v2", "half a key", "anon 1\nfile 22\nkern"},
	{"memory.stat v2", "no value", "anon 1\nfile 22\nshmem\n"},
	{"memory.stat v2", "no key", "anon 1\nfile 22\n 5\n"},
	{"memory.stat v2", "cut off before file", "anon 1\n"},
	{"ids", "garbage", "1\nx\n"},
	{"ids", "no newline", "1\n2"},
	{"ids", "beyond a pid", "4294967296\n"},
	{"stat", "empty", ""},
	{"stat", "no name", "100 S 1 1\n"},
	{"stat", "cut off", "100 (a) S 1 1 1\n"},
	{"stat", "garbage", stat("0", "x")},
}

func TestParseBad(t *testing.T) {
	for _, tt := range bad {
		got, err := parsers[tt.parser]([]byte(tt.text))
		if err == nil {
			t.Errorf("%s, %s: %q is taken for %v", tt.parser, tt.fault, tt.text, got)
		}
	}
}

// TestParseHalf cuts every good text at every length: what is left is either
// refused or, cut at the end of a line, a whole file of an older kernel.
func TestParseHalf(t *testing.T) {
	for _, tt := range good {
		if tt.parser == "ids" || tt.parser == "stat" {
			continue // lists of any length; a line of which the head is enough
		}
		for n := range len(tt.text) {
			part := tt.text[:n]
			if got, err := parsers[tt.parser]([]byte(part)); err == nil && !strings.HasSuffix(part, "\n") {
				t.Errorf("%s: half a file %q is taken for %v", tt.parser, part, got)
			}
		}
	}
}

func TestPerCPUColumns(t *testing.T) {
	users, err := parsePerCPU(nil, []byte("1 2 \n"), userColumn)
	if err != nil {
		t.Fatal(err)
	}
	got, err := parsePerCPU(users, []byte("3 4 \n"), systemColumn)
	if diff := cmp.Diff([]view.CPUUse{{User: 1, System: 3}, {User: 2, System: 4}}, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
	if _, err := parsePerCPU(users, []byte("3 \n"), systemColumn); err == nil {
		t.Error("columns of different length are taken")
	}
}

func TestParsersDoNotAllocate(t *testing.T) {
	cpus := make([]int, 0, 256)
	uses := make([]view.CPUUse, 0, 256)
	var s view.MemoryStat
	list, all := []byte("0-255\n"), []byte("cpu user system\n")
	limit, max := []byte("268435456\n"), []byte("150000 100000\n")
	cpuStat, memStat := []byte("usage_usec 3\nuser_usec 2\n"), []byte(memoryStatTextV2)
	for n := range 256 {
		all = fmt.Appendf(all, "%d 123456789 987654321\n", n)
	}
	for name, f := range map[string]func() error{
		"limit":       func() error { _, err := parseLimit(limit); return err },
		"cpu.max":     func() error { _, err := parseCPUMax(max); return err },
		"cpu list":    func() error { _, err := parseCPUList(cpus, list); return err },
		"usage_all":   func() error { _, err := parseUsageAll(uses, all); return err },
		"cpu.stat":    func() error { _, _, err := parseCPUStat(cpuStat); return err },
		"memory.stat": func() error { return parseMemoryStat(&s, memStat, true) },
	} {
		if n := testing.AllocsPerRun(100, func() {
			if err := f(); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}

// FuzzParse feeds one text to every parser. What is accepted ends in a
// newline and has only sane values.
func FuzzParse(f *testing.F) {
	for _, tt := range good {
		f.Add([]byte(tt.text))
	}
	for _, tt := range bad {
		f.Add([]byte(tt.text))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		before := string(b)
		for name, parse := range parsers {
			got, err := parse(b)
			if string(b) != before {
				t.Fatalf("%s changes its text", name)
			}
			if err != nil {
				continue
			}
			if name != "stat" && len(b) > 0 && b[len(b)-1] != '\n' && !(name == "ids" && strings.Count(before, "\n") >= 3) {
				t.Fatalf("%s takes half a file %q for %v", name, b, got)
			}
			if fault := insane(name, got); fault != "" {
				t.Fatalf("%s of %q = %v: %s", name, b, got, fault)
			}
		}
	})
}

func insane(name string, got any) string {
	switch v := got.(type) {
	case view.Limit:
		if name == "limit" && v != view.Unlimited && v >= noLimit {
			return "a limit beyond all memory"
		}
	case []int:
		if name == "ids" && len(v) > 3 {
			return "more than asked for"
		}
		for i := 1; i < len(v) && name == "cpu list"; i++ {
			if v[i] <= v[i-1] {
				return "not ascending"
			}
		}
	case []view.CPUUse:
		if len(v) == 0 || len(v) > maxCPUs {
			return "no CPU or too many"
		}
	}
	return ""
}

func FuzzUsedTime(f *testing.F) {
	f.Add(uint64(100), uint64(60), uint64(110), uint64(59), uint64(105), uint64(200))
	f.Fuzz(func(t *testing.T, usage1, user1, usage2, user2, usage3, user3 uint64) {
		var used usedTime
		var user, system uint64
		for _, in := range [][2]uint64{{usage1, user1}, {usage2, user2}, {usage3, user3}} {
			u, s := used.advance(in[0], in[1])
			if u < user || s < system {
				t.Fatalf("user %d -> %d, system %d -> %d", user, u, system, s)
			}
			if u+s < in[0] || u+s != used.usage {
				t.Fatalf("user %d + system %d of usage %d", u, s, in[0])
			}
			user, system = u, s
		}
	})
}

// TestShareOut: what was measured is shared out as it was sampled, and neither
// part steps back however the samples turn.
func TestShareOut(t *testing.T) {
	used := make([]usedTime, 2)
	for _, step := range []struct {
		sampled, want []view.CPUUse
		text          string
	}{
		{[]view.CPUUse{{User: 30, System: 10}, {}}, []view.CPUUse{{User: 60, System: 20}, {System: 7}}, "80 7 \n"},
		{[]view.CPUUse{{User: 30, System: 90}, {User: 1}}, []view.CPUUse{{User: 60, System: 24}, {User: 2, System: 7}}, "84 9 \n"},
		{[]view.CPUUse{{User: 90, System: 90}, {User: 1}}, []view.CPUUse{{User: 60, System: 24}, {User: 2, System: 7}}, "84 9 \n"},
		{[]view.CPUUse{{User: math.MaxUint64 / 2, System: 1}, {User: 1}}, []view.CPUUse{{User: math.MaxUint64 - 25, System: 24}, {User: 2, System: 7}}, "18446744073709551614 9 \n"},
	} {
		got := slices.Clone(step.sampled)
		if err := shareOut(got, used, []byte(step.text)); err != nil || !slices.Equal(got, step.want) {
			t.Errorf("%q after %+v: %+v, %v, want %+v", step.text, step.sampled, got, err, step.want)
		}
	}
	for _, text := range []string{"", "1 2", "1\n", "1 2 3\n", "1 x\n", "-1 2\n"} {
		if err := shareOut(make([]view.CPUUse, 2), make([]usedTime, 2), []byte(text)); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
}
