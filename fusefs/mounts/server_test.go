// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package mounts

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/podproc/podproc/fusefs/device"
)

// The test binary is also what the tests run: servers and containers.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "test-server":
			serverMain(os.Args[2])
		case "test-container":
			containerMain()
		}
	}
	os.Exit(m.Run())
}

// server is a process that serves the file system of a point. Its one file
// says which server it is.
type server struct {
	cmd  *exec.Cmd
	text string // what proc/meminfo says
}

var serverNumber atomic.Int32

// serve starts a server that mounts itself at p.
func serve(t *testing.T, p Point) *server {
	t.Helper()
	s := &server{text: fmt.Sprintf("MemTotal: server %8d kB\n", serverNumber.Add(1))}
	s.cmd = exec.Command("/proc/self/exe", "test-server", s.text)
	s.cmd.Stderr = os.Stderr
	dev, err := device.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	if err := p.Mount(dev); err != nil {
		t.Fatal(err)
	}
	s.cmd.ExtraFiles = []*os.File{dev}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.kill() })
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("server: %v", err)
	}
	return s
}

// kill ends the server and waits until its connection is gone with it.
func (s *server) kill() {
	if s.cmd.ProcessState == nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
	}
}

func (s *server) stop() { _ = s.cmd.Process.Signal(syscall.SIGSTOP) }

func serverMain(text string) {
	conn, err := device.Start(os.NewFile(3, "/dev/fuse"), device.Config{FS: &testFS{fuse.NewDefaultRawFileSystem(), text, atomic.Uint64{}}})
	if err != nil {
		fmt.Fprintln(os.Stderr, "test server:", err)
		os.Exit(1)
	}
	fmt.Println("ready")
	if err := conn.Serve(); err != nil {
		fmt.Fprintln(os.Stderr, "test server:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// testFS has proc/meminfo -> ../.inode/meminfo-NUMBER, as podproc has.
type testFS struct {
	fuse.RawFileSystem
	text string
	next atomic.Uint64
}

const (
	nodeProc   = 2
	nodeInode  = 3
	nodeLink   = 4
	nodeNumber = 1000 // and above: inodes of meminfo
)

func (fs *testFS) attr(id uint64, out *fuse.Attr) {
	out.Ino, out.Nlink = id, 1
	switch {
	case id == nodeLink:
		out.Mode = syscall.S_IFLNK | 0o777
	case id >= nodeNumber:
		out.Mode, out.Size = syscall.S_IFREG|0o444, uint64(len(fs.text))
	default:
		out.Mode = syscall.S_IFDIR | 0o555
	}
}

func (fs *testFS) Lookup(_ <-chan struct{}, in *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	var n uint64
	switch {
	case in.NodeId == 1 && name == "proc":
		out.NodeId = nodeProc
	case in.NodeId == 1 && name == ".inode":
		out.NodeId = nodeInode
	case in.NodeId == nodeProc && name == "meminfo":
		out.NodeId = nodeLink
	case in.NodeId == nodeInode:
		if _, err := fmt.Sscanf(name, "meminfo-%d", &n); err != nil {
			return fuse.ENOENT
		}
		out.NodeId = nodeNumber + n
	default:
		return fuse.ENOENT
	}
	fs.attr(out.NodeId, &out.Attr)
	return fuse.OK
}

func (fs *testFS) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	fs.attr(in.NodeId, &out.Attr)
	return fuse.OK
}

func (fs *testFS) Readlink(_ <-chan struct{}, _ *fuse.InHeader) ([]byte, fuse.Status) {
	return fmt.Appendf(nil, "../.inode/meminfo-%d", fs.next.Add(1)), fuse.OK
}

func (fs *testFS) Open(<-chan struct{}, *fuse.OpenIn, *fuse.OpenOut) fuse.Status { return fuse.OK }

func (fs *testFS) Read(_ <-chan struct{}, in *fuse.ReadIn, _ []byte) (fuse.ReadResult, fuse.Status) {
	if in.Offset >= uint64(len(fs.text)) {
		return fuse.ReadResultData(nil), fuse.OK
	}
	return fuse.ReadResultData([]byte(fs.text[in.Offset:])), fuse.OK
}

// await waits until f holds. The time is for a machine that is busy.
func await(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for: %s", what)
		}
	}
}

// lines of mountinfo of this process that name the file system of p.
func leftovers(t *testing.T, p Point) (left []string) {
	t.Helper()
	source, err := p.source()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, source) {
			left = append(left, line)
		}
	}
	return left
}
