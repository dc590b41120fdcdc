// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

// Package device serves a FUSE connection in a way that outlives the process.
//
// A connection lives as long as any process holds its /dev/fuse descriptor,
// and the kernel keeps a request until somebody answers it. What dies with a
// process is the knowledge of the requests that it had read and not answered;
// their readers would wait for ever, on kernels below 6.9 beyond SIGKILL. So
// requests are read straight into memory that is shared with a successor
// (slots.go), which handles again what it finds there: every request of
// podproc's is a read and may be answered twice, the kernel ignores the second
// answer.
//
// A request travels like this: the reader that waits read(2)s /dev/fuse into
// its slot, has go-fuse's ProtocolServer decode the request and call the file
// system (or, if it is a frequent one, does so itself: direct.go), writes the
// answer and clears the slot (readers.go). A request that takes longer than the
// deadline is answered by the late file system, which must not block; the
// answer of the handler that hangs comes too late then and is ignored.
//
// INTERRUPT is dropped, since every request ends by the deadline anyway.
package device

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"log"
	"log/slog"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

const (
	notifyInvalEntry = 3 // FUSE_NOTIFY_INVAL_ENTRY
	notifyResend     = 7 // FUSE_NOTIFY_RESEND

	// maxWrite bounds one READ too: go-fuse derives the kernel's max_pages
	// from it. The kernel refuses a read of /dev/fuse into less than this
	// and a header.
	maxWrite = 64 << 10
	readSize = maxWrite + 4096

	replyHead = 512 // room for the header and the fixed part of any reply
)

// Config says who answers.
type Config struct {
	// FS answers requests. Its methods are called concurrently.
	FS fuse.RawFileSystem
	// Late answers a request that FS has not answered within Deadline, from
	// what is known already. It must not block. Where it knows nothing it
	// says EAGAIN: the request then gets ten times the Deadline, or more where
	// this process has no CPU, for a slow read is better than none, and EIO in
	// the end.
	Late fuse.RawFileSystem
	// Deadline is 1 s by default.
	Deadline time.Duration
	Log      *slog.Logger // default: discards

	// Counters, for whoever exports them; nil ones are not counted.
	Panics, Overdue func()
}

func (c *Config) setDefaults() {
	if c.Deadline == 0 {
		c.Deadline = time.Second
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Late == nil {
		c.Late = fuse.NewDefaultRawFileSystem()
	}
	for _, f := range []*func(){&c.Panics, &c.Overdue} {
		if *f == nil {
			*f = func() {}
		}
	}
}

// Conn is a FUSE connection that this process can serve.
type Conn struct {
	config Config
	dev    *os.File
	fd     int
	slots  *slots

	init, initReply []byte
	server, late    *fuse.ProtocolServer

	gate    sync.RWMutex // held for reading while a request is answered
	paused  atomic.Bool
	resume  chan struct{}
	buffers sync.Pool
	failure atomic.Pointer[error]
	served  atomic.Uint64
	wake    chan struct{}   // for watch
	lates   [slotCount]late // watch's own
	done    chan struct{}   // closed when no reader is left

	mu      sync.Mutex // guards what follows
	waiting *reader    // the one that waits for requests, or has begun to answer a moment ago
	readers int
}

// Open opens /dev/fuse. The file is given to the file system that is to be
// mounted, and to Start.
func Open() (*os.File, error) {
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: "/dev/fuse", Err: err}
	}
	return os.NewFile(uintptr(fd), "/dev/fuse"), nil
}

// Start answers the INIT request of a file system that has just been made on
// dev. From then on the connection can be served, and be handed over.
func Start(dev *os.File, config Config) (*Conn, error) {
	c, err := newConn(dev, config)
	if err != nil {
		return nil, err
	}
	buf := make([]byte, readSize)
	n, err := unix.Read(c.fd, buf)
	for err == unix.EINTR {
		n, err = unix.Read(c.fd, buf)
	}
	if err != nil {
		return nil, fmt.Errorf("read INIT: %w", err)
	}
	c.init = bytes.Clone(buf[:n])
	if err := c.greet(); err != nil {
		return nil, err
	}
	if _, err := unix.Write(c.fd, c.initReply); err != nil {
		return nil, fmt.Errorf("answer INIT: %w", err)
	}
	return c, nil
}

func newConn(dev *os.File, config Config) (*Conn, error) {
	config.setDefaults()
	s, err := newSlots()
	if err != nil {
		return nil, err
	}
	c := &Conn{config: config, dev: dev, fd: int(dev.Fd()), slots: s, wake: make(chan struct{}, 1), done: make(chan struct{})}
	opts := &fuse.MountOptions{
		MaxWrite:      maxWrite,
		IDMappedMount: true, // containers with ID-mapped mounts (hostUsers: false)
		// A READDIRPLUS would look names up that nobody asked for.
		DisableReadDirPlus: true,
		Logger:             log.New(logWriter{config.Log}, "", 0),
		PanicHandler:       c.panicked,
	}
	c.server = fuse.NewProtocolServer(config.FS, opts)
	c.late = fuse.NewProtocolServer(config.Late, opts)
	c.buffers.New = func() any {
		return &buffer{head: make([]byte, replyHead), tail: make([]byte, readSize)}
	}
	return c, nil
}

