// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package device_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/podproc/podproc/fusefs/device"
	"github.com/podproc/podproc/fusefs/mounts"
)

// patience is for what has to happen; how soon is not this test's matter.
const patience = time.Minute

// oneFile is a file system with one file, "f".
type oneFile struct {
	fuse.RawFileSystem
	text string
	read func() // called by each Read
}

func newFile(text string, read func()) *oneFile {
	return &oneFile{fuse.NewDefaultRawFileSystem(), text, read}
}

const fileID = 7

func (f *oneFile) attr(id uint64, a *fuse.Attr) fuse.Status {
	*a = fuse.Attr{Ino: id, Mode: unix.S_IFREG | 0o444, Nlink: 1, Size: uint64(len(f.text))}
	if id == fuse.FUSE_ROOT_ID {
		a.Mode = unix.S_IFDIR | 0o555
	}
	return fuse.OK
}

func (f *oneFile) Lookup(_ <-chan struct{}, _ *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	if name != "f" {
		return fuse.ENOENT
	}
	out.NodeId = fileID
	return f.attr(fileID, &out.Attr)
}

func (f *oneFile) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	return f.attr(in.NodeId, &out.Attr)
}

func (f *oneFile) Open(<-chan struct{}, *fuse.OpenIn, *fuse.OpenOut) fuse.Status { return fuse.OK }

func (f *oneFile) Read(_ <-chan struct{}, in *fuse.ReadIn, _ []byte) (fuse.ReadResult, fuse.Status) {
	if f.read != nil {
		f.read()
	}
	return fuse.ReadResultData([]byte(f.text)[min(in.Offset, uint64(len(f.text))):]), fuse.OK
}

// mount serves a file system in a directory of its own until the test ends.
func mount(t *testing.T, config device.Config) (*device.Conn, string) {
	t.Helper()
	at := mounts.Point{Dir: t.TempDir() + "/fs"}
	dev, err := device.Open()
	if err != nil {
		t.Fatal(err)
	}
	if err := at.Mount(dev); err != nil {
		t.Fatal(err)
	}
	c, err := device.Start(dev, config)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- c.Serve() }()
	t.Cleanup(func() {
		if err := at.Unmount(); err != nil {
			t.Error(err)
		}
		dev.Close()
	})
	return c, at.Dir
}

// cat reads a file in another process, as everybody has to who serves the
// file himself.
func cat(path string) (string, error) {
	cmd := exec.Command("cat", path)
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	}
	return string(out), err
}

func TestServe(t *testing.T) {
	_, dir := mount(t, device.Config{FS: newFile("text\n", nil)})
	times := 100
	if testing.Short() {
		times = 20
	}
	for range times {
		if got, err := cat(dir + "/f"); err != nil || got != "text\n" {
			t.Fatalf("read %q, %v", got, err)
		}
	}
	if _, err := cat(dir + "/nothing"); err == nil || !strings.Contains(err.Error(), "No such file") {
		t.Errorf("a missing file: %v", err)
	}
	// Longer than a slot.
	if _, err := cat(dir + "/" + strings.Repeat("x", 600)); err == nil || !strings.Contains(err.Error(), "File name too long") {
		t.Errorf("a name of 600 bytes: %v", err)
	}
}

func TestPanic(t *testing.T) {
	panics := make(chan bool, 100)
	var broken atomic.Bool
	broken.Store(true)
	read := func() {
		if broken.Load() {
			panic("as the test wants")
		}
	}
	_, dir := mount(t, device.Config{FS: newFile("text\n", read), Panics: func() { panics <- true }})
	if _, err := cat(dir + "/f"); err == nil || !strings.Contains(err.Error(), "Input/output error") {
		t.Errorf("the request that panics: %v, want EIO", err)
	}
	broken.Store(false)
	if got, err := cat(dir + "/f"); err != nil || got != "text\n" {
		t.Errorf("the request after it: %q, %v", got, err)
	}
	if len(panics) == 0 {
		t.Error("no panic was counted")
	}
}

// A handler that hangs holds up its own readers for the deadline, and nobody
// else.
func TestDeadline(t *testing.T) {
	hang := make(chan bool)
	overdue := make(chan bool, 1000)
	_, dir := mount(t, device.Config{
		FS:       newFile("fresh\n", func() { <-hang }),
		Late:     newFile("known\n", nil),
		Deadline: 200 * time.Millisecond,
		Overdue:  func() { overdue <- true },
	})
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if got, err := cat(dir + "/f"); err != nil || got != "known\n" {
				t.Errorf("read %q, %v; want the late answer", got, err)
			}
		})
	}
	wg.Wait()
	if _, err := os.Lstat(dir + "/nothing"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("another request beside hanging ones: %v", err)
	}
	close(hang)
	if len(overdue) == 0 {
		t.Error("no overdue request was counted")
	}
}

// waitingFile takes its time for GETATTR.
type waitingFile struct {
	*oneFile
	wait func()
}

func (f waitingFile) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	if in.NodeId == fileID {
		f.wait()
	}
	return f.attr(in.NodeId, &out.Attr)
}

