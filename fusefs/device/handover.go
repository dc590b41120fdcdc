// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package device

import (
	"bytes"
	"errors"
	"os"
)

// ErrMismatch says that a connection was set up with other options than this
// program would use. It can be served as it is, until all that is mounted of it
// has been replaced, but not be handed over again.
var ErrMismatch = errors.New("the connection was set up by a program with other FUSE options")

// Handover is what a process needs to serve a connection that another one
// serves or has served.
type Handover struct {
	Dev             *os.File // /dev/fuse
	Slots           *os.File // requests that were read by who hands over
	Init, InitReply []byte
}

// Handover returns what a successor needs. The files stay this Conn's.
func (c *Conn) Handover() Handover {
	return Handover{Dev: c.dev, Slots: c.slots.file, Init: c.init, InitReply: c.initReply}
}

// Adopt prepares to serve a connection of another process; h.Dev is the new
// Conn's from then on, h.Slots the caller's to give to Replay. It touches
// neither the connection nor the other process. There is a Conn with
// ErrMismatch, too.
func Adopt(h Handover, config Config) (*Conn, error) {
	c, err := newConn(h.Dev, config)
	if err != nil {
		return nil, err
	}
	c.init = bytes.Clone(h.Init)
	if err := c.greet(); err != nil {
		return nil, err
	}
	if !bytes.Equal(c.initReply, h.InitReply) {
		return c, ErrMismatch
	}
	return c, nil
}

// Replay has the requests answered that another process has read and not
// answered, and tells how many it found. They are this process's own from then
// on: overdue ones are answered like others, and a successor finds them. It may
// be called again, when the other process has ended for certain. s is the
// other's Handover.Slots.
func (c *Conn) Replay(s *os.File) (int, error) {
	other, err := mapSlots(s)
	if err != nil {
		return 0, err
	}
	defer other.unmap()
	n := 0
	for i := range slotCount {
		if l := other.length(i); l >= inHeaderSize {
			n++
			c.take(bytes.Clone(other.slot(i)[:min(l, slotSize)]))
		}
	}
	return n, nil
}

// take answers a request of another process, from a slot of this one's if one
// is free. It does not wait for the answer then.
func (c *Conn) take(req []byte) {
	buf := c.buffers.Get().(*buffer)
	select {
	case i := <-c.slots.free:
		c.slots.put(i, req)
		c.slots.since[i].Store(clock())
		c.wakeWatch()
		go func() {
			c.gate.RLock()
			c.answer(c.server, req, nil, buf)
			c.slots.clear(i)
			c.gate.RUnlock()
			c.slots.free <- i
			c.buffers.Put(buf)
		}()
	default:
		c.answer(c.server, req, nil, buf)
		c.buffers.Put(buf)
	}
}
