// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	cgroups "github.com/containerd/cgroups/v3"
	"github.com/google/go-cmp/cmp"
)

// emptyV1 is v1 with cpu and cpuacct mounted together, as distributions do.
var emptyV1 = files{
	"cgroup/blkio/":       "",
	"cgroup/cpu,cpuacct/": "",
	"cgroup/cpu":          "-> cpu,cpuacct",
	"cgroup/cpuacct":      "-> cpu,cpuacct",
	"cgroup/cpuset/":      "",
	"cgroup/memory/":      "",
	"cgroup/pids/":        "",
	"cgroup/systemd/":     "",
}

// emptyHybrid has each controller by itself, and a v2 hierarchy with none.
var emptyHybrid = files{
	"cgroup/cpu/":                       "",
	"cgroup/cpuacct/":                   "",
	"cgroup/cpuset/":                    "",
	"cgroup/memory/":                    "",
	"cgroup/pids/":                      "",
	"cgroup/systemd/":                   "",
	"cgroup/unified/cgroup.controllers": "\n",
}

// everywhere is /proc/PID/cgroup with one path in all hierarchies.
func everywhere(mode cgroups.CGMode, path string) string {
	switch mode {
	case cgroups.Unified:
		return "0::" + path + "\n"
	case cgroups.Legacy:
		return strings.ReplaceAll("9:name=systemd:@\n8:pids:@\n7:blkio:@\n5:devices:@\n4:memory:@\n3:cpuset:@\n2:cpu,cpuacct:@\n", "@", path)
	}
	return strings.ReplaceAll("9:name=systemd:@\n8:pids:@\n4:memory:@\n3:cpuset:@\n2:cpuacct:@\n1:cpu:@\n0::@\n", "@", path)
}

// dirs makes the directory of a cgroup path in every hierarchy.
func dirs(mode cgroups.CGMode, path string) files {
	f := files{}
	for _, h := range map[cgroups.CGMode][]string{
		cgroups.Unified: {"."},
		cgroups.Legacy:  {"blkio", "cpu,cpuacct", "cpuset", "memory", "pids"},
		cgroups.Hybrid:  {"cpu", "cpuacct", "cpuset", "memory", "pids", "unified"},
	}[mode] {
		f["cgroup/"+h+path+"/"] = ""
	}
	return f
}

var modes = map[string]struct {
	mode cgroups.CGMode
	root files
}{
	"v1":     {cgroups.Legacy, emptyV1},
	"v2":     {cgroups.Unified, v2Root},
	"hybrid": {cgroups.Hybrid, emptyHybrid},
}

// TestBoundaryLayouts is every layout on every mode.
func TestBoundaryLayouts(t *testing.T) {
	for modeName, m := range modes {
		for name, layout := range layouts {
			t.Run(modeName+"/"+name, func(t *testing.T) {
				want, rest, found := strings.Cut(layout, "|")
				tr := newTree(t, union(m.root, dirs(m.mode, want+rest), process100(everywhere(m.mode, want+rest))))
				fs := tr.open(nil)
				if fs.Mode() != m.mode {
					t.Errorf("mode %v, want %v", fs.Mode(), m.mode)
				}
				b, err := fs.Boundary(100)
				if err != nil {
					t.Fatal(err)
				}
				if b.Container() != found || b.Root() != (layout == "/") {
					t.Errorf("%s: container %v, root %v", b, b.Container(), b.Root())
				}
				for line := range strings.Lines(b.paths) {
					if _, path, _ := strings.Cut(line, ":"); path != want+"\n" {
						t.Errorf("boundary %s, want %s", line, want)
					}
				}
				checkRoundTrip(t, fs, b)
			})
		}
	}
}

func checkRoundTrip(t *testing.T, fs *FS, b Boundary) {
	t.Helper()
	again, err := fs.Reopen(b.String())
	if err != nil || again != b {
		t.Errorf("Reopen(%s) = %s, %v", b, again, err)
	}
	if b.ID()>>55 != 0 {
		t.Errorf("id %x does not fit into 55 bits", b.ID())
	}
}

