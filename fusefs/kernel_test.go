// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package fusefs_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
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
