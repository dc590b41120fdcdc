// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"strings"
	"testing"
	"time"

	cgroups "github.com/containerd/cgroups/v3"
	"github.com/google/go-cmp/cmp"

	"github.com/podproc/podproc/fusefs/view"
)

const (
	mib = 1 << 20
	gib = 1 << 30

	podPath = "/kubepods/burstable/pod" + pod
	path1   = podPath + "/" + hexA
)

// podV1 is a container in a pod on v1: memory limited at container (256 MiB)
// and node, CPU at container (1.5) and pod (2).
var podV1 = union(emptyV1, process100(everywhere(cgroups.Legacy, path1)), dirs(cgroups.Legacy, path1),
	in("cgroup/memory"+path1, v1Memory("268435456", "104857600", "367001600", "115343360")),
	in("cgroup/memory"+podPath, v1Memory("", "110000000", "", "120000000")),
	in("cgroup/memory/kubepods/burstable", v1Memory("", "210000000", "", "220000000")),
	in("cgroup/memory/kubepods", v1Memory("8589934592", "6442450944", "", "6442450944")),
	in("cgroup/memory", v1Memory("", "7000000000", "", "7000000000")),
	in("cgroup/cpu,cpuacct"+path1, union(v1CPU("150000", "100000"), v1Acct("cpu user system\n0 5 6\n1 7 8\n"))),
	in("cgroup/cpu,cpuacct"+podPath, v1CPU("200000", "100000")),
	in("cgroup/cpu,cpuacct/kubepods/burstable", v1CPU("-1", "100000")),
	in("cgroup/cpu,cpuacct/kubepods", v1CPU("-1", "100000")),
	in("cgroup/cpu,cpuacct", v1CPU("-1", "100000")),
	in("cgroup/cpuset"+path1, v1CPUs("0-3", "1-2")),
	in("cgroup/pids"+path1, files{"pids.current": "12\n"}),
)

// podV2 is the same on v2.
var podV2 = union(v2Root, process100("0::"+path1+"\n"),
	in("cgroup"+path1, union(v2Cgroup("268435456", "104857600", "150000 100000"), files{
		"memory.swap.max": "98566144\n", "memory.swap.current": "10485760\n", "cpuset.cpus.effective": "1-2\n", "pids.current": "12\n",
	})),
	in("cgroup"+podPath, v2Cgroup("", "110000000", "200000 100000")),
	in("cgroup/kubepods/burstable", v2Cgroup("", "210000000", "")),
	in("cgroup/kubepods", v2Cgroup("8589934592", "6442450944", "")),
)

