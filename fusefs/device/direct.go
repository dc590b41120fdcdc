// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package device

import (
	"encoding/binary"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
)

const outHeaderSize = 16 // struct fuse_out_header

// direct answers what comes all the time, GETATTR and READ, from where it was
// read to where it is written from: go-fuse's ProtocolServer allocates for each
// request. The rest, and what is not well-formed, it leaves to that (ok is
// false).
func (c *Conn) direct(req []byte, buf *buffer) (reply []byte, ok bool) {
	n, status := outHeaderSize, fuse.OK
	switch {
	case opcode(req) == opGetattr && len(req) >= int(unsafe.Sizeof(fuse.GetAttrIn{})):
		n += int(unsafe.Sizeof(fuse.AttrOut{}))
		clear(buf.tail[:n])
		status = c.getattr((*fuse.GetAttrIn)(unsafe.Pointer(&req[0])), (*fuse.AttrOut)(unsafe.Pointer(&buf.tail[outHeaderSize])))
	case opcode(req) == opRead && len(req) >= int(unsafe.Sizeof(fuse.ReadIn{})):
		in := (*fuse.ReadIn)(unsafe.Pointer(&req[0]))
		if int(in.Size) > len(buf.tail)-outHeaderSize {
			return nil, false
		}
		var size int
		size, status = c.readText(in, buf.tail[outHeaderSize:][:in.Size])
		n += size
	default:
		return nil, false
	}
	if status != fuse.OK {
		n = outHeaderSize
	}
	head := binary.NativeEndian.AppendUint32(buf.tail[:0], uint32(n))
	head = binary.NativeEndian.AppendUint32(head, uint32(-int32(status)))
	_ = binary.NativeEndian.AppendUint64(head, unique(req))
	return buf.tail[:n], true
}

func (c *Conn) getattr(in *fuse.GetAttrIn, out *fuse.AttrOut) (status fuse.Status) {
	defer c.recovered(&status)
	return c.config.FS.GetAttr(nil, in, out)
}

func (c *Conn) readText(in *fuse.ReadIn, to []byte) (n int, status fuse.Status) {
	defer c.recovered(&status)
	result, status := c.config.FS.Read(nil, in, to)
	if status != fuse.OK {
		return 0, status
	}
	defer result.Done()
	text, status := result.Bytes(to)
	return copy(to, text), status // a copy to itself where it is there already
}

// recovered makes a panic of the file system the status of its request.
func (c *Conn) recovered(status *fuse.Status) {
	if v := recover(); v != nil {
		*status = c.panicked(v)
	}
}
