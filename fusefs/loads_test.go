// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package fusefs_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/podproc/podproc/fusefs"
)

// TestLoadCrosses: a successor goes on with a container's load average, from
// what the journal had or from the whole state, and it is kept when all is
// lost.
func TestLoadCrosses(t *testing.T) {
	m := openMachine(t, "testdata/machines/x86-v2-kubepods-systemd.txtar")
	stats, err := filepath.Glob(m.root + "/proc/*/task/*/stat")
	if err != nil || len(stats) == 0 {
		t.Fatalf("no tasks (%v)", err)
	}
	change := func(from, to string) {
		for _, path := range append(stats, m.root+"/proc/4242/stat") {
			text, err := os.ReadFile(path)
			if err == nil {
				err = os.WriteFile(path, bytes.Replace(text, []byte(from), []byte(to), 1), 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	change(" 360000 ", " 100 ") // started with the machine, however young that is
	var journal [][]byte
	open := func() *fusefs.FS {
		fs, err := fusefs.New(fusefs.Config{
			Proc: m.root + "/proc", Sys: m.root + "/sys", Cgroup: m.root + "/cgroup",
			Journal: func(r []byte) { journal = append(journal, slices.Clone(r)) },
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { fs.Close() })
		return fs
	}
	load := func(fs *fusefs.FS) (average [3]float64) {
		text, err := fs.Text("proc/loadavg", 4242)
		if err == nil {
			_, err = fmt.Sscan(string(text), &average[0], &average[1], &average[2])
		}
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		return average
	}
	first := open()
	before := load(first)
	if before[0] <= 0 || before[0] > 2 {
		t.Fatalf("load is %v with a running and a blocked task", before)
	}
	record := slices.IndexFunc(journal, func(r []byte) bool { return r[0] == 'l' })
	if record < 0 || !fusefs.Lasting(journal[record]) {
		t.Fatalf("no lasting record of the load in %q", journal)
	}
	records := [][][]byte{journal[record : record+1], nil}
	first.Records(func(r []byte) { records[1] = append(records[1], slices.Clone(r)) })

	change("(app) R", "(app) S")
	change("(app) D", "(app) S")
	if lost := load(open()); lost != [3]float64{} {
		t.Errorf("load is %v with idle tasks alone", lost)
	}
	for _, state := range records {
		next := open()
		for _, r := range state {
			if err := next.Apply(r); err != nil {
				t.Errorf("%q: %v", r, err)
			}
		}
		// That over 15 minutes halves in 10.
		if after := load(next); after[0] <= 0 || after[0] > before[0] || after[2] < before[2]/2 {
			t.Errorf("load is %v after a takeover, was %v", after, before)
		}
	}
	// One that knows no load averages passes over the record, as this does
	// over what it does not know.
	unknown := append([]byte{'?'}, journal[record][1:]...)
	if err := open().Apply(unknown); err != nil {
		t.Error(err)
	}
	if err := open().Apply(journal[record][:len(journal[record])-2]); err == nil {
		t.Error("a record that is cut off was taken")
	}
}

// TestNotCounted: what the kernel does not count for a container cannot be
// read, and is not taken from the machine; who is in none has the machine's.
func TestNotCounted(t *testing.T) {
	m := openMachine(t, "testdata/machines/x86-v1-unlimited.txtar")
	fs, err := fusefs.New(fusefs.Config{Proc: m.root + "/proc", Sys: m.root + "/sys", Cgroup: m.root + "/cgroup"})
	if err != nil {
		t.Fatal(err)
	}
	defer fs.Close()
	for _, path := range []string{"proc/pressure/cpu", "proc/diskstats"} {
		if text, err := fs.Text(path, m.readers[0]); err == nil || len(text) > 0 {
			t.Errorf("%s of a container: %q, %v", path, text, err)
		}
		host, err := os.ReadFile(filepath.Join(m.root, path))
		if err != nil {
			t.Fatal(err)
		}
		text, err := fs.Text(path, 0)
		if err != nil || strings.Join(strings.Fields(string(text)), " ") != strings.Join(strings.Fields(string(host)), " ") {
			t.Errorf("%s of the machine: %q, %v", path, text, err)
		}
	}
}