// TestBoundaryPerController: on v1 a thread can be in other cgroups of other
// controllers.
func TestBoundaryPerController(t *testing.T) {
	tr := newTree(t, union(emptyV1,
		files{"cgroup/memory/docker/" + hexA + "/app/": "", "cgroup/cpu,cpuacct/docker/" + hexA + "/": ""},
		process100("4:memory:/docker/"+hexA+"/app\n3:cpuset:/\n2:cpu,cpuacct:/docker/"+hexA+"\n"),
	))
	fs := tr.open(nil)
	b, err := fs.Boundary(100)
	if err != nil {
		t.Fatal(err)
	}
	want := "cpu,cpuacct:/docker/" + hexA + "\ncpuset:/\nmemory:/docker/" + hexA + "\n"
	if diff := cmp.Diff(want, b.paths); diff != "" || !b.Container() || b.Root() {
		t.Errorf("%s (-want +got):\n%s", b, diff)
	}
	checkRoundTrip(t, fs, b)
}

// TestBoundaryWithoutMemory: a container that memory does not know still has
// an id of its own.
func TestBoundaryWithoutMemory(t *testing.T) {
	tr := newTree(t, union(emptyV1,
		files{"cgroup/cpu,cpuacct/docker/" + hexA + "/": "", "cgroup/cpu,cpuacct/docker/" + hexB + "/": ""},
		in("proc/100", files{"cgroup": "4:memory:/\n2:cpu,cpuacct:/docker/" + hexA + "\n", "stat": stat("0", "1")}),
		in("proc/101", files{"cgroup": "4:memory:/\n2:cpu,cpuacct:/docker/" + hexB + "\n", "stat": stat("0", "1")}),
	))
	fs := tr.open(nil)
	a, err := fs.Boundary(100)
	if err != nil {
		t.Fatal(err)
	}
	b, err := fs.Boundary(101)
	if err != nil {
		t.Fatal(err)
	}
	if a.ID() == b.ID() || !a.Container() {
		t.Errorf("%s and %s", a, b)
	}
	checkRoundTrip(t, fs, a)
}

// namespaced is a thread in a pid namespace of its own, whose init is 90.
func namespaced(tid, cgroup, nspid string) files {
	return in("proc/"+tid, files{
		"cgroup": "0::" + cgroup + "\n",
		"status": "Name:\ta\nNSpid:\t" + tid + "\t" + nspid + "\nNSpgid:\t1\n",
		"stat":   stat("0", "1"),
		"ns/pid": "-> pid:[4026532222]",
	})
}

// TestBoundaryNamespace is the rule for containers whose cgroup has no name
// that tells: LXC, systemd-nspawn, unshare.
func TestBoundaryNamespace(t *testing.T) {
	for name, tt := range map[string]struct {
		init, reader, want string
		container          bool
	}{
		"init itself":                {"/lxc/web", "/lxc/web", "/lxc/web", true},
		"below init":                 {"/lxc/web", "/lxc/web/a/b", "/lxc/web", true},
		"systemd inside":             {"/lxc/web/init.scope", "/lxc/web/system.slice/x.service", "/lxc/web", true},
		"systemd inside, init":       {"/lxc/web/init.scope", "/lxc/web/init.scope", "/lxc/web", true},
		"init at the root":           {"/", "/lxc/web", "/", false},
		"init elsewhere":             {"/lxc/other", "/lxc/web", "/lxc/web", false},
		"init below the reader":      {"/lxc/web/a", "/lxc/web", "/lxc/web", false},
		"a name that is only longer": {"/lxc/we", "/lxc/web", "/lxc/web", false},
		"a container's name wins":    {"/", "/docker/" + hexA + "/a", "/docker/" + hexA, true},
	} {
		t.Run(name, func(t *testing.T) {
			tr := newTree(t, union(v2Root,
				dirs(cgroups.Unified, tt.reader), dirs(cgroups.Unified, tt.init), dirs(cgroups.Unified, tt.want),
				files{
					"cgroup" + strings.TrimSuffix(tt.reader, "/") + "/cgroup.procs": "100\n91\n92\n",
					"cgroup" + strings.TrimSuffix(tt.init, "/") + "/cgroup.procs":   "0\n91\n90\n",
				},
				namespaced("100", tt.reader, "7"), namespaced("90", tt.init, "1"),
				// An init of another namespace, and a process that is gone.
				in("proc/91", files{"ns/pid": "-> pid:[4026533333]", "status": "\nNSpid:\t91\t1\n"}),
			))
			if tt.init == tt.reader {
				tr.write("cgroup"+tt.init+"/cgroup.procs", "100\n91\n92\n90\n")
			}
			fs := tr.open(nil)
			b, err := fs.Boundary(100)
			if err != nil {
				t.Fatal(err)
			}
			if b.paths != ":"+tt.want+"\n" || b.Container() != tt.container {
				t.Errorf("%s, container %v; want %s, %v", b, b.Container(), tt.want, tt.container)
			}
			checkRoundTrip(t, fs, b)
		})
	}
}

