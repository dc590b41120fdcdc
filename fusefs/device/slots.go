// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package device

import (
	"encoding/binary"
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// slotSize holds every request that podproc has to answer: the longest is
	// a LOOKUP of a 255-byte name. What is longer (a name of more than 255
	// bytes, an xattr) is refused from its header alone.
	slotSize = 512
	// slotCount bounds the requests that are read and not yet answered.
	slotCount = 2048
)

// slots is memory shared between the processes that serve a connection one
// after the other: each request is read by the kernel straight into a slot
// and stays there until its answer is written. What a process leaves behind
// when it dies in the middle is found there by its successor.
//
// A slot is in use while the length in its request header is not 0.
type slots struct {
	file *os.File
	mem  []byte
	free chan int
	// since is when the request in a slot was read, in ns of Clock; 0 while
	// nobody works on it.
	since [slotCount]atomic.Int64
}

func newSlots() (*slots, error) {
	fd, err := unix.MemfdCreate("podproc-requests", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create memory for requests: %w", err)
	}
	f := os.NewFile(uintptr(fd), "requests")
	if err := f.Truncate(slotSize * slotCount); err != nil {
		f.Close()
		return nil, fmt.Errorf("size memory for requests: %w", err)
	}
	s, err := mapSlots(f)
	if err != nil {
		f.Close()
		return nil, err
	}
	// Every page is made present before the first read: the kernel gives up
	// a page fault of a process that is being killed, and with it the request
	// that it was about to copy here.
	for i := 0; i < len(s.mem); i += os.Getpagesize() {
		s.mem[i] = 0
	}
	s.free = make(chan int, slotCount)
	for i := range slotCount {
		s.free <- i
	}
	return s, nil
}

// mapSlots maps the slots of another process, to look at.
func mapSlots(f *os.File) (*slots, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("stat memory of requests: %w", err)
	}
	if st.Size() != slotSize*slotCount {
		return nil, fmt.Errorf("memory of requests has %d bytes, want %d: it is another version's", st.Size(), slotSize*slotCount)
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, slotSize*slotCount, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return nil, fmt.Errorf("map memory of requests: %w", err)
	}
	return &slots{file: f, mem: mem}, nil
}

func (s *slots) unmap() { _ = unix.Munmap(s.mem) }

func (s *slots) slot(i int) []byte { return s.mem[i*slotSize : (i+1)*slotSize : (i+1)*slotSize] }

// length is the length of the request in slot i, 0 if there is none.
func (s *slots) length(i int) int {
	return int(atomic.LoadUint32((*uint32)(unsafe.Pointer(&s.mem[i*slotSize]))))
}

// put writes a request into slot i, its length last.
func (s *slots) put(i int, req []byte) {
	copy(s.slot(i)[4:], req[4:])
	atomic.StoreUint32((*uint32)(unsafe.Pointer(&s.mem[i*slotSize])), u32(req))
}

// clear marks slot i as answered.
func (s *slots) clear(i int) {
	s.since[i].Store(0)
	atomic.StoreUint32((*uint32)(unsafe.Pointer(&s.mem[i*slotSize])), 0)
}

// The request header, struct fuse_in_header of linux/fuse.h.
const inHeaderSize = 40

func opcode(req []byte) uint32 { return binary.NativeEndian.Uint32(req[4:]) }
func unique(req []byte) uint64 { return binary.NativeEndian.Uint64(req[8:]) }
func nodeID(req []byte) uint64 { return binary.NativeEndian.Uint64(req[16:]) }

// errorReply is a reply that has a header only: struct fuse_out_header.
func errorReply(dst []byte, unique uint64, errno unix.Errno) []byte {
	dst = binary.NativeEndian.AppendUint32(dst, 16)
	dst = binary.NativeEndian.AppendUint32(dst, uint32(-int32(errno)))
	return binary.NativeEndian.AppendUint64(dst, unique)
}

func u32(b []byte) uint32       { return binary.NativeEndian.Uint32(b) }
func putU32(b []byte, v uint32) { binary.NativeEndian.PutUint32(b, v) }
