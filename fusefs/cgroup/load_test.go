// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/podproc/podproc/fusefs/view"
)

// thread is a task in a state, with a number in each pid namespace.
func thread(id int, state string, pids ...string) files {
	dir := fmt.Sprintf("proc/%d", id)
	return union(
		files{fmt.Sprintf("%s/task/%d/stat", dir, id): strings.Replace(stat("0", "5000"), ") S ", ") "+state+" ", 1)},
		files{dir + "/status": "Name:\ta\nNSpid:\t" + strings.Join(pids, "\t") + "\n"},
	)
}

func TestLoad(t *testing.T) {
	const top = "cgroup/pods/" + hexA
	tr := newTree(t, union(v2Root,
		in("cgroup/pods", v2Cgroup("", "0", "")),
		in(top, v2Cgroup("64000000", "1000", "")),
		in(top+"/below", v2Cgroup("", "0", "")),
		files{
			"cgroup/pods/pids.current":     "40\n",
			top + "/cgroup.procs":          "100\n",
			top + "/cgroup.threads":        "100\n101\n102\n109\n",
			top + "/below/cgroup.procs":    "103\n104\n",
			top + "/below/cgroup.threads":  "103\n104\n",
			"cgroup/pods/cgroup.threads":   "1\n",
			"proc/100/cgroup":              "0::/pods/" + hexA + "\n",
			"proc/100/ns/pid":              "-> pid:[4026532000]",
			"proc/100/stat":                stat("0", "5000"),
			"proc/1/task/1/stat":           strings.Replace(stat("0", "1"), ") S ", ") R ", 1),
			"proc/109/task/109/stat/ended": "", // a task that ends while it is looked at
		},
		thread(100, "S", "100", "1"), thread(101, "R", "101", "2"), thread(102, "I", "102", "3"),
		thread(103, "D", "103", "4"), thread(104, "R", "104", "6", "1"), // in a namespace of its own
	))
	tr.remove("proc/109")
	c := tr.container(tr.open(nil))
	var v view.Load
	if err := c.Load(&v, 100); err != nil || v != (view.Load{Running: 2, Blocked: 1, Total: 6, LastPID: 6}) {
		t.Errorf("%+v, %v", v, err)
	}
	var visible view.Tasks
	if err := c.Visible(&visible); err != nil || visible != (view.Tasks{Known: true, Total: 7}) {
		t.Errorf("%+v, %v", visible, err)
	}
}

// Of many tasks, so many are looked at; the rest is inferred.
func TestLoadOfMany(t *testing.T) {
	const top = "cgroup/pods/" + hexA
	fs := union(v2Root, in("cgroup/pods", v2Cgroup("", "0", "")), in(top, v2Cgroup("", "1000", "")), process100("0::/pods/"+hexA+"\n"))
	var ids strings.Builder
	for id := 200; id < 500; id++ {
		state := map[bool]string{true: "R", false: "S"}[id%3 == 0]
		fs = union(fs, thread(id, state, fmt.Sprint(id)))
		fmt.Fprintf(&ids, "%d\n", id)
	}
	fs[top+"/cgroup.threads"] = ids.String()
	tr := newTree(t, fs)
	c := tr.container(tr.open(nil))
	var v view.Load
	for _, tt := range []struct{ most, lo, hi int }{{300, 100, 100}, {1000, 100, 100}, {100, 0, 300}, {299, 97, 103}, {1, 0, 300}, {0, 0, 300}} {
		if err := c.Load(&v, tt.most); err != nil || int(v.Running) < tt.lo || int(v.Running) > tt.hi || v.Total != 300 || v.LastPID != 499 {
			t.Errorf("at most %d: %+v, %v", tt.most, v, err)
		}
	}
}

// What a process sees in /proc where it shares its pid namespace.
func TestVisible(t *testing.T) {
	const path = "/kubepods/pod" + pod + "/" + hexA
	none := view.Tasks{}
	for _, tt := range []struct {
		name, pids string
		own        string // pids.current of the container, and of its pod
		pod        string
		want       view.Tasks
	}{
		{"its own init", "100\t1", "7\n", "40\n", view.Tasks{Known: true, Total: 7}},
		{"the pod's", "100\t12", "7\n", "40\n", view.Tasks{Known: true, Total: 40}},
		{"the node's", "100", "7\n", "40\n", none},
		{"the pod's, not counted there", "100\t12", "7\n", "", none},
		{"its own, not counted", "100\t1", "", "40\n", none},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fs := union(v2Root, in("cgroup/kubepods", v2Cgroup("", "0", "")), in("cgroup/kubepods/pod"+pod, v2Cgroup("", "0", "")),
				in("cgroup"+path, v2Cgroup("", "0", "")), process100("0::"+path+"\n"), files{
					"proc/100/status":                                       "Name:\ta\nNSpid:\t" + tt.pids + "\n",
					"cgroup" + path + "/pids.current":                       tt.own,
					"cgroup/kubepods/pod" + pod + "/pids.current":           tt.pod,
					"cgroup/kubepods/cgroup.subtree_control":                "memory cpu cpuset\n",
					"cgroup/kubepods/pod" + pod + "/cgroup.subtree_control": "memory cpu cpuset\n",
				})
			tr := newTree(t, fs)
			if tt.own == "" {
				tr.remove("cgroup" + path + "/pids.current")
			}
			if tt.pod == "" {
				tr.remove("cgroup/kubepods/pod" + pod + "/pids.current")
			}
			var got view.Tasks
			if err := tr.container(tr.open(nil)).Visible(&got); err != nil || got != tt.want {
				t.Errorf("%+v, %v, want %+v", got, err, tt.want)
			}
		})
	}
}

// TestKernelLoad: tasks are counted as the kernel has them: a busy process, an
// idle one, and what was removed.
func TestKernelLoad(t *testing.T) {
	fs := kernelFS(t, nil)
	g := newGroup(t, testRoot+"/"+hexA, limits(64*mib, -1, 100000))
	idle, c := g.openWaiting(fs)
	var v view.Load
	if err := eventually(func() error {
		entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", idle.pid()))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Load(&v, 1000); err != nil {
			t.Fatal(err)
		}
		if v.Running != 0 || v.Blocked != 0 || v.Total != uint64(len(entries)) || v.LastPID < uint64(idle.pid()) {
			return fmt.Errorf("%+v for an idle process of %d threads", v, len(entries))
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	busy := startChild(t, "burn", 0)
	g.add(busy.pid())
	if _, err := busy.in.Write([]byte(strings.Repeat("x", 1000))); err != nil { // minutes of it
		t.Fatal(err)
	}
	if err := eventually(func() error {
		if err := c.Load(&v, 1000); err != nil {
			t.Fatal(err)
		}
		if v.Running == 0 {
			return fmt.Errorf("%+v with a busy process", v)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	busy.end()
	idle.end()
	g.remove()
	if err := c.Load(&v, 1000); !errors.Is(err, ErrGone) {
		t.Errorf("after its removal: %+v, %v", v, err)
	}
}

func FuzzStatState(f *testing.F) {
	f.Add([]byte(stat("0", "1")))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := statState(b); err == nil && !strings.Contains(string(b), ") "+string(rune(s))+" ") && s < 0x80 {
			t.Errorf("%q is %c", b, s)
		}
	})
}
