// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package fusefs_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	cgroups "github.com/containerd/cgroups/v3"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"golang.org/x/tools/txtar"

	"github.com/podproc/podproc/fusefs"
	"github.com/podproc/podproc/fusefs/cgroup"
	"github.com/podproc/podproc/fusefs/procfile"
	"github.com/podproc/podproc/fusefs/view"
)

var update = flag.Bool("update", false, "rewrite want/ of testdata/machines")

// machine is a recorded machine: a txtar whose comment says what it is and
// which threads read ("Readers: 42 43"), with what the kernel shows in proc/,
// sys/ and cgroup/ and what each reader must be shown in want/<thread>/. A text
// "-> X" is a symlink, "! X" an error.
type machine struct {
	file    string
	archive *txtar.Archive
	root    string
	readers []uint32
	arch    string
}

func machines(t *testing.T) []*machine {
	files, err := filepath.Glob("testdata/machines/*.txtar")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d machines in testdata/machines (%v)", len(files), err)
	}
	var all []*machine
	for _, f := range files {
		all = append(all, openMachine(t, f))
	}
	return all
}

func openMachine(t *testing.T, file string) *machine {
	t.Helper()
	a, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{file: file, archive: a, root: t.TempDir()}
	for s := bufio.NewScanner(bytes.NewReader(a.Comment)); s.Scan(); {
		key, value, _ := strings.Cut(s.Text(), ": ")
		switch key {
		case "Arch":
			m.arch = value
		case "Readers":
			for _, f := range strings.Fields(value) {
				tid, err := strconv.ParseUint(f, 10, 32)
				if err != nil {
					t.Fatalf("%s: %v", file, err)
				}
				m.readers = append(m.readers, uint32(tid))
			}
		}
	}
	if m.arch == "" || len(m.readers) == 0 {
		t.Fatalf("%s: the comment has no line \"Arch: \" or \"Readers: \"", file)
	}
	for _, f := range a.Files {
		if !strings.HasPrefix(f.Name, "want/") {
			unpack(t, filepath.Join(m.root, f.Name), f.Data)
		}
	}
	return m
}

