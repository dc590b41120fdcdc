// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package device

import (
	"encoding/binary"
	"os"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
)

type forgetter struct {
	fuse.RawFileSystem
	forgotten map[uint64]uint64
}

func (f *forgetter) Forget(id, lookups uint64) { f.forgotten[id] += lookups }

// A kernel that drops many inodes at once says so in one request, which is
// longer than a slot.
func TestForgetMany(t *testing.T) {
	dev, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	fs := &forgetter{fuse.NewDefaultRawFileSystem(), make(map[uint64]uint64)}
	c, err := newConn(dev, Config{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	const many = 1000
	req := make([]byte, inHeaderSize)
	putU32(req[4:], opBatchForget)
	req = binary.NativeEndian.AppendUint32(req, many)
	req = binary.NativeEndian.AppendUint32(req, 0)
	for id := range uint64(many) {
		req = binary.NativeEndian.AppendUint64(req, id)
		req = binary.NativeEndian.AppendUint64(req, 2)
	}
	putU32(req, uint32(len(req)))
	buf := &buffer{head: make([]byte, replyHead), tail: make([]byte, readSize)}
	n := copy(buf.tail, req[slotSize:])
	c.answer(c.server, req[:slotSize], buf.tail[:n], buf)
	for id := range uint64(many) {
		if fs.forgotten[id] != 2 {
			t.Fatalf("inode %d was forgotten %d times of 2", id, fs.forgotten[id])
		}
	}
}
