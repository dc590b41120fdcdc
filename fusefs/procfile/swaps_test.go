// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package procfile

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/podproc/podproc/fusefs/view"
)

const swapsHeader = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"

// swapSums adds up sizes and uses as util-linux reads them.
func swapSums(t testing.TB, text []byte) (size, used uint64) {
	t.Helper()
	lines := strings.SplitAfter(strings.TrimSuffix(string(text), "\n"), "\n")
	for _, line := range lines[1:] {
		var name, kind string
		var s, u uint64
		var priority int
		if n, err := fmt.Sscanf(line, "%s %s %d %d %d", &name, &kind, &s, &u, &priority); n != 5 || err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		if u > s {
			t.Fatalf("more used than there is: %q", line)
		}
		size, used = size+s, used+u
	}
	return size, used
}

func TestSwapsSize(t *testing.T) {
	sizes := map[int]bool{}
	own := map[int]bool{}
	for used := 1; used < 10_000_000; used *= 10 {
		h, err := ParseSwaps(fmt.Appendf(nil, "%s/dev/sda2                               partition\t20971516\t%d\t\t-2\n", swapsHeader, used))
		if err != nil {
			t.Fatal(err)
		}
		sizes[len(Swaps(nil, h, nil, nil))] = true
		m, err := ParseMeminfo(smallHost(16<<20, 2<<20, 9<<20, 20971516, 20971516-used))
		if err != nil {
			t.Fatal(err)
		}
		own[len(Swaps(nil, h, m, &view.Memory{SwapAccounted: true, Levels: []view.MemoryLevel{
			{Limit: gib, SwapLimit: 8 * gib, SwapUsage: uint64(used) << 10}}}))] = true
	}
	if len(sizes) != 1 || len(own) != 1 {
		t.Errorf("sizes %v and %v", sizes, own)
	}
}

func TestParseSwaps(t *testing.T) {
	for name, line := range map[string]string{
		"partition":        "/dev/sda2                               partition\t2097148\t\t0\t\t-2\n",
		"large":            "/dev/sda2                               partition\t20971480\t12000000\t-2\n",
		"old-kernel":       "/dev/sda2                               partition\t2097148\t0\t-1\n",
		"file-with-blank":  "/var/swap\\040file                        file\t\t102396\t\t0\t\t-2\n",
		"deleted":          "/var/swap (deleted)                     file\t\t102396\t\t0\t\t-2\n",
		"long-name":        "/very/long/name/of/a/file/that/is/used/for/swap file\t\t102396\t\t0\t\t-2\n",
		"number-for-name":  "2                                       file\t\t2\t\t2\t\t2\n",
		"high-in-priority": "/dev/zram0                              partition\t8388604\t\t0\t\t100\n",
	} {
		text := swapsHeader + line
		h, err := ParseSwaps([]byte(text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(squeeze([]byte(text)), squeeze(Swaps(nil, h, nil, nil))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	for name, text := range map[string]string{
		"empty":            "",
		"no-header":        "/dev/sda2 partition 1 0 -2\n",
		"too-few-fields":   swapsHeader + "/dev/sda2 partition 1 0\n",
		"too-many-fields":  swapsHeader + "/dev/sda2 partition 1 0 -2 7 8\n",
		"size-no-number":   swapsHeader + "/dev/sda2 partition 1k 0 -2\n",
		"negative-used":    swapsHeader + "/dev/sda2 partition 1 -1 -2\n",
		"cut-short":        swapsHeader + "/dev/sda2 partition 1 0 -2",
		"somebody-elses":   "MemTotal: 1 kB\n",
		"used-above-limit": swapsHeader + "/dev/sda2 partition 99999999999999999999 0 -2\n",
	} {
		if _, err := ParseSwaps([]byte(text)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
