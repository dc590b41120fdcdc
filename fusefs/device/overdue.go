// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package device

import (
	"bytes"
	"time"

	"golang.org/x/sys/unix"
)

// overdue answers the request in slot i, which has waited since then.
func (c *Conn) overdue(i int, since int64, req []byte, buf *buffer) {
	switch opcode(req) {
	case opForget, opBatchForget, opInterrupt:
		return // nobody waits for these
	}
	reply := c.reply(c.late, req, nil, buf)
	if len(reply) >= 16 && -int32(u32(reply[4:])) == int32(unix.EAGAIN) {
		if clock()-since < 10*int64(c.config.Deadline) {
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

// watch answers what is overdue.
func (c *Conn) watch() {
	tick := time.NewTicker(c.config.Deadline / 10)
	defer tick.Stop()
	buf := c.buffers.Get().(*buffer)
	for {
		select {
		case <-c.done:
			return
		case <-tick.C:
		}
		for i := range slotCount {
			since := c.slots.since[i].Load()
			if since == 0 || clock()-since < int64(c.config.Deadline) {
				continue
			}
			req := bytes.Clone(c.slots.slot(i)[:min(c.slots.length(i), slotSize)])
			if len(req) < inHeaderSize || c.slots.since[i].Load() != since {
				continue // answered in this moment
			}
			c.overdue(i, since, req, buf)
		}
	}
}

// clock is the monotonic time in ns.
func clock() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return ts.Nano()
}