func unpack(t *testing.T, path string, text []byte) {
	t.Helper()
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if target, ok := bytes.CutPrefix(text, []byte("-> ")); err == nil && ok {
		err = os.Symlink(strings.TrimSpace(string(target)), path)
	} else if err == nil {
		err = os.WriteFile(path, text, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (m *machine) cgroups(t *testing.T) *cgroup.FS {
	t.Helper()
	fs, err := cgroup.New(cgroup.Config{
		Proc:        filepath.Join(m.root, "proc"),
		Cgroup:      filepath.Join(m.root, "cgroup"),
		NodeWideAge: -1,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { fs.Close() })
	return fs
}

func (m *machine) host(t *testing.T) *procfile.Host {
	t.Helper()
	h := new(procfile.Host)
	for s := range procfile.NumSources {
		text, err := os.ReadFile(filepath.Join(m.root, s.Path()))
		if os.IsNotExist(err) && strings.HasPrefix(s.Path(), "proc/pressure/") {
			continue // before Linux 4.20, or switched off
		}
		if err == nil {
			err = h.Parse(s, text)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return h
}

// now is the time of the recording, since boot.
func (m *machine) now(t *testing.T) time.Duration {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(m.root, "proc/uptime"))
	if err != nil {
		t.Fatal(err)
	}
	field, _, _ := strings.Cut(string(text), " ")
	s, err := strconv.ParseFloat(field, 64)
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(s*100) * (time.Second / 100)
}

// render shows a file to a reader, as FS does.
func (m *machine) render(t *testing.T, fs *cgroup.FS, host *procfile.Host, tid uint32, f *procfile.File) []byte {
	t.Helper()
	b, err := fs.Boundary(tid)
	if err != nil {
		t.Fatal(err)
	}
	c, err := fs.Open(b)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var cpu view.CPU
	var used view.CPUTime
	var load view.Load
	v := &procfile.Container{Memory: new(view.Memory), Tasks: new(view.Tasks), Counters: new(procfile.Counters), Load: new(procfile.Load), Pressure: new(view.Pressure), Disks: new(view.Disks)}
	birth, err := c.Birth()
	tasks := c.Tasks
	if f.Needs&procfile.NeedLoad != 0 {
		tasks = c.Visible
	}
	if err := errors.Join(err, c.Memory(v.Memory), c.CPU(&cpu), c.CPUTime(&used), tasks(v.Tasks), c.Load(&load, 100)); err != nil {
		t.Fatal(err)
	}
	v.CPUs = procfile.CountCPUs(&cpu, host.Online)
	v.Counters.Advance(m.now(t), birth, v.CPUs, &used)
	v.Load.Sample(m.now(t), birth, &load)
	switch {
	case f.Needs&procfile.NeedPressure != 0:
		err = c.Pressure(v.Pressure, f.Pressure)
	case f.Needs&procfile.NeedDisks != 0:
		err = c.Disks(v.Disks)
	}
	if errors.Is(err, cgroup.ErrNotCounted) {
		if b.Container() || f.Needs&procfile.NeedPressure != 0 && host.Pressure[f.Pressure] == nil {
			return []byte("! " + unix.EOPNOTSUPP.Error() + "\n")
		}
		v, err = nil, nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return f.Render(nil, host, v)
}

// TestMachines renders every file for every reader of every recorded machine.
func TestMachines(t *testing.T) {
	for _, m := range machines(t) {
		t.Run(strings.TrimSuffix(filepath.Base(m.file), ".txtar"), func(t *testing.T) {
			fs, host := m.cgroups(t), m.host(t)
			var got []txtar.File
			for _, tid := range m.readers {
				for i := range procfile.Files {
					f := &procfile.Files[i]
					text := m.render(t, fs, host, tid, f)
					checkText(t, f, text)
					got = append(got, txtar.File{Name: fmt.Sprintf("want/%d/%s", tid, f.Path), Data: text})
				}
			}
			m.compare(t, got)
		})
	}
}

// checkText checks what holds for every file of every container.
func checkText(t *testing.T, f *procfile.File, text []byte) {
	t.Helper()
	if !bytes.HasSuffix(text, []byte("\n")) && !(f.Empty && len(text) == 0) {
		t.Errorf("%s does not end in a newline: %q", f.Path, text)
	}
	if f.Path == "proc/meminfo" && len(text) >= 4095 {
		t.Errorf("%s has %d bytes; libuv reads 4095 and no more", f.Path, len(text))
	}
}

func (m *machine) compare(t *testing.T, got []txtar.File) {
	t.Helper()
	files := m.archive.Files
	wants := slices.IndexFunc(files, func(f txtar.File) bool { return strings.HasPrefix(f.Name, "want/") })
	if wants < 0 {
		wants = len(files)
	}
	if *update {
		m.archive.Files = append(files[:wants:wants], got...)
		if err := os.WriteFile(m.file, txtar.Format(m.archive), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want := map[string]string{}
	for _, f := range files[wants:] {
		want[f.Name] = string(f.Data)
	}
	for _, f := range got {
		text, ok := want[f.Name]
		delete(want, f.Name)
		if !ok {
			t.Errorf("no %s in %s (-update writes it)", f.Name, m.file)
		} else if diff := cmp.Diff(text, string(f.Data)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", f.Name, diff)
		}
	}
	for name := range want {
		t.Errorf("%s in %s is not rendered", name, m.file)
	}
}

// TestMachinesComplete holds that every file has a golden on v1, v2 and
// hybrid, and on each architecture that its format depends on.
func TestMachinesComplete(t *testing.T) {
	arches := []string{"x86_64"}
	needArches := map[string][]string{
		"proc/cpuinfo": {"x86_64", "aarch64", "armv7l", "ppc64le", "s390x", "riscv64"},
		"proc/meminfo": {"x86_64", "armv7l"}, // high memory
	}
	have := map[string]bool{}
	for _, m := range machines(t) {
		mode := m.cgroups(t).Mode()
		for _, f := range m.archive.Files {
			if rest, ok := strings.CutPrefix(f.Name, "want/"); ok {
				_, path, _ := strings.Cut(rest, "/")
				have[fmt.Sprint(path, mode)] = true
				have[path+m.arch] = true
			}
		}
	}
	for _, f := range procfile.Files {
		for _, mode := range []cgroups.CGMode{cgroups.Legacy, cgroups.Unified, cgroups.Hybrid} {
			if !have[fmt.Sprint(f.Path, mode)] {
				t.Errorf("%s has no golden in cgroup mode %d", f.Path, mode)
			}
		}
		need := needArches[f.Path]
		if need == nil {
			need = arches
		}
		for _, arch := range need {
			if !have[f.Path+arch] {
				t.Errorf("%s has no golden on %s", f.Path, arch)
			}
		}
	}
}

// A container whose cgroups were removed is gone in the successor, too: it
// cannot be found there any more, but by its name.
func TestApplyGone(t *testing.T) {
	m := openMachine(t, "testdata/machines/x86-v2-docker.txtar")
	config := fusefs.Config{Proc: m.root + "/proc", Sys: m.root + "/sys", Cgroup: m.root + "/cgroup"}
	active, err := fusefs.New(config)
	if err != nil {
		t.Fatal(err)
	}
	defer active.Close()
	next, err := fusefs.New(config)
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	active.SetJournal(func(r []byte) {
		if err := next.Apply(r); err != nil {
			t.Error(err)
		}
	})
	tid := m.readers[0]
	if _, err := active.Text("proc/stat", tid); err != nil {
		t.Fatal(err)
	}
	if n := next.Containers(); n != 1 {
		t.Fatalf("the successor knows %d containers, want 1", n)
	}
	b, err := m.cgroups(t).Boundary(tid)
	if err != nil {
		t.Fatal(err)
	}
	_, path, _ := strings.Cut(b.String(), ":")
	if err := os.RemoveAll(filepath.Join(m.root, "cgroup", path)); err != nil {
		t.Fatal(err)
	}
	name := b.String()
	gone := append(binary.AppendUvarint([]byte("g"), uint64(len(name))), name...)
	if err := next.Apply(gone); err != nil {
		t.Error(err)
	}
	if n := next.Containers(); n != 0 {
		t.Errorf("the successor knows %d containers, want none", n)
	}
	if err := next.Apply(gone); err != nil {
		t.Errorf("of what was not known: %v", err)
	}
}
