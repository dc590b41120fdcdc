// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/podproc/podproc/fusefs/device"
	"github.com/podproc/podproc/fusefs/mounts"
)

// The test binary is also the processes that the tests run.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "test-node" {
		if err := nodeMain(); err != nil {
			fmt.Fprintln(os.Stderr, "test node:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// nodeMain is a small podproc-node: it serves one file, which says how often
// it was read, in all processes together.
func nodeMain() error {
	at := mounts.Point{Dir: os.Getenv("TEST_MOUNT")}
	grace, err := time.ParseDuration(os.Getenv("TEST_GRACE"))
	if err != nil {
		return err
	}
	silence, err := time.ParseDuration(os.Getenv("TEST_SILENCE"))
	if err != nil {
		return err
	}
	patience, err := time.ParseDuration(os.Getenv("TEST_PATIENCE"))
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	var dumb atomic.Bool
	usr1 := make(chan os.Signal, 1)
	signal.Notify(usr1, syscall.SIGUSR1)
	go func() {
		<-usr1
		dumb.Store(true)
	}()
	const steppedBack = "TEST_STEPPED_BACK"
	config := Config{
		Dir: os.Getenv("TEST_DIR"), Version: "test", Patience: patience, Silence: silence,
		Alive:   func() bool { return !dumb.Load() },
		Lasting: func(record []byte) bool { return !bytes.HasPrefix(record, []byte("bulk ")) },
		Standby: os.Getenv("TEST_STANDBY") != "" || os.Getenv(steppedBack) != "",
	}
	config.Log = slog.New(slog.NewTextHandler(os.Stderr, nil)).With("pid", os.Getpid())
	n, err := Open(config)
	if err != nil {
		return err
	}
	fs := &countFS{RawFileSystem: fuse.NewDefaultRawFileSystem()}
	p, err := n.Join(ctx)
	if err != nil {
		return err
	}
	var conn *device.Conn
	c := Connection{Since: time.Now(), Paths: map[uint8]string{7: "/count"}}
	cause := First
	if p == nil {
		if err := n.Restore(fs); err != nil {
			return err
		}
		dev, err := device.Open()
		if err != nil {
			return err
		}
		if err := at.Mount(dev); err != nil {
			return err
		}
		if conn, err = device.Start(dev, device.Config{FS: fs, Late: fs}); err != nil {
			return err
		}
	}
	for conn == nil || cause == "" {
		if p.Paths[7] != "/count" {
			return errors.New("paths have not crossed")
		}
		c = p.Connection
		if conn, err = device.Adopt(c.Handover, device.Config{FS: fs, Late: fs}); err != nil {
			return err
		}
		fmt.Println("joined", os.Getpid())
		go func(p *Peer) {
			<-p.Synced()
			fmt.Println("synced", os.Getpid())
		}(p)
		var next *Peer
		if cause, next, err = p.Follow(ctx, fs); errors.Is(err, ErrLeft) {
			return nil
		} else if err != nil {
			return err
		}
		if next != nil {
			p, conn, cause = next, nil, ""
		}
	}
	n.Keep(fs)
	done := make(chan error, 1)
	go func() { done <- conn.Serve() }()
	if p != nil {
		p.Replay(conn)
	}
	c.Handover = conn.Handover()
	l, err := n.Lead(c, fs)
	if err != nil {
		return err
	}
	fmt.Println("serving", cause, os.Getpid())
	switch l.Run(ctx, grace, conn, func() any { return "released" }) {
	case SteppedBack:
		// A signal that has come must not get lost.
		signal.Reset(syscall.SIGTERM)
		time.Sleep(20 * time.Millisecond)
		if ctx.Err() != nil {
			return nil
		}
		return syscall.Exec("/proc/self/exe", os.Args, append(os.Environ(), steppedBack+"=1"))
	case Alone:
		fmt.Println("alone", os.Getpid())
		return at.Unmount()
	}
	return nil
}

// countFS is a directory with the one file.
type countFS struct {
	fuse.RawFileSystem
	mu      sync.Mutex
	count   int
	journal func([]byte)
}

func (fs *countFS) record() []byte { return fmt.Appendf(nil, "%d", fs.count) }

func (fs *countFS) Records(yield func([]byte)) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	yield(fs.record())
	for i := range bulk { // so that it takes more than a few packets
		yield(fmt.Appendf(nil, "bulk %d %s", i, strings.Repeat("x", 1000)))
	}
}

const bulk = 2000

func (fs *countFS) SetJournal(f func([]byte)) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.journal = f
}

func (fs *countFS) Apply(record []byte) error {
	if strings.HasPrefix(string(record), "bulk ") {
		return nil
	}
	var n int
	if _, err := fmt.Sscan(string(record), &n); err != nil {
		return err
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.count = max(fs.count, n)
	return nil
}

func (fs *countFS) Lookup(_ <-chan struct{}, _ *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	if name != "count" {
		return fuse.ENOENT
	}
	out.NodeId = 2
	out.Mode, out.Nlink, out.Size = syscall.S_IFREG|0o444, 1, countSize
	return fuse.OK
}

func (fs *countFS) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	out.Mode, out.Nlink = syscall.S_IFDIR|0o555, 1
	if in.NodeId == 2 {
		out.Mode, out.Size = syscall.S_IFREG|0o444, countSize
	}
	return fuse.OK
}

func (fs *countFS) Open(_ <-chan struct{}, _ *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	out.OpenFlags = fuse.FOPEN_DIRECT_IO
	return fuse.OK
}

const countSize = 20

var slow atomic.Int64

func (fs *countFS) Read(_ <-chan struct{}, in *fuse.ReadIn, _ []byte) (fuse.ReadResult, fuse.Status) {
	if in.Offset > 0 {
		return fuse.ReadResultData(nil), fuse.OK
	}
	fs.mu.Lock()
	fs.count++
	text := fmt.Sprintf("%*d\n", countSize-1, fs.count)
	if fs.journal != nil {
		fs.journal(fs.record())
	}
	fs.mu.Unlock()
	if slow.Add(1)%64 == 0 {
		time.Sleep(time.Millisecond) // so that there is something to leave behind
	}
	return fuse.ReadResultData([]byte(text)), fuse.OK
}
