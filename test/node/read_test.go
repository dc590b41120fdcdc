// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// files are those that podproc run puts in place by default.
var files = []string{"/proc/meminfo", "/proc/cpuinfo", "/proc/stat", "/proc/swaps", "/sys/devices/system/cpu/online"}

func init() {
	helpers["pieces"] = pieces
	helpers["tail"] = func(args []string) error { return follow(args[0]) }
	helpers["thread"] = thread
}

var numbers = regexp.MustCompile(`[ 0-9]+`)

// shape is what two snapshots of one file have in common: its length, and all
// but its numbers and the blanks beside them.
func shape(text string) string {
	return fmt.Sprintf("%d bytes: %s", len(text), numbers.ReplaceAllString(text, "#"))
}

// TestTools: programs that read in different ways get the same whole file.
func TestTools(t *testing.T) {
	need(t, "busybox", "python3", "awk", "tac", "dd")
	c := newContainer(t, "--memory", "256Mi", "--cpus", "1")
	reverse := func(s string) string {
		lines := strings.SplitAfter(s, "\n")
		slices.Reverse(lines)
		return strings.Join(lines, "")
	}
	same := func(s string) string { return s }
	tools := []struct {
		command string
		want    func(whole string) string
	}{
		{"cat FILE", same},
		{"head -1 FILE", func(s string) string { return s[:strings.IndexByte(s, '\n')+1] }},
		{"tac FILE", reverse},
		{"tail -n +1 FILE", same},
		{"dd if=FILE bs=1 2>/dev/null", same},
		{"dd if=FILE bs=127 2>/dev/null", same},
		{"cp FILE /tmp/podproc-copy.$$; cat /tmp/podproc-copy.$$; rm /tmp/podproc-copy.$$", same},
		{"busybox cat FILE", same}, // sendfile
		{"busybox head -n 1 FILE", func(s string) string { return s[:strings.IndexByte(s, '\n')+1] }},
		{"busybox tac FILE", reverse},
		{"awk '{ print }' FILE", same},
		{"grep '' FILE", same},
		{"python3 -c 'import sys; sys.stdout.write(open(\"FILE\").read())'", same},
		{"python3 -c 'import sys; [sys.stdout.write(l) for l in open(\"FILE\")]'", same},
		{"while IFS= read -r l; do printf \"%s\\n\" \"$l\"; done < FILE", same},
		{"wc -c < FILE", func(s string) string { return strconv.Itoa(len(s)) + "\n" }},
		{"stat -Lc %s FILE", func(s string) string { return strconv.Itoa(len(s)) + "\n" }},
	}
	for i, file := range files {
		whole := c.read(file)
		if !strings.HasSuffix(whole, "\n") {
			t.Errorf("%s ends with %q", file, whole[max(0, len(whole)-20):])
		}
		for j, tool := range tools {
			if testing.Short() && (i+j)%3 != 0 {
				continue // in the VM processes take long to start
			}
			command := strings.ReplaceAll(tool.command, "FILE", file)
			got, want := c.sh(command), tool.want(whole)
			size := len(want) < 10
			if len(want) < len(whole) && !size { // the first line, whose numbers have grown
				got, want = numbers.ReplaceAllString(got, "#"), numbers.ReplaceAllString(want, "#")
			}
			if size && got != want || shape(got) != shape(want) {
				t.Errorf("%s:\n%s\nwant, but for the numbers:\n%s", command, got, want)
			}
		}
	}
}

// TestPieces: however a file is cut into reads, the pieces are of one snapshot.
func TestPieces(t *testing.T) {
	// Snapshots that live longer than a file is read byte by byte, on a slow
	// machine.
	dir := filepath.Join(t.TempDir(), "fs")
	server, err := startServer(dir, "--freshness", "2s")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		server.signal(unix.SIGTERM)
		if err := server.wait(patience); err != nil {
			t.Error(err)
		}
	})
	c := newContainer(t, "--fs", dir, "--memory", "256Mi", "--cpus", "1")
	defer c.burn(1)()
	for _, file := range files {
		c.helper("pieces", file)
	}
}

// pieces reads a file whole and in pieces, by read and by pread, until the
// kernel has not changed snapshots meanwhile.
func pieces(args []string) error {
	f, err := os.Open(args[0])
	if err != nil {
		return err
	}
	defer f.Close()
	for _, size := range []int{1, 127, 4095, -1} {
		if err := cut(f, size); err != nil {
			return fmt.Errorf("%s in pieces of %d: %w", args[0], size, err)
		}
	}
	return nil
}

func cut(f *os.File, size int) error {
	for end := time.Now().Add(patience); time.Now().Before(end); {
		before, err := f.Stat()
		if err != nil {
			return err
		}
		whole := make([]byte, before.Size()+1)
		n, err := f.ReadAt(whole, 0)
		if !errors.Is(err, io.EOF) || int64(n) != before.Size() {
			return fmt.Errorf("read %d of %d bytes, %v", n, before.Size(), err)
		}
		whole = whole[:n]
		got := make([]byte, n)
		if size > 0 {
			err = inOrder(f, got, size)
		} else {
			err = anyhow(f, got)
		}
		if err != nil {
			return err
		}
		after, err := f.Stat()
		if err != nil {
			return err
		}
		if !after.ModTime().Equal(before.ModTime()) {
			continue // another snapshot
		}
		if !bytes.Equal(got, whole) {
			return fmt.Errorf("pieces:\n%s\nwhole:\n%s", got, whole)
		}
		return nil
	}
	return fmt.Errorf("never without another snapshot in between")
}

