// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/podproc/podproc/fusefs/view"
)

func TestPressure(t *testing.T) {
	const text = "some avg10=0.00 avg60=0.12 avg300=0.00 total=1234\n"
	v2 := union(v2Root, in("cgroup/"+hexA, v2Cgroup("", "0", "")), process100("0::/"+hexA+"\n"), files{
		"cgroup/" + hexA + "/io.pressure":     text,
		"cgroup/" + hexA + "/memory.pressure": "garbage\n",
	})
	hybrid := func(path string) files {
		return union(in("cgroup/memory", v1Memory("", "0", "", "")), in("cgroup/memory/"+hexA, v1Memory("", "0", "", "")),
			in("cgroup/unified", files{"cgroup.controllers": "", "cgroup.procs": ""}),
			in("cgroup/unified/"+hexA, files{"cgroup.procs": "", "io.pressure": text}), files{"cgroup/unified/io.pressure": "some avg10=9.00\n"},
			process100("1:memory:/"+hexA+"\n0::"+path+"\n"))
	}
	for _, tt := range []struct {
		name string
		tree files
		r    view.Resource
		want string // "": ErrNotCounted, "!": another error
	}{
		{"v2", v2, view.IOResource, text},
		{"v2, none of it", v2, view.CPUResource, ""},
		{"v2, garbage", v2, view.MemoryResource, "!"},
		{"hybrid, with a v2 cgroup of its own", hybrid("/" + hexA), view.IOResource, text},
		{"hybrid, in the v2 root", hybrid("/"), view.IOResource, ""},
		{"v1", union(in("cgroup/memory", v1Memory("", "0", "", "")), in("cgroup/memory/"+hexA, v1Memory("", "0", "", "")),
			process100("1:memory:/"+hexA+"\n")), view.IOResource, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tr := newTree(t, tt.tree)
			v := view.Pressure{Text: []byte("what was there")}
			err := tr.container(tr.open(nil)).Pressure(&v, tt.r)
			switch {
			case tt.want == "" && !errors.Is(err, ErrNotCounted), tt.want == "!" && (err == nil || errors.Is(err, ErrNotCounted)):
				t.Errorf("error %v", err)
			case tt.want == "" || tt.want == "!":
				if len(v.Text) > 0 {
					t.Errorf("text %q with an error", v.Text)
				}
			case err != nil || string(v.Text) != tt.want:
				t.Errorf("%q, %v", v.Text, err)
			}
		})
	}
}

// TestKernelPressure: what is read is what the kernel says of the container; on
// v1, and where PSI is switched off, it says nothing.
func TestKernelPressure(t *testing.T) {
	fs := kernelFS(t, nil)
	g := newGroup(t, testRoot+"/"+hexA, limits(64*mib, 50000, 100000))
	_, c := g.openWaiting(fs)
	for r, name := range []string{"cpu.pressure", "io.pressure", "memory.pressure"} {
		var v view.Pressure
		err := c.Pressure(&v, view.Resource(r))
		want, readErr := os.ReadFile("/sys/fs/cgroup" + g.path + "/" + name)
		if g.v2 == nil || readErr != nil {
			if !errors.Is(err, ErrNotCounted) {
				t.Errorf("%s: %q, %v; the kernel: %v", name, v.Text, err, readErr)
			}
			continue
		}
		if got, want := words(string(v.Text)), words(string(want)); err != nil || got != want {
			t.Errorf("%s: %q, %v, the kernel has %q", name, got, err, want)
		}
	}
}

// words is text without its numbers.
func words(text string) string {
	return strings.Map(func(r rune) rune {
		if '0' <= r && r <= '9' {
			return -1
		}
		return r
	}, text)
}