func (c *Conn) panicked(v any) fuse.Status {
	c.config.Panics()
	c.config.Log.Error("a request made the file system panic; it gets EIO", "panic", v, "stack", string(debug.Stack()))
	return fuse.EIO
}

// greet has the protocol servers read INIT and remembers their reply.
func (c *Conn) greet() error {
	reply := make([]byte, 4096)
	for _, s := range []*fuse.ProtocolServer{c.late, c.server} {
		n, status := s.HandleRequest([][]byte{c.init}, [][]byte{reply})
		if !status.Ok() {
			return fmt.Errorf("INIT of the kernel: %w", unix.Errno(status))
		}
		c.initReply = bytes.Clone(reply[:n])
	}
	if errno := -int32(u32(c.initReply[4:])); errno != 0 {
		return fmt.Errorf("INIT of the kernel: %w", unix.Errno(errno))
	}
	return nil
}

// buffer is what a reader works with beside its slot.
type buffer struct {
	head []byte // the reply's fixed part
	tail []byte // the reply's payload; before that, the end of an overlong request
}

// Serve answers requests until the file system is unmounted (nil) or the
// device fails.
func (c *Conn) Serve() error {
	c.startReader(nil)
	go c.watch()
	<-c.done
	if err := c.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// Served counts the answered requests.
func (c *Conn) Served() uint64 { return c.served.Load() }

// Pause lets the requests at hand be answered, up to the deadline, and begins
// no others: those that are read meanwhile wait in their slots, for Resume or
// for a successor.
func (c *Conn) Pause() {
	c.paused.Store(true)
	locked, resume := make(chan struct{}), make(chan struct{})
	c.resume = resume
	go func() {
		c.gate.Lock()
		close(locked)
		<-resume
		c.gate.Unlock()
	}()
	select {
	case <-locked:
	case <-time.After(c.config.Deadline):
	}
}

// Resume ends a Pause: there is no successor after all.
func (c *Conn) Resume() {
	c.paused.Store(false)
	close(c.resume)
	c.wakeWatch()
}

// answer has s answer a request, and writes what it says. rest is what had no
// room in the slot, which matters for BATCH_FORGET only: that has no answer to
// refuse it with, and inodes that nobody forgets stay for ever.
func (c *Conn) answer(s *fuse.ProtocolServer, req, rest []byte, buf *buffer) {
	if len(req) < inHeaderSize || opcode(req) == opInterrupt {
		return
	}
	reply := c.reply(s, req, rest, buf)
	c.served.Add(1)
	if len(reply) > 0 { // none for FORGET and its like
		c.write(req, reply, buf)
	}
}

// reply has s answer a request.
func (c *Conn) reply(s *fuse.ProtocolServer, req, rest []byte, buf *buffer) []byte {
	if int(u32(req)) > len(req) && opcode(req) != opBatchForget {
		return errorReply(buf.head[:0], unique(req), unix.ENAMETOOLONG)
	}
	if s == c.server {
		if reply, ok := c.direct(req, buf); ok {
			return reply
		}
	}
	// One contiguous buffer: head, then payload.
	n, status := s.HandleRequest([][]byte{req, rest}, [][]byte{buf.tail})
	if !status.Ok() {
		return errorReply(buf.head[:0], unique(req), unix.Errno(status))
	}
	return buf.tail[:n]
}

// write writes what answers a request.
func (c *Conn) write(req, reply []byte, buf *buffer) {
	_, err := unix.Write(c.fd, reply)
	switch err {
	case nil, unix.ENODEV:
		return
	case unix.ENOENT:
		// Somebody else has answered, or the reader is gone.
		c.unheard(req, reply)
		return
	}
	c.unheard(req, reply)
	c.config.Log.Error("write to /dev/fuse; the request gets EIO", "operation", operation(req), "node", nodeID(req), "bytes", len(reply), "error", err)
	_, _ = unix.Write(c.fd, errorReply(buf.head[:0], unique(req), unix.EIO))
}

// unheard takes back what a reply that the kernel does not take has changed:
// of a LOOKUP that is answered twice the kernel counts one, and so will its
// FORGET.
func (c *Conn) unheard(req, reply []byte) {
	if opcode(req) != opLookup || len(reply) < 24 || u32(reply[4:]) != 0 {
		return
	}
	if id := binary.NativeEndian.Uint64(reply[16:]); id != 0 { // fuse_entry_out.nodeid
		c.config.FS.Forget(id, 1)
	}
}

// logWriter passes go-fuse's own messages on.
type logWriter struct{ log *slog.Logger }

func (w logWriter) Write(p []byte) (int, error) {
	w.log.Debug("go-fuse", "message", string(bytes.TrimSpace(p)))
	return len(p), nil
}