func TestMemory(t *testing.T) {
	statV1, statV2 := view.MemoryStat{}, view.MemoryStat{}
	if err := errors.Join(
		parseMemoryStat(&statV1, []byte(memoryStatTextV1), false),
		parseMemoryStat(&statV2, []byte(memoryStatTextV2), true)); err != nil {
		t.Fatal(err)
	}
	level := func(limit, usage, swapLimit, swapUsage uint64, cache *view.MemoryStat, nodeWide bool) view.MemoryLevel {
		l := view.MemoryLevel{
			Limit: view.Limit(limit), Usage: usage, SwapLimit: view.Limit(swapLimit), SwapUsage: swapUsage, NodeWide: nodeWide,
		}
		if cache != nil {
			reclaimable(&l, cache)
		}
		return l
	}
	const max = uint64(view.Unlimited)
	for name, tt := range map[string]struct {
		files files
		want  view.Memory
	}{
		"pod on v1": {podV1, view.Memory{
			Levels: []view.MemoryLevel{
				level(256*mib, 100*mib, 94*mib, 10*mib, &statV1, false),
				level(max, 0, max, 0, nil, false),
				level(max, 0, max, 0, nil, false),
				level(8*gib, 6*gib, max, 0, &statV1, true),
				level(max, 0, max, 0, nil, true),
			},
			Stat: statV1, SwapAccounted: true,
		}},
		"pod on v2": {podV2, view.Memory{
			Levels: []view.MemoryLevel{
				level(256*mib, 100*mib, 94*mib, 10*mib, &statV2, false),
				level(max, 0, max, 0, nil, false),
				level(max, 0, max, 0, nil, false),
				level(8*gib, 6*gib, max, 0, &statV2, true),
				level(max, 0, max, 0, nil, true),
			},
			Stat: statV2, SwapAccounted: true,
		}},
		"only the node is limited, v2": {union(podV2, in("cgroup"+path1, v2Cgroup("", "5", ""))), view.Memory{
			Levels: []view.MemoryLevel{
				level(max, 5, max, 0, nil, false),
				level(max, 0, max, 0, nil, false),
				level(max, 0, max, 0, nil, false),
				level(8*gib, 6*gib, max, 0, &statV2, true),
				level(max, 0, max, 0, nil, true),
			},
			SwapAccounted: true,
		}},
		"only the pod is limited, v1": {union(podV1,
			in("cgroup/memory"+path1, v1Memory("", "5", "", "6")),
			in("cgroup/memory"+podPath, v1Memory("104857600", "52428800", "", "52428800"))), view.Memory{
			Levels: []view.MemoryLevel{
				level(max, 5, max, 1, &statV1, false),
				level(100*mib, 50*mib, max, 0, &statV1, false),
				level(max, 0, max, 0, nil, false),
				level(8*gib, 6*gib, max, 0, &statV1, true),
				level(max, 0, max, 0, nil, true),
			},
			Stat: statV1, SwapAccounted: true,
		}},
		"v1 memsw below memory": {union(podV1,
			in("cgroup/memory"+path1, v1Memory("268435456", "104857600", "268435455", "104857599"))), view.Memory{
			Levels: []view.MemoryLevel{
				level(256*mib, 100*mib, 0, 0, &statV1, false),
				level(max, 0, max, 0, nil, false),
				level(max, 0, max, 0, nil, false),
				level(8*gib, 6*gib, max, 0, &statV1, true),
				level(max, 0, max, 0, nil, true),
			},
			Stat: statV1, SwapAccounted: true,
		}},
		"root on v2": {union(v2Root, process100("0::/\n")), view.Memory{
			Levels: []view.MemoryLevel{level(max, 0, max, 0, nil, true)},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			tr := newTree(t, tt.files)
			c := tr.container(tr.open(nil))
			var got view.Memory
			for range 2 { // into a value that was used before, too
				if err := c.Memory(&got); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			}
		})
	}
}

// without returns files without those whose name has the prefix.
func without(f files, prefix string) files {
	out := files{}
	for path, text := range f {
		if i := strings.LastIndexByte(path, '/'); !strings.HasPrefix(path[i+1:], prefix) {
			out[path] = text
		}
	}
	return out
}

func TestMemoryWithoutSwap(t *testing.T) {
	for name, f := range map[string]files{
		"v1": without(podV1, "memory.memsw."),
		"v2": without(podV2, "memory.swap."),
	} {
		tr := newTree(t, f)
		var v view.Memory
		if err := tr.container(tr.open(nil)).Memory(&v); err != nil {
			t.Fatal(name, err)
		}
		if l := v.Levels[0]; v.SwapAccounted || l.SwapLimit != view.Unlimited || l.SwapUsage != 0 || l.Limit != 256*mib {
			t.Errorf("%s: %+v", name, v)
		}
	}
}

