// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package fusefs_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/podproc/podproc/fusefs"
)

// A mount belongs to the container that reads it first, also when a process
// of the node has looked at it before.
func TestOwner(t *testing.T) {
	s, dir := mount(t)
	a, b := newContainer(t, 64<<20), newContainer(t, 96<<20)
	at := bind(t, dir, "proc/meminfo")
	for _, step := range []struct {
		who  *container
		want uint64
	}{{nil, hostTotal(t)}, {a, 64 << 20}, {b, 64 << 20}, {nil, 64 << 20}, {a, 64 << 20}} {
		if got := memTotal(t, step.who.run(t, "cat", at)); got != step.want {
			t.Errorf("MemTotal is %d, want %d", got, step.want)
		}
	}
	if n := s.FS.Stats.Owned.Load(); n != 1 {
		t.Errorf("%d inodes found an owner, want 1", n)
	}
}

// Who looks at a mount, or opens it and reads nothing, does not get it.
func TestLookingIsNotOwning(t *testing.T) {
	s, dir := mount(t)
	a, b := newContainer(t, 64<<20), newContainer(t, 96<<20)
	at := bind(t, dir, "proc/meminfo")
	a.run(t, "stat", at)
	if n := s.FS.Stats.Owned.Load(); n != 0 {
		t.Errorf("%d inodes found an owner, want none", n)
	}
	if got := memTotal(t, b.run(t, "cat", at)); got != 96<<20 {
		t.Errorf("MemTotal is %d, want %d", got, 96<<20)
	}
}

// A runtime looks at what it has mounted, sets the container's limits, and has
// it read, all within the time that a snapshot lives, and that files which are
// read together share what they read.
func TestFirstReadIsOfTheMoment(t *testing.T) {
	_, dir := mount(t)
	for range 3 {
		c := newContainer(t, 96<<20)
		memory, cpus := bind(t, dir, "proc/meminfo"), bind(t, dir, "proc/cpuinfo")
		c.run(t, "stat", memory)
		c.run(t, "stat", cpus)
		c.oneCPU()
		c.limit(64 << 20)
		if got := strings.Count(c.run(t, "cat", cpus), "processor\t"); got != 1 {
			t.Errorf("%d CPUs, want 1", got)
		}
		if got := memTotal(t, c.run(t, "cat", memory)); got != 64<<20 {
			t.Errorf("MemTotal is %d, want %d", got, 64<<20)
		}
	}
}

// Where the runtime mounts from inside of the container, as runc does, the
// container is the owner before it has read anything.
func TestOwnerBeforeTheFirstRead(t *testing.T) {
	s, dir := mount(t)
	a, b := newContainer(t, 64<<20), newContainer(t, 96<<20)
	// A node's runtime resolves the symlink, and what it leads to is looked
	// up again in the container.
	target, err := os.Readlink(dir + "/proc/meminfo")
	if err != nil {
		t.Fatal(err)
	}
	at := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(at, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	script := `echo $$ > "$0/cgroup.procs" && exec mount --bind "$1" "$2"`
	if out, err := exec.Command("sh", "-c", script, a.dir, filepath.Join(dir, "proc", target), at).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	defer func() {
		if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}()
	// So it is in a successor.
	next, err := fusefs.New(fusefs.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	hint := records(s.FS)
	for _, r := range hint {
		if err := next.Apply(r); err != nil {
			t.Error(err)
		}
	}
	if got := records(next); len(hint) != 1 || len(got) != 1 || !bytes.Equal(got[0], hint[0]) {
		t.Errorf("the successor knows %q, want %q, the one that has looked up the file", got, hint)
	}
	for _, who := range []*container{b, a} {
		if got := memTotal(t, who.run(t, "cat", at)); got != 64<<20 {
			t.Errorf("MemTotal is %d, want %d", got, 64<<20)
		}
	}
}

// records is all that a successor is told.
func records(fs *fusefs.FS) (all [][]byte) {
	fs.Records(func(r []byte) { all = append(all, bytes.Clone(r)) })
	return all
}

// What the runtime looks at before it has set the limits is not counted: idle
// time of the node's CPUs would stay in stat for ever.
func TestLookingIsNotCounting(t *testing.T) {
	s, dir := mount(t)
	a := newContainer(t, 64<<20)
	at := bind(t, dir, "proc/stat")
	a.run(t, "stat", at)
	if got := records(s.FS); len(got) != 0 {
		t.Errorf("a look has left %q", got)
	}
	a.oneCPU()
	a.run(t, "cat", at)
	if got := records(s.FS); len(got) != 2 { // owner and counters
		t.Errorf("a read has left %q", got)
	}
}

// Containers that start at the same moment do not disturb each other's mounts.
func TestStartTogether(t *testing.T) {
	_, dir := mount(t)
	target := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(target, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	times := "1 2 3 4 5 6 7 8 9 10"
	if testing.Short() {
		times = "1"
	}
	script := `for i in ` + times + `; do
		mount --bind "$0/proc/meminfo" "$1" && grep -q MemTotal "$1" && umount "$1" || exit 1
	done`
	var together sync.WaitGroup
	for range 24 {
		together.Go(func() {
			out, err := exec.Command("unshare", "--mount", "sh", "-c", script, dir, target).CombinedOutput()
			if err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	together.Wait()
}

// A successor that got the journal knows every owner.
func TestJournalTellsOwners(t *testing.T) {
	s, dir := mount(t)
	var journal [][]byte
	s.FS.SetJournal(func(r []byte) { journal = append(journal, bytes.Clone(r)) })
	a := newContainer(t, 64<<20)
	at := bind(t, dir, "proc/meminfo")
	a.run(t, "cat", at)
	if len(journal) != 1 {
		t.Fatalf("%d records for one owner", len(journal))
	}
	if whole := records(s.FS); len(whole) != 1 || !bytes.Equal(whole[0], journal[0]) {
		t.Errorf("the whole state is %q, want %q", whole, journal)
	}
	next, err := fusefs.New(fusefs.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	for _, r := range journal {
		if err := next.Apply(r); err != nil {
			t.Error(err)
		}
	}
	if whole := records(next); len(whole) != 1 || !bytes.Equal(whole[0], journal[0]) {
		t.Errorf("the successor knows %q, want %q", whole, journal)
	}
	for i := range journal[0] {
		_ = next.Apply(journal[0][:i]) // no panic
	}
}
