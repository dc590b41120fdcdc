// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package device

import (
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// One reader at a time waits for requests, and answers what it reads by
// itself: no thread has to be woken for the next one. If an answer takes from
// one tick of watch to the next, that has another reader wait instead, and
// this one ends with its answer.
//
// While requests come again and again, the reader waits in ppoll(2) without
// telling Go's scheduler. A thread that tells it gives away its P, gets one
// back with the next request, and makes sysmon look after that every 20 us
// until all is quiet: on a node where 100 containers read four files once a
// second, that was a third of podproc's CPU time. The thread can be preempted
// in ppoll all the same, as that returns when a signal comes.
const (
	warm      = 100 * time.Millisecond // how long it waits so after a request
	pollSlice = 9 * time.Millisecond   // and at a time: who runs for 10 ms is preempted
)

// polling is how many threads of the process wait without the scheduler's
// knowledge. One P at least is left to everybody else.
var polling atomic.Int32

func mayPoll() bool {
	if int(polling.Add(1)) < runtime.GOMAXPROCS(0) {
		return true
	}
	polling.Add(-1)
	return false
}

// reader is a goroutine that reads requests, always into the same slot.
type reader struct {
	conn   *Conn
	slot   int
	buf    *buffer
	iov    [2]unix.Iovec
	poll   unix.PollFd
	last   int64        // when it has answered, by clock
	looked int64        // when it has looked for another request after an answer
	queued int          // how often in a row there was one
	began  atomic.Int64 // when it has begun to answer; 0 while it waits or reads
}

// Where requests queue up all the same, as many readers as it takes answer
// them, until there is none left to begin with.
const (
	glance = 2 * time.Millisecond // how often a reader looks whether the next request is there already
	behind = 2                    // how often that is so before somebody helps
	most   = 32                   // readers
)

// startReader makes another reader the one that waits, unless there is none
// left, which is the end, or somebody else has done that, or no slot is free.
// It does not block.
func (c *Conn) startReader(instead *reader) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting != instead || instead != nil && c.readers == 0 {
		return
	}
	if r := c.newReader(); r != nil {
		c.waiting = r
		go r.run()
	}
}

// help has another reader answer what is queued up.
func (c *Conn) help() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.readers == 0 || c.readers >= most || c.paused.Load() {
		return
	}
	if r := c.newReader(); r != nil {
		go r.help()
	}
}

// newReader makes a reader, with mu locked; nil if no slot is free.
func (c *Conn) newReader() *reader {
	var i int
	select {
	case i = <-c.slots.free:
	default:
		return nil
	}
	now := clock()
	r := &reader{conn: c, slot: i, buf: c.buffers.Get().(*buffer), last: now, looked: now}
	r.poll = unix.PollFd{Fd: int32(c.fd), Events: unix.POLLIN}
	for j, b := range [][]byte{c.slots.slot(i), r.buf.tail} {
		r.iov[j].Base = &b[0]
		r.iov[j].SetLen(len(b))
	}
	c.readers++
	return r
}

// end is the end of a reader. The last one ends Serve.
func (r *reader) end() {
	c := r.conn
	c.buffers.Put(r.buf)
	c.slots.free <- r.slot
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.readers--; c.readers == 0 {
		close(c.done)
	}
}

func (r *reader) waits() bool {
	r.conn.mu.Lock()
	defer r.conn.mu.Unlock()
	return r.conn.waiting == r
}

// run answers requests until somebody else waits for them.
func (r *reader) run() {
	defer r.end()
	for r.waits() {
		r.lookBack()
		r.await()
		if !r.answer() {
			return
		}
	}
}

// help answers requests as long as there are any.
func (r *reader) help() {
	defer r.end()
	for !r.conn.paused.Load() && r.pending(0) && r.answer() {
		r.lookBack()
	}
}

// lookBack has somebody help if requests have come faster than they were
// answered.
func (r *reader) lookBack() {
	if time.Duration(r.last-r.looked) < glance {
		return
	}
	r.looked = r.last
	if !r.pending(0) {
		r.queued = 0
		return
	}
	if r.queued++; r.queued >= behind {
		r.conn.help()
	}
}

// answer reads a request and answers it. It returns false at the end of the
// connection.
func (r *reader) answer() bool {
	c, slot := r.conn, r.conn.slots.slot(r.slot)
	n, err := r.read()
	if err != nil {
		if !errors.Is(err, unix.ENODEV) {
			err = fmt.Errorf("read /dev/fuse: %w", err)
			c.failure.CompareAndSwap(nil, &err)
		}
		return false
	}
	r.began.Store(clock())
	// Looked at after that: watch, which sleeps when it has seen nothing begun for
	// twice as long, cannot have fallen asleep in between.
	now := clock()
	if time.Duration(now-r.last) > warm {
		c.wakeWatch() // which has seen nothing begun, and sleeps
	}
	c.gate.RLock()
	c.slots.since[r.slot].Store(now)
	c.answer(c.server, slot[:min(n, slotSize)], r.buf.tail[:max(0, n-slotSize)], r.buf)
	c.slots.clear(r.slot)
	c.gate.RUnlock()
	r.last = clock()
	r.began.Store(0)
	return true
}

// read reads a request, or waits for one.
func (r *reader) read() (int, error) {
	for {
		n, _, errno := unix.Syscall(unix.SYS_READV, uintptr(r.conn.fd), uintptr(unsafe.Pointer(&r.iov)), uintptr(len(r.iov)))
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR, unix.EAGAIN, unix.ENOENT:
			// ENOENT: the request was cancelled while it was read.
			continue
		}
		return 0, errno
	}
}

// await waits for a request as long as more of them are likely.
func (r *reader) await() {
	if !mayPoll() {
		return
	}
	defer polling.Add(-1)
	for {
		left := r.last + int64(warm) - clock()
		if left <= 0 || r.pending(min(left, int64(pollSlice))) {
			return
		}
		runtime.Gosched()
	}
}

// pending waits so many ns for a request, which it does not read.
func (r *reader) pending(wait int64) bool {
	ts := unix.NsecToTimespec(wait)
	n, _, _ := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&r.poll)), 1, uintptr(unsafe.Pointer(&ts)), 0, 0, 0)
	return n == 1
}

// wakeWatch has watch look after requests.
func (c *Conn) wakeWatch() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}