func TestBoundaryErrors(t *testing.T) {
	v2 := func(cgroup string) files { return union(v2Root, process100(cgroup)) }
	for name, tt := range map[string]struct {
		files files
		is    error
		text  string
	}{
		"no such thread":            {v2Root, ErrNoProcess, "thread 100: no such process"},
		"ended since":               {union(v2Root, files{"proc/100/": ""}), ErrNoProcess, "thread 100"},
		"about to end":              {union(emptyV1, process100(everywhere(cgroups.Legacy, "/")), in("proc/100", files{"stat": stat("4194564", "1")})), ErrNoProcess, "thread 100"},
		"about to end in between":   {union(emptyV1, process100("4:memory:/docker/"+hexA+"\n2:cpu,cpuacct:/\n"), in("proc/100", files{"stat": stat("4", "1")})), ErrNoProcess, "thread 100"},
		"namespaced":                {v2("0::/../../docker/" + hexA + "\n"), ErrNamespaced, "/../../docker/"},
		"cgroup gone":               {v2("0::/docker/" + hexA + "\n"), ErrGone, "/docker/" + hexA + ": cgroup is gone"},
		"cgroup gone, marked":       {union(v2("0::/docker/"+hexA+" (deleted)\n"), dirs(cgroups.Unified, "/docker")), ErrGone, "(deleted): cgroup is gone"},
		"empty":                     {v2(""), nil, `cgroup: "" does not end in a newline`},
		"half a line":               {v2("0::/docker/" + hexA[:9]), nil, "does not end in a newline"},
		"too few fields":            {v2("0:/a\n"), nil, `"0:/a\n" is not ID:CONTROLLERS:PATH`},
		"relative path":             {v2("0::a\n"), nil, "does not begin with /"},
		"no hierarchy that we have": {v2("1:name=systemd:/\n"), nil, "none of the mounted hierarchies"},
		"two paths":                 {v2("0::/a\n0::/b\n"), nil, "second path"},
		"status without NSpid":      {union(v2("0::/\n"), in("proc/100", files{"status": "Name:\ta\n"})), nil, "status: no NSpid line"},
		"garbage in NSpid":          {union(v2("0::/\n"), in("proc/100", files{"status": "Name:\ta\nNSpid:\tx\n"})), nil, `NSpid:"\tx"`},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := newTree(t, tt.files).open(nil).Boundary(100)
			if err == nil {
				t.Fatalf("got %s", b)
			}
			for _, is := range []error{ErrGone, ErrNoProcess, ErrNamespaced, ErrNotCounted} {
				if errors.Is(err, is) != (is == tt.is) {
					t.Errorf("%v is %v: %v", err, is, errors.Is(err, is))
				}
			}
			if !strings.Contains(err.Error(), tt.text) {
				t.Errorf("%v, want %s", err, tt.text)
			}
		})
	}
}

// TestBoundaryDeletedName: a cgroup may really be called "x (deleted)".
func TestBoundaryDeletedName(t *testing.T) {
	fs := newTree(t, union(v2Root, dirs(cgroups.Unified, "/x (deleted)"), process100("0::/x (deleted)\n"))).open(nil)
	if b, err := fs.Boundary(100); err != nil || b.paths != ":/x (deleted)\n" {
		t.Error(b, err)
	}
}