func inOrder(f *os.File, got []byte, size int) error {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	for n := 0; ; {
		buf := make([]byte, size)
		m, err := f.Read(buf)
		if err == io.EOF {
			if n != len(got) {
				return fmt.Errorf("pieces end after %d of %d bytes", n, len(got))
			}
			return nil
		}
		if err != nil {
			return err
		}
		n += copy(got[n:], buf[:m])
	}
}

// anyhow reads each byte by preads at random offsets, some beyond the end.
func anyhow(f *os.File, got []byte) error {
	offsets := rand.Perm(len(got)/50 + 3)
	for _, i := range offsets {
		off := i * 50
		var buf [50]byte
		m, err := f.ReadAt(buf[:], int64(off))
		if err != nil && err != io.EOF {
			return err
		}
		if off >= len(got) {
			if m != 0 {
				return fmt.Errorf("%d bytes beyond the end", m)
			}
			continue
		}
		copy(got[off:], buf[:m])
	}
	return nil
}

// TestHeld: a descriptor that is held open gets fresh content after lseek(0).
func TestHeld(t *testing.T) {
	c := newContainer(t, "--memory", "256Mi")
	limit := 256 * mb
	cmd := c.inside("tail", "/proc/meminfo")
	c.read("/proc/meminfo")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer in.Close()
	for range 5 {
		if _, err := in.Write([]byte{'\n'}); err != nil {
			t.Fatal(err)
		}
		var got int
		if _, err := fmt.Fscanf(out, "%d\n", &got); err != nil {
			t.Fatal(err)
		}
		if got != limit/1024 {
			t.Errorf("%s after the limit became %d kB, a held descriptor says %d", 2*freshness, limit/1024, got)
		}
		limit += 16 * mb
		c.limitMemory(limit)
		time.Sleep(2 * freshness)
	}
}

// follow prints MemTotal from one descriptor whenever it is told to.
func follow(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	buf := make([]byte, 8192)
	for {
		if _, err := os.Stdin.Read(buf[:1]); err != nil {
			return nil
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
		n, err := f.Read(buf)
		if err != nil {
			return err
		}
		fmt.Println(strings.Fields(string(buf[:n]))[1])
	}
}

// TestPermissions: everybody can read, from any thread, and nobody can write.
func TestPermissions(t *testing.T) {
	c := newContainer(t, "--memory", "256Mi", "--cpus", "1")
	for _, file := range files {
		a := c.do(request{Run: []string{"cat", file}, UID: 65534})
		if a.Code != 0 || shape(a.Out) != shape(c.read(file)) {
			t.Errorf("user 65534 reads %s: exit status %d, %s%s", file, a.Code, a.Out, a.Stderr)
		}
		c.helper("thread", file)
		for _, command := range []string{"true > " + file, "true >> " + file, "chmod 666 " + file, "rm " + file} {
			a := c.do(request{Run: []string{"sh", "-c", command}})
			if a.Code == 0 {
				t.Errorf("%s: done", command)
			}
		}
	}
}

// thread reads a file from a thread that is not the first one, and tries to
// open it for writing.
func thread(args []string) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // main has the first one
		b, err := os.ReadFile(args[0])
		if err == nil && len(b) == 0 {
			err = errors.New("empty")
		}
		done <- err
	}()
	if err := <-done; err != nil {
		return err
	}
	for _, flags := range []int{unix.O_WRONLY, unix.O_RDWR, unix.O_WRONLY | unix.O_TRUNC} {
		fd, err := unix.Open(args[0], flags, 0)
		if err == nil {
			return fmt.Errorf("open %s with flags %#x: descriptor %d", args[0], flags, fd)
		}
		if !errors.Is(err, syscall.EACCES) && !errors.Is(err, syscall.EROFS) {
			return fmt.Errorf("open %s with flags %#x: %w", args[0], flags, err)
		}
	}
	return nil
}

// TestSizes: a file keeps its size while its numbers grow by many digits.
func TestSizes(t *testing.T) {
	c := newContainer(t, "--memory", "1Gi", "--cpus", "2")
	sizes := func() (list []int) {
		for _, file := range files {
			text := c.read(file)
			n, err := strconv.Atoi(strings.TrimSpace(c.sh("stat -Lc %s " + file)))
			if err != nil || n != len(text) {
				t.Errorf("%s: size %d (%v), %d bytes read", file, n, err, len(text))
			}
			list = append(list, len(text))
		}
		return list
	}
	before, small := sizes(), c.meminfo()["AnonPages"]
	c.do(request{Alloc: 200 * mb, Kind: "anon"})
	stop := c.burn(2)
	eventually(t, "AnonPages grows", func() bool { return c.meminfo()["AnonPages"] > 200<<10 })
	after, large := sizes(), c.meminfo()["AnonPages"]
	stop()
	if !slices.Equal(before, after) {
		t.Errorf("sizes of %q were %d, and %d after AnonPages grew from %d to %d kB", files, before, after, small, large)
	}
	c.limitMemory(768 * mb)
	c.limitCPU(100)
	time.Sleep(2 * freshness) // with fewer CPUs some files are shorter from now on
	if got := sizes(); got[0] != before[0] {
		t.Errorf("the size of meminfo was %d, and is %d with another limit", before[0], got[0])
	}
}
