// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package procfile

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func parseCpuinfo(t testing.TB, text []byte) *HostCpuinfo {
	t.Helper()
	h, err := ParseCpuinfo(text)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// TestCpuinfoTopology computes cores as people do: distinct pairs of physical
// id and core id, siblings, cpu cores.
func TestCpuinfoTopology(t *testing.T) {
	for machine, text := range recorded(t, "proc/cpuinfo") {
		h := parseCpuinfo(t, text)
		if !strings.HasPrefix(machine, "x86") {
			continue
		}
		for n := 1; n < len(h.blocks); n++ {
			c := CPUs{N: n, Limited: true}
			for _, b := range h.blocks {
				c.Host = append(c.Host, b.cpu)
			}
			got := string(Cpuinfo(nil, h, c))
			cores, packages := map[string]bool{}, map[string]bool{}
			for i, block := range strings.Split(strings.TrimSuffix(got, "\n\n"), "\n\n") {
				field := func(key string) string {
					m := regexp.MustCompile(`(?m)^` + key + `\s*: (\d+)$`).FindStringSubmatch(block)
					if m == nil {
						t.Fatalf("%s: no %s in %s", machine, key, block)
					}
					return m[1]
				}
				packages[field("physical id")] = true
				cores[field("physical id")+" "+field("core id")] = true
				for key, want := range map[string]int{"processor": i, "apicid": i, "initial apicid": i, "siblings": n, "cpu cores": n} {
					if field(key) != strconv.Itoa(want) {
						t.Errorf("%s: %d CPUs: %s is %s in block %d, want %d", machine, n, key, field(key), i, want)
					}
				}
			}
			if len(cores) != n || len(packages) != 1 {
				t.Errorf("%s: %d CPUs are %d cores in %d packages", machine, n, len(cores), len(packages))
			}
		}
	}
}

// TestCpuinfoHost holds that the host's own text stays, clock rates apart.
func TestCpuinfoHost(t *testing.T) {
	rate := regexp.MustCompile(`(\.\d{3}(?:\d{3})?)0*(MHz)?\n`)
	for machine, text := range recorded(t, "proc/cpuinfo") {
		got := rate.ReplaceAllString(string(Cpuinfo(nil, parseCpuinfo(t, text), CPUs{})), "$1$2\n")
		if diff := cmp.Diff(string(text), got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", machine, diff)
		}
	}
}

// TestCpuinfoOneBlockEach has on each architecture the blocks of the CPUs asked
// for and all of the text that belongs to no CPU.
func TestCpuinfoOneBlockEach(t *testing.T) {
	for machine, text := range recorded(t, "proc/cpuinfo") {
		h := parseCpuinfo(t, text)
		last := h.blocks[len(h.blocks)-1]
		got := string(Cpuinfo(nil, h, CPUs{N: 1, Limited: true, Host: []int{last.cpu}}))
		whole := string(h.text)
		trailer := whole[h.trailer:]
		if !strings.HasPrefix(got, whole[:h.header.from]) || !strings.HasSuffix(got, trailer) {
			t.Errorf("%s: header or trailer is missing:\n%s", machine, got)
		}
		lines := func(s string) int { return strings.Count(s, "\n") }
		want := lines(whole[:h.header.to]) + min(1, len(h.summary)) + lines(whole[last.from:last.to]) + lines(trailer)
		if lines(got) != want {
			t.Errorf("%s: %d lines, want %d:\n%s", machine, lines(got), want, got)
		}
	}
}

// TestCpuinfoOlderThanCPUs has a CPU in the cpuset that came after the text was
// read: the count is right all the same.
func TestCpuinfoOlderThanCPUs(t *testing.T) {
	h := parseCpuinfo(t, recorded(t, "proc/cpuinfo")["arm64-v2"])
	for _, host := range [][]int{{8, 9}, {1, 9}, {0, 1}, {3, 4}} {
		got := string(Cpuinfo(nil, h, CPUs{N: 2, Limited: true, Host: host}))
		if strings.Count(got, "processor\t: ") != 2 || !strings.Contains(got, "processor\t: 1\n") {
			t.Errorf("%v: got\n%s", host, got)
		}
	}
}

func TestCpuinfoClock(t *testing.T) {
	for _, tt := range []struct{ line, want string }{
		{"cpu MHz\t\t: 2600.000\n", "cpu MHz\t\t: 2600.000\n"},
		{"cpu MHz\t\t: 800.123\n", "cpu MHz\t\t: 800.1230\n"},
		{"cpu MHz\t\t: 8.123\n", "cpu MHz\t\t: 8.123000\n"},
		{"cpu MHz\t\t: 12600.000\n", "cpu MHz\t\t: 12600.000\n"},
		{"clock\t\t: 800.000000MHz\n", "clock\t\t: 800.0000000MHz\n"},
		{"clock\t\t: 2061.000000MHz\n", "clock\t\t: 2061.000000MHz\n"},
		{"cpu MHz\t\t: unknown\n", "cpu MHz\t\t: unknown\n"},
		{"cpu MHz\t\t: 5.x\n", "cpu MHz\t\t: 5.x\n"},
		{"cpu MHz dynamic : 5200\n", "cpu MHz dynamic : 5200\n"},
	} {
		if got := string(appendCPULine(nil, []byte(tt.line))); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

// Formats that no recorded machine has.
func TestCpuinfoFormats(t *testing.T) {
	for _, tt := range []struct{ name, host, want string }{
		{
			"s390x before 4.12: a summary and no blocks",
			"vendor_id       : IBM/S390\n# processors    : 3\nbogomips per cpu: 20325.00\n" +
				"processor 0: version = FF,  identification = 0133E8,  machine = 2964\n" +
				"processor 2: version = FF,  identification = 0133E8,  machine = 2965\n" +
				"processor 3: version = FF,  identification = 0133E8,  machine = 2966\n",
			"vendor_id       : IBM/S390\n# processors    : 1\nbogomips per cpu: 20325.00\n" +
				"processor 0: version = FF,  identification = 0133E8,  machine = 2965\n",
		},
		{
			"loongarch and mips: a header",
			"system type\t\t: generic-loongson-machine\n\nprocessor\t\t: 0\npackage\t\t\t: 0\n\nprocessor\t\t: 2\npackage\t\t\t: 1\n\n",
			"system type\t\t: generic-loongson-machine\n\nprocessor\t\t: 0\npackage\t\t\t: 1\n\n",
		},
		{
			"sparc: nothing to choose from",
			"cpu\t\t: TI UltraSparc\nncpus active\t: 2\n",
			"cpu\t\t: TI UltraSparc\nncpus active\t: 2\n",
		},
		{
			"x86 in a virtual machine without topology",
			"processor\t: 0\nmodel name\t: QEMU\n\nprocessor\t: 2\nmodel name\t: QEMU 2\n\n",
			"processor\t: 0\nmodel name\t: QEMU 2\n\n",
		},
	} {
		h := parseCpuinfo(t, []byte(tt.host))
		if diff := cmp.Diff(tt.want, string(Cpuinfo(nil, h, CPUs{N: 1, Limited: true, Host: []int{2}}))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
		if diff := cmp.Diff(tt.host, string(Cpuinfo(nil, h, CPUs{}))); diff != "" {
			t.Errorf("%s, host (-want +got):\n%s", tt.name, diff)
		}
	}
}

// TestFilesAgree holds that all files have the same number of CPUs.
func TestFilesAgree(t *testing.T) {
	for machine := range recorded(t, "proc/stat") {
		h := recordedHost(t, machine)
		for n := 1; n <= len(h.Online.CPUs); n++ {
			c := CPUs{N: n, Limited: n < len(h.Online.CPUs), Host: h.Online.CPUs}
			k := new(Counters)
			k.Advance(1e10, 0, c, used(0, 0))
			stat := strings.Count(string(Stat(nil, h.Stat, k, nil)), "cpu") - 1
			info := parseCpuinfo(t, Cpuinfo(nil, h.Cpuinfo, c))
			list, err := ParseOnline(Online(nil, h.Online, c))
			if err != nil {
				t.Fatal(err)
			}
			if stat != n || len(info.blocks) != n || len(list.CPUs) != n {
				t.Errorf("%s: %d in stat, %d in cpuinfo, %d online, want %d", machine, stat, len(info.blocks), len(list.CPUs), n)
			}
			for i, cpu := range list.CPUs {
				if info.blocks[i].cpu != cpu || k.shown[i] != cpu {
					t.Errorf("%s: CPU %d is %d in cpuinfo and %d in stat", machine, cpu, info.blocks[i].cpu, k.shown[i])
				}
			}
			if len(info.summary) > 0 && !strings.Contains(string(info.text), fmt.Sprintf("# processors    : %d\n", n)) {
				t.Errorf("%s: summary does not say %d", machine, n)
			}
		}
	}
}