func TestReopenErrors(t *testing.T) {
	tr := newTree(t, union(v2Root, dirs(cgroups.Unified, "/docker/"+hexA), process100("0::/docker/"+hexA+"\n")))
	fs := tr.open(nil)
	b, err := fs.Boundary(100)
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]string{
		"empty":                "",
		"unknown kind":         strings.Replace(b.String(), "named", "other", 1),
		"no id":                "named  :/a",
		"no path":              "named 12 ",
		"hierarchy of another": "named 12 memory:/a",
		"path leads out":       "named 12 :/../a",
		"two paths":            b.String() + "\n:/a",
		"empty line":           b.String() + "\n",
	} {
		if got, err := fs.Reopen(s); err == nil || errors.Is(err, ErrGone) {
			t.Errorf("%s: Reopen(%q) = %s, %v", name, s, got, err)
		}
	}
	// The same path, but another cgroup. The old directory is kept, so that
	// its inode number is not used again.
	dir := filepath.Join(tr.root, "cgroup/docker")
	if err := os.Rename(filepath.Join(dir, hexA), filepath.Join(dir, "old")); err != nil {
		t.Fatal(err)
	}
	if got, err := fs.Reopen(b.String()); !errors.Is(err, ErrGone) {
		t.Errorf("removed: %s, %v", got, err)
	}
	tr.write("cgroup/docker/"+hexA+"/", "")
	if got, err := fs.Reopen(b.String()); !errors.Is(err, ErrGone) {
		t.Errorf("made again: %s, %v", got, err)
	}
	if c, err := fs.Open(b); !errors.Is(err, ErrGone) {
		t.Errorf("Open of what was made again: %v, %v", c, err)
	}
}

func TestNewErrors(t *testing.T) {
	for name, tt := range map[string]struct {
		files  files
		change func(*Config)
		want   string
	}{
		"nothing mounted": {nil, nil, "no cgroup hierarchy under"},
		"only systemd":    {files{"cgroup/systemd/": ""}, nil, "no cgroup hierarchy under"},
		"no cgroup root":  {nil, func(c *Config) { c.Cgroup += "x" }, "find cgroup hierarchies"},
		"no proc":         {v2Root, func(c *Config) { c.Proc += "x" }, "open"},
		"no descriptor":   {v2Root, func(c *Config) { c.MaxOpen = -1 }, "at least one"},
	} {
		tr := newTree(t, tt.files)
		cfg := tr.config()
		if tt.change != nil {
			tt.change(&cfg)
		}
		if fs, err := New(cfg); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, %v", name, fs, err)
		}
	}
}

func FuzzBoundary(f *testing.F) {
	for name, m := range modes {
		for _, layout := range layouts {
			f.Add(name == "v2", []byte(everywhere(m.mode, strings.Replace(layout, "|", "", 1))))
		}
	}
	f.Add(true, []byte("0::/../..\n"))
	v1 := newTree(f, emptyHybrid).open(nil)
	v2 := newTree(f, v2Root).open(nil)
	f.Fuzz(func(t *testing.T, pure bool, b []byte) {
		fs := v1
		if pure {
			fs = v2
		}
		places, err := fs.parseCgroup(b)
		if err != nil {
			return
		}
		if len(places) == 0 || b[len(b)-1] != '\n' {
			t.Fatalf("%q gives %v", b, places)
		}
		for i, p := range places {
			if i > 0 && p.h.index <= places[i-1].h.index {
				t.Fatalf("%q gives hierarchies out of order", b)
			}
			if checkPath(p.path) != nil || !strings.Contains(string(b), ":"+p.path+"\n") {
				t.Fatalf("%q gives path %q", b, p.path)
			}
		}
	})
}

// FuzzReopen: whatever a predecessor sent, an accepted string is the one that
// the boundary has itself.
func FuzzReopen(f *testing.F) {
	f.Add("named 12 :/docker/" + hexA)
	f.Add("own 1 cpu:/a\nmemory:/b:c\npids:/")
	f.Add("namespace 18446744073709551615 :/lxc")
	v1 := newTree(f, emptyHybrid).open(nil)
	v2 := newTree(f, v2Root).open(nil)
	f.Fuzz(func(t *testing.T, s string) {
		for _, fs := range []*FS{v1, v2} {
			b, _, err := fs.parseBoundary(s)
			if err != nil {
				continue
			}
			again, places, err := fs.parseBoundary(b.String())
			if err != nil || again != b {
				t.Fatalf("%q gives %q, that gives %q, %v", s, b, again, err)
			}
			for _, p := range places {
				if checkPath(p.path) != nil {
					t.Fatalf("%q gives path %q", s, p.path)
				}
			}
		}
	})
}