// TestMemoryAbove: a boundary without the controller has the numbers of the
// nearest level above that has it.
func TestMemoryAbove(t *testing.T) {
	tr := newTree(t, union(podV2, in("cgroup"+podPath, v2Cgroup("209715200", "110000000", ""))))
	tr.remove("cgroup" + path1)
	tr.write("cgroup"+path1+"/cgroup.procs", "100\n")
	tr.write("cgroup"+podPath+"/cgroup.subtree_control", "io\n")
	c := tr.container(tr.open(nil))
	var m view.Memory
	if err := c.Memory(&m); err != nil {
		t.Fatal(err)
	}
	if len(m.Levels) != 4 || m.Levels[0].Limit != 200*mib || m.Levels[0].Usage != 110000000 || m.Stat.Anon == 0 {
		t.Errorf("%+v", m)
	}
	tr.write("cgroup"+path1+"/cpu.stat", "usage_usec 3\nuser_usec 2\n")
	var cpu view.CPU
	var used view.CPUTime
	var tasks view.Tasks
	if err := errors.Join(c.CPU(&cpu), c.CPUTime(&used), c.Tasks(&tasks)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(view.CPU{Quota: view.Unlimited, Cpuset: []int{0, 1, 2, 3}}, cpu); diff != "" {
		t.Error(diff)
	}
	if used.User != 2000 || used.System != 1000 || tasks.Known {
		t.Errorf("%+v %+v", used, tasks)
	}
}

func TestCPU(t *testing.T) {
	quotaV1 := func(container, pod, node string) files {
		return union(podV1,
			in("cgroup/cpu,cpuacct"+path1, v1CPU(container, "100000")),
			in("cgroup/cpu,cpuacct"+podPath, v1CPU(pod, "50000")),
			in("cgroup/cpu,cpuacct/kubepods", v1CPU(node, "100000")))
	}
	quotaV2 := func(container, pod, node string) files {
		return union(podV2,
			in("cgroup"+path1, v2Cgroup("", "5", container)),
			in("cgroup"+podPath, v2Cgroup("", "5", pod)),
			in("cgroup/kubepods", v2Cgroup("", "5", node)))
	}
	for name, tt := range map[string]struct {
		files files
		quota view.Limit
	}{
		"container, v1":             {quotaV1("150000", "-1", "-1"), 1500},
		"container, v2":             {quotaV2("150000 100000", "", ""), 1500},
		"pod is less, v1":           {quotaV1("150000", "50000", "-1"), 1000},
		"pod is less, v2":           {quotaV2("150000 100000", "50000 50000", ""), 1000},
		"node bounds, v1":           {quotaV1("150000", "-1", "120000"), 1200},
		"node bounds, v2":           {quotaV2("150000 100000", "", "120000 100000"), 1200},
		"node alone limits not, v1": {quotaV1("-1", "-1", "120000"), view.Unlimited},
		"node alone limits not, v2": {quotaV2("", "", "120000 100000"), view.Unlimited},
		"none, v1":                  {quotaV1("-1", "-1", "-1"), view.Unlimited},
		"none, v2":                  {quotaV2("", "", ""), view.Unlimited},
		"no CFS bandwidth, v1":      {without(podV1, "cpu.cfs"), view.Unlimited},
		"no CFS bandwidth, v2":      {without(podV2, "cpu.max"), view.Unlimited},
	} {
		t.Run(name, func(t *testing.T) {
			tr := newTree(t, tt.files)
			c := tr.container(tr.open(nil))
			var got view.CPU
			for range 2 {
				if err := c.CPU(&got); err != nil {
					t.Fatal(err)
				}
				if got.Quota != tt.quota {
					t.Errorf("quota %d, want %d", got.Quota, tt.quota)
				}
			}
		})
	}
}

func TestCpuset(t *testing.T) {
	dir := "cgroup/cpuset" + path1
	for name, tt := range map[string]struct {
		files files
		want  []int
	}{
		"effective, v1":     {podV1, []int{1, 2}},
		"effective, v2":     {podV2, []int{1, 2}},
		"before Linux 3.17": {union(without(podV1, "cpuset.effective"), in(dir, files{"cpuset.cpus": "0,3\n"})), []int{0, 3}},
		"never set":         {union(podV1, in(dir, v1CPUs("", "")), in("cgroup/cpuset"+podPath, v1CPUs("", "")), in("cgroup/cpuset/kubepods/burstable", v1CPUs("0-5", "4-5"))), []int{4, 5}},
	} {
		t.Run(name, func(t *testing.T) {
			tr := newTree(t, tt.files)
			var got view.CPU
			if err := tr.container(tr.open(nil)).CPU(&got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got.Cpuset); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestCPUTime(t *testing.T) {
	acct := func(f files) files {
		return union(without(podV1, "cpuacct."), in("cgroup/cpu,cpuacct"+path1, f))
	}
	for name, tt := range map[string]struct {
		files files
		want  view.CPUTime
	}{
		"v1": {podV1, view.CPUTime{User: 12, System: 14, PerCPU: []view.CPUUse{{User: 5, System: 6}, {User: 7, System: 8}}}},
		"v2": {podV2, view.CPUTime{User: 2000_000, System: 1000_000}},
		"v1 before Linux 4.9": {acct(files{"cpuacct.usage_percpu_user": "5 7 \n", "cpuacct.usage_percpu_sys": "6 8 \n"}),
			view.CPUTime{User: 12, System: 14, PerCPU: []view.CPUUse{{User: 5, System: 6}, {User: 7, System: 8}}}},
		"v1 before Linux 4.7": {acct(files{"cpuacct.stat": "user 3\nsystem 4\n"}), view.CPUTime{User: 30_000_000, System: 40_000_000}},
	} {
		t.Run(name, func(t *testing.T) {
			tr := newTree(t, tt.files)
			c := tr.container(tr.open(nil))
			var got view.CPUTime
			for range 2 {
				if err := c.CPUTime(&got); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(tt.want, got, cmp.Transformer("len0", func(u []view.CPUUse) []view.CPUUse { return append([]view.CPUUse{}, u...) })); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			}
		})
	}
}

// TestCPUTimeNotCounted: a container that its runtime put into no cpuacct
// cgroup must not get the whole machine's time, but v2's if it is there.
func TestCPUTimeNotCounted(t *testing.T) {
	hybrid := union(emptyHybrid, dirs(cgroups.Hybrid, path1), process100("4:memory:"+path1+"\n2:cpuacct:/\n0::/\n"),
		in("cgroup/cpuacct", v1Acct("cpu user system\n0 500 600\n")),
		in("cgroup/unified", files{"cpu.stat": "usage_usec 900\nuser_usec 800\n"}),
		in("cgroup/unified"+path1, files{"cpu.stat": "usage_usec 9\nuser_usec 8\n"}))
	tr := newTree(t, hybrid)
	var v view.CPUTime
	if err := tr.container(tr.open(nil)).CPUTime(&v); !errors.Is(err, ErrNotCounted) {
		t.Errorf("%v, %+v", err, v)
	}
	tr.write("proc/100/cgroup", "4:memory:"+path1+"\n2:cpuacct:/\n0::"+path1+"\n")
	if err := tr.container(tr.open(nil)).CPUTime(&v); err != nil || v.User != 8000 || v.System != 1000 {
		t.Errorf("%v, %+v", err, v)
	}
}

// TestHybridController: a controller without a v1 hierarchy is on v2.
func TestHybridController(t *testing.T) {
	f := without(podV2, "cgroup.controllers")
	tr := newTree(t, files{"cgroup/unified/cgroup.controllers": "memory pids\n", "cgroup/cpu/": "", "cgroup/cpuset/": ""})
	for path, text := range f {
		tr.write(strings.Replace(path, "cgroup/", "cgroup/unified/", 1), text)
	}
	tr.write("proc/100/cgroup", "2:cpuset:/\n1:cpu:/\n0::"+path1+"\n")
	c := tr.container(tr.open(nil))
	var m view.Memory
	var tasks view.Tasks
	if err := errors.Join(c.Memory(&m), c.Tasks(&tasks)); err != nil {
		t.Fatal(err)
	}
	if m.Levels[0].Limit != 256*mib || tasks.Total != 12 {
		t.Errorf("%+v %+v", m, tasks)
	}
}

func TestTasks(t *testing.T) {
	for name, f := range map[string]files{"v1": podV1, "v2": podV2} {
		tr := newTree(t, f)
		var got view.Tasks
		if err := tr.container(tr.open(nil)).Tasks(&got); err != nil || !got.Known || got.Total != 12 {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestBirth(t *testing.T) {
	tr := newTree(t, union(podV2,
		in("cgroup"+path1, files{"cgroup.procs": "100\n101\n0\n"}),
		in("cgroup"+path1+"/init.scope", files{"cgroup.procs": "102\n103\n"}),
		files{"proc/101/stat": stat("0", "4000"), "proc/102/stat": stat("0", "3000")}, // 103 has ended
	))
	c := tr.container(tr.open(nil))
	if got, err := c.Birth(); err != nil || got != 30*time.Second {
		t.Errorf("%v, %v; want 30s", got, err)
	}
	tr.write("proc/102/stat", "half")
	if got, err := c.Birth(); err == nil || !strings.Contains(err.Error(), `proc/102/stat: no field 22 in "half"`) {
		t.Errorf("%v, %v", got, err)
	}
	tr.write("cgroup"+path1+"/cgroup.procs", "")
	tr.remove("cgroup" + path1 + "/init.scope")
	if got, err := c.Birth(); !errors.Is(err, ErrNoProcess) {
		t.Errorf("empty: %v, %v", got, err)
	}
}