// Handlers that wait for something, each less than a tick of the watchdog, do
// not wait for each other.
func TestQueue(t *testing.T) {
	var together, most atomic.Int32
	_, dir := mount(t, device.Config{FS: waitingFile{newFile("text\n", nil), func() {
		n := together.Add(1)
		defer together.Add(-1)
		for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
		}
		time.Sleep(5 * time.Millisecond)
	}}})
	stop := make(chan bool)
	var readers sync.WaitGroup
	for range 64 {
		file, err := os.Open(dir + "/f")
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					_, _ = file.Stat()
				}
			}
		})
	}
	for end := time.Now().Add(patience); most.Load() < 8 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if n := most.Load(); n < 8 {
		t.Errorf("at most %d of 64 requests were handled at the same time", n)
	}
	close(stop)
	readers.Wait()
}

// What one server has read and not answered, the next one answers.
func TestReplay(t *testing.T) {
	hang, reading := make(chan bool), make(chan bool, 100)
	first, dir := mount(t, device.Config{
		FS:       newFile("first\n", func() { reading <- true; <-hang }),
		Deadline: time.Hour,
	})
	defer close(hang)
	const readers = 10
	got := make(chan string, readers)
	for range readers {
		go func() {
			text, err := cat(dir + "/f")
			got <- fmt.Sprint(text, err)
		}()
	}
	// The kernel lets one reader of a page wait for another's READ.
	select {
	case <-reading:
	case <-time.After(patience):
		t.Fatal("no request arrived")
	}
	h := first.Handover()
	fd, err := unix.Dup(int(h.Dev.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	h.Dev = os.NewFile(uintptr(fd), "dev")
	second, err := device.Adopt(h, device.Config{FS: newFile("next!\n", nil)})
	if err != nil {
		t.Fatal(err)
	}
	n, err := second.Replay(h.Slots)
	if err != nil || n == 0 {
		t.Fatalf("Replay: %d, %v", n, err)
	}
	// From here on both serve: whatever the first one takes hangs again.
	timeout := time.After(patience)
	for answered := 0; answered < readers; {
		select {
		case s := <-got:
			if s != "next!\n<nil>" {
				t.Errorf("read %q", s)
			}
			answered++
		case <-time.After(20 * time.Millisecond):
			if _, err := second.Replay(h.Slots); err != nil {
				t.Fatal(err)
			}
		case <-timeout:
			t.Fatalf("%d of %d readers got no answer", readers-answered, readers)
		}
	}
}

// A request of the process before that takes long holds up nobody: it is one of
// this process's own by then, and a successor of this one finds it, too.
func TestReplayDoesNotWait(t *testing.T) {
	hang, reading := make(chan bool), make(chan bool, 100)
	first, dir := mount(t, device.Config{FS: newFile("first\n", func() { reading <- true; <-hang }), Deadline: time.Hour})
	defer close(hang)
	got := make(chan string, 1)
	go func() {
		text, err := cat(dir + "/f")
		got <- fmt.Sprint(text, err)
	}()
	wait := func(what string, ch <-chan bool) {
		t.Helper()
		select {
		case <-ch:
		case <-time.After(patience):
			t.Fatalf("no %s", what)
		}
	}
	wait("request", reading)
	adopt := func(of *device.Conn, fs fuse.RawFileSystem) *device.Conn {
		t.Helper()
		h := of.Handover()
		fd, err := unix.Dup(int(h.Dev.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		h.Dev = os.NewFile(uintptr(fd), "dev")
		c, err := device.Adopt(h, device.Config{FS: fs, Deadline: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		if n, err := c.Replay(h.Slots); err != nil || n == 0 {
			t.Fatalf("Replay: %d, %v", n, err)
		}
		return c
	}
	again := make(chan bool, 100)
	second := adopt(first, newFile("next1\n", func() { again <- true; <-hang }))
	wait("request in the second process", again)
	adopt(second, newFile("next2\n", nil))
	select {
	case s := <-got:
		if s != "next2\n<nil>" {
			t.Errorf("read %q", s)
		}
	case <-time.After(patience):
		t.Fatal("no answer")
	}
}

func TestAdoptRefusesOthers(t *testing.T) {
	c, _ := mount(t, device.Config{FS: newFile("text\n", nil)})
	h := c.Handover()
	h.InitReply = append([]byte(nil), h.InitReply...)
	h.InitReply[24]++ // other flags
	if _, err := device.Adopt(h, device.Config{FS: newFile("", nil)}); !errors.Is(err, device.ErrMismatch) {
		t.Errorf("Adopt of a connection with other options: %v, want ErrMismatch", err)
	}
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Replay(f); err == nil {
		t.Error("Replay of a file that holds no requests worked")
	}
}

// The kernel's answer to RESEND tells whether it knows it.
func TestResend(t *testing.T) {
	c, _ := mount(t, device.Config{FS: newFile("text\n", nil)})
	err := c.Resend()
	if release := kernel(t); release >= 609 && err != nil || release < 609 && !errors.Is(err, unix.EINVAL) {
		t.Errorf("Resend on Linux %d.%d: %v", release/100, release%100, err)
	}
}

func kernel(t *testing.T) int {
	t.Helper()
	f, err := os.Open("/proc/sys/kernel/osrelease")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var major, minor int
	if _, err := fmt.Fscanf(bufio.NewReader(f), "%d.%d", &major, &minor); err != nil {
		t.Fatal(err)
	}
	return major*100 + minor
}
