// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package device

import (
	"bytes"
	"time"

	"golang.org/x/sys/unix"
)

// late counts how often an overdue request was looked at of which nothing is
// known. A look is so much time that this process had a CPU: the clock also runs
// while it has none, and then a handler may need but a moment more.
type late struct {
	since int64
	looks time.Duration
}

func (l *late) again(since int64) time.Duration {
	if l.since != since {
		*l = late{since: since}
	}
	l.looks++
	return l.looks
}

// every is the time between two looks.
func (c *Conn) every() time.Duration { return min(c.config.Deadline/10, 20*time.Millisecond) }

// overdue answers the request in slot i, which has waited since then.
func (c *Conn) overdue(i int, since int64, req []byte, buf *buffer) {
	switch opcode(req) {
	case opForget, opBatchForget, opInterrupt:
		return // nobody waits for these
	}
	reply := c.reply(c.late, req, nil, buf)
	if len(reply) >= 16 && -int32(u32(reply[4:])) == int32(unix.EAGAIN) {
		if c.lates[i].again(since)*c.every() < 9*c.config.Deadline {
			return
		}
		reply = errorReply(buf.head[:0], unique(req), unix.EIO)
	}
	if !c.slots.since[i].CompareAndSwap(since, 0) {
		c.unheard(req, reply)
		return
	}
	c.config.Overdue()
	c.config.Log.Warn("a request is overdue; answered from what was known", "operation", operation(req), "node", nodeID(req))
	c.write(req, reply, buf)
}

// Oldest is how long the request that has waited longest has waited. It stays
// near the deadline unless this process can answer nothing any more.
func (c *Conn) Oldest() time.Duration {
	now, oldest := clock(), int64(0)
	for i := range slotCount {
		if since := c.slots.since[i].Load(); since != 0 {
			oldest = max(oldest, now-since)
		}
	}
	return time.Duration(oldest)
}

// watch answers what is overdue, and has somebody else wait for requests where
// the reader that does is held up by one. It sleeps while there are none: when
// it has seen none for so long that the reader wakes it for the next one.
func (c *Conn) watch() {
	every := c.every()
	tick := time.NewTicker(every)
	defer tick.Stop()
	l := look{conn: c, buf: c.buffers.Get().(*buffer)}
	served, quiet := uint64(0), time.Duration(0)
	for {
		if quiet > 2*warm {
			tick.Stop()
			select {
			case <-c.done:
				return
			case <-c.wake:
			}
			tick.Reset(every)
			quiet = 0
		}
		select {
		case <-c.done:
			return
		case <-tick.C:
		}
		quiet += every
		any := l.again()
		if now := c.served.Load(); now != served || any {
			served, quiet = now, 0
		}
	}
}

// look is what watch saw last.
type look struct {
	conn   *Conn
	buf    *buffer
	reader *reader // that waited, or answered
	began  int64
}

// again looks at all requests, and tells whether there are any.
func (l *look) again() bool {
	c, before := l.conn, *l
	c.mu.Lock()
	l.reader = c.waiting
	c.mu.Unlock()
	l.began = l.reader.began.Load()
	any := l.began != 0
	if any && *l == before && !c.paused.Load() {
		c.startReader(l.reader)
	}
	for i := range slotCount {
		since := c.slots.since[i].Load()
		if since == 0 {
			continue
		}
		any = true
		if clock()-since < int64(c.config.Deadline) {
			continue
		}
		req := bytes.Clone(c.slots.slot(i)[:min(c.slots.length(i), slotSize)])
		if len(req) < inHeaderSize || c.slots.since[i].Load() != since {
			continue // answered in this moment
		}
		c.overdue(i, since, req, l.buf)
	}
	return any
}

var start = time.Now()

// clock is the monotonic time in ns, above 0.
func clock() int64 { return int64(time.Since(start)) + 1 }
