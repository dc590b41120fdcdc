// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package fusefs_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podproc/podproc/fusefs"
	"github.com/podproc/podproc/fusefs/mounts"
)

// These tests mount for real. The containers in them are cgroups with a
// reader inside, which is this test binary again: see reader.

// asReader makes the test binary a reader of files.
const asReader = "PODPROC_TEST_READER"

func TestMain(m *testing.M) {
	if os.Getenv(asReader) != "" {
		if err := read(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// read prints what "cat FILE", "again FILE COUNT", "hold FILE COUNT SPAN",
// "stat FILE" or "write FILE" give.
func read(args []string) error {
	switch args[0] {
	case "cat":
		text, err := os.ReadFile(args[1])
		if err != nil {
			return err
		}
		_, err = os.Stdout.Write(text)
		return err
	case "again": // open, read to the end, close, COUNT times
		count, err := strconv.Atoi(args[2])
		if err != nil {
			return err
		}
		start := time.Now()
		for range count {
			if text, err := os.ReadFile(args[1]); err != nil || len(text) == 0 {
				return fmt.Errorf("%d bytes, %w", len(text), err)
			}
		}
		fmt.Println(time.Since(start))
		return nil
	case "hold": // COUNT reads at offset 0 of one descriptor, in at least SPAN
		f, err := os.Open(args[1])
		if err != nil {
			return err
		}
		defer f.Close()
		count, err := strconv.Atoi(args[2])
		if err != nil {
			return err
		}
		span, err := time.ParseDuration(args[3])
		if err != nil {
			return err
		}
		start := time.Now()
		buf := make([]byte, 64<<10)
		for i := range count {
			if _, err := f.ReadAt(buf[:100], 0); err != nil {
				return err
			}
			time.Sleep(time.Until(start.Add(span * time.Duration(i+1) / time.Duration(count))))
		}
		fmt.Println(time.Since(start))
		return nil
	case "stat":
		if _, err := os.Stat(args[1]); err != nil {
			return err
		}
		f, err := os.Open(args[1])
		if err != nil {
			return err
		}
		return f.Close()
	case "write":
		f, err := os.OpenFile(args[1], os.O_WRONLY, 0)
		if err == nil {
			f.Close()
			return errors.New("it could be opened for writing")
		}
		if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EROFS) {
			return nil
		}
		return err
	}
	return fmt.Errorf("no reader %q", args[0])
}

func mount(t *testing.T) (*fusefs.Server, string) {
	t.Helper()
	fs, err := fusefs.New(fusefs.Config{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := fusefs.Mount(fs, mounts.Point{Dir: t.TempDir() + "/fs"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Unmount(); err != nil {
			t.Error(err)
		}
		if s.FS.Stats.Panics.Load() != 0 {
			t.Error("a handler panicked")
		}
	})
	return s, s.At.Dir
}

// bind binds a file of the tree to a path of its own, as a runtime would from
// outside of the container, and returns that path.
func bind(t *testing.T, dir, file string) string {
	t.Helper()
	at := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(at, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// A child, since the mount's server must not walk through it.
	if out, err := exec.Command("mount", "--bind", filepath.Join(dir, file), at).CombinedOutput(); err != nil {
		t.Fatalf("bind %s: %v: %s", file, err, out)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return at
}

func memTotal(t *testing.T, text string) uint64 {
	t.Helper()
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); f[0] == "MemTotal:" {
			n, err := strconv.ParseUint(f[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n << 10
		}
	}
	t.Fatalf("no MemTotal in %q", text)
	return 0
}

func hostTotal(t *testing.T) uint64 {
	t.Helper()
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		t.Fatal(err)
	}
	return memTotal(t, string(text))
}

// Each reader of the tree sees itself.
func TestReadersOfTheTree(t *testing.T) {
	_, dir := mount(t)
	a, b := newContainer(t, 64<<20), newContainer(t, 96<<20)
	for range 3 {
		for c, want := range map[*container]uint64{a: 64 << 20, b: 96 << 20, nil: hostTotal(t)} {
			if got := memTotal(t, c.run(t, "cat", dir+"/proc/meminfo")); got != want {
				t.Errorf("MemTotal is %d, want %d", got, want)
			}
		}
	}
}

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
	_, dir := mount(t)
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
	for _, who := range []*container{b, a} {
		if got := memTotal(t, who.run(t, "cat", at)); got != 64<<20 {
			t.Errorf("MemTotal is %d, want %d", got, 64<<20)
		}
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

func TestNobodyWrites(t *testing.T) {
	_, dir := mount(t)
	at := bind(t, dir, "proc/stat")
	for _, path := range []string{at, dir + "/proc/meminfo", dir + "/sys/devices/system/cpu/online"} {
		(*container)(nil).run(t, "write", path)
	}
	for _, cmd := range []string{"touch new", "rm proc/meminfo", "mkdir d", "mv proc p", "ln -s x y", "truncate -s 0 proc/meminfo", "chmod 777 proc"} {
		c := exec.Command("sh", "-c", "exec "+cmd)
		c.Dir = dir
		if out, err := c.CombinedOutput(); err == nil {
			t.Errorf("%s worked: %s", cmd, out)
		}
	}
}

// What ls, find, df and du show of the tree.
func TestTree(t *testing.T) {
	_, dir := mount(t)
	out, err := exec.Command("find", dir, "-printf", "%P %y\n").CombinedOutput()
	if err != nil {
		t.Fatalf("find: %v: %s", err, out)
	}
	want := ` d
proc d
proc/pressure d
proc/pressure/cpu l
proc/pressure/io l
proc/pressure/memory l
proc/meminfo l
proc/cpuinfo l
proc/stat l
proc/swaps l
proc/uptime l
proc/loadavg l
proc/diskstats l
sys d
sys/devices d
sys/devices/system d
sys/devices/system/cpu d
sys/devices/system/cpu/online l
`
	if string(out) != want {
		t.Errorf("find shows\n%s\nwant\n%s", out, want)
	}
	for _, cmd := range []string{"df", "ls -laR", "stat -f"} {
		c := exec.Command("sh", "-c", cmd+" .")
		c.Dir = dir
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", cmd, err, out)
		}
	}
}

// A successor that got the journal knows every owner.
func TestJournalTellsOwners(t *testing.T) {
	s, dir := mount(t)
	var records [][]byte
	s.FS.SetJournal(func(r []byte) { records = append(records, bytes.Clone(r)) })
	a := newContainer(t, 64<<20)
	at := bind(t, dir, "proc/meminfo")
	a.run(t, "cat", at)
	if len(records) != 1 {
		t.Fatalf("%d records for one owner", len(records))
	}
	var whole [][]byte
	s.FS.Records(func(r []byte) { whole = append(whole, bytes.Clone(r)) })
	if len(whole) != 1 || !bytes.Equal(whole[0], records[0]) {
		t.Errorf("the whole state is %q, want %q", whole, records)
	}
	next, err := fusefs.New(fusefs.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	for _, r := range records {
		if err := next.Apply(r); err != nil {
			t.Error(err)
		}
	}
	whole = nil
	next.Records(func(r []byte) { whole = append(whole, bytes.Clone(r)) })
	if len(whole) != 1 || !bytes.Equal(whole[0], records[0]) {
		t.Errorf("the successor knows %q, want %q", whole, records)
	}
	for i := range records[0] {
		_ = next.Apply(records[0][:i]) // no panic
	}
}
