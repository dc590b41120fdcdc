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

// Replay answers the requests that another process has read and not answered,
// and tells how many it found. It may be called again, when the other process
// has ended for certain. s is the other's Handover.Slots.
func (c *Conn) Replay(s *os.File) (int, error) {
	other, err := mapSlots(s)
	if err != nil {
		return 0, err
	}
	defer other.unmap()
	n := 0
	buf := c.buffers.Get().(*buffer)
	defer c.buffers.Put(buf)
	for i := range slotCount {
		if l := other.length(i); l >= inHeaderSize {
			n++
			c.answer(c.server, bytes.Clone(other.slot(i)[:min(l, slotSize)]), nil, buf)
		}
	}
	return n, nil
}
