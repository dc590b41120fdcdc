// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package device

import (
	"bytes"
	"os"
	"testing"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// known is a file system that says what there is to say of a file; node 13
// makes it panic, and node 14 is not there.
type known struct{ fuse.RawFileSystem }

var text = fuse.ReadResultData([]byte("0123456789"))

func (known) status(node uint64) fuse.Status {
	switch node {
	case 13:
		panic("as the test wants")
	case 14:
		return fuse.ENOENT
	}
	return fuse.OK
}

func (k known) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	out.Attr = fuse.Attr{Ino: in.NodeId, Size: in.Fh(), Mode: unix.S_IFREG | 0o444, Nlink: in.Flags()}
	return k.status(in.NodeId)
}

func (k known) Read(_ <-chan struct{}, in *fuse.ReadIn, to []byte) (fuse.ReadResult, fuse.Status) {
	switch in.Offset {
	case 0:
		return text, k.status(in.NodeId) // from elsewhere
	}
	return fuse.ReadResultData(to[:copy(to, "in place")]), k.status(in.NodeId)
}

func request(op uint32, node, offset uint64, size uint32) []byte {
	in := fuse.ReadIn{Offset: offset, Size: size, Fh: 5}
	in.Length, in.Opcode, in.Unique, in.NodeId = uint32(unsafe.Sizeof(in)), op, 77, node
	if op == opGetattr {
		in.Length = uint32(unsafe.Sizeof(fuse.GetAttrIn{}))
	}
	return bytes.Clone(unsafe.Slice((*byte)(unsafe.Pointer(&in)), in.Length))
}

func newTestConn(t *testing.T) (*Conn, *buffer) {
	t.Helper()
	dev, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dev.Close() })
	c, err := newConn(dev, Config{FS: known{fuse.NewDefaultRawFileSystem()}})
	if err != nil {
		t.Fatal(err)
	}
	return c, c.buffers.Get().(*buffer)
}

// What is answered directly is what go-fuse's ProtocolServer answers.
func TestDirect(t *testing.T) {
	c, buf := newTestConn(t)
	for name, req := range map[string][]byte{
		"GETATTR":              request(opGetattr, 7, 0, 0),
		"GETATTR of nothing":   request(opGetattr, 14, 0, 0),
		"GETATTR that panics":  request(opGetattr, 13, 0, 0),
		"READ":                 request(opRead, 7, 0, 4096),
		"READ in place":        request(opRead, 7, 1, 4096),
		"READ of a few bytes":  request(opRead, 7, 1, 3),
		"READ of no bytes":     request(opRead, 7, 1, 0),
		"READ of nothing":      request(opRead, 14, 1, 4096),
		"READ that panics":     request(opRead, 13, 1, 4096),
		"READ of what is most": request(opRead, 7, 1, maxWrite),
	} {
		got, ok := c.direct(req, buf)
		if !ok {
			t.Errorf("%s is not answered directly", name)
		}
		got = bytes.Clone(got)
		want := make([]byte, readSize)
		n, status := c.server.HandleRequest([][]byte{req}, [][]byte{want})
		if !status.Ok() || !bytes.Equal(got, want[:n]) {
			t.Errorf("%s: % x\nwant % x (%v)", name, got, want[:n], status)
		}
	}
	for name, req := range map[string][]byte{
		"LOOKUP":        request(1, 7, 0, 0),
		"cut GETATTR":   request(opGetattr, 7, 0, 0)[:inHeaderSize],
		"cut READ":      request(opRead, 7, 0, 0)[:inHeaderSize],
		"READ too long": request(opRead, 7, 0, 1<<20),
	} {
		if got, ok := c.direct(req, buf); ok {
			t.Errorf("%s is answered directly: % x", name, got)
		}
	}
}

func TestDirectDoesNotAllocate(t *testing.T) {
	c, buf := newTestConn(t)
	getattr, read := request(opGetattr, 7, 0, 0), request(opRead, 7, 0, 4096)
	if n := testing.AllocsPerRun(100, func() {
		c.direct(getattr, buf)
		c.direct(read, buf)
	}); n != 0 {
		t.Errorf("a GETATTR and a READ allocate %v times", n)
	}
}
