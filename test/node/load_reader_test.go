// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// reader reads a file in one of the ways that programs do.
type reader struct {
	path, how string
	held      int
	out       *os.File
	buf       []byte
}

var ways = []string{"open", "held", "pread", "sendfile", "pieces", "held", "open", "mixed"}

func (r *reader) read() ([]byte, error) {
	fd := r.held
	if r.how != "held" && r.how != "pread" || fd == 0 {
		var err error
		if fd, err = unix.Open(r.path, unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
			return nil, fmt.Errorf("open: %w", err)
		}
	}
	switch r.how {
	case "held":
		r.held = fd
		if _, err := unix.Seek(fd, 0, io.SeekStart); err != nil {
			return nil, err
		}
		return r.fill(func(b []byte, _ int) (int, error) { return unix.Read(fd, b) })
	case "pread":
		r.held = fd
		return r.fill(func(b []byte, off int) (int, error) { return unix.Pread(fd, b, int64(off)) })
	case "sendfile":
		defer unix.Close(fd)
		return r.sendfile(fd)
	case "pieces": // stdio
		defer unix.Close(fd)
		return r.fill(func(b []byte, _ int) (int, error) { return unix.Read(fd, b[:min(len(b), 1024)]) })
	default:
		defer unix.Close(fd)
		return r.fill(func(b []byte, _ int) (int, error) { return unix.Read(fd, b) })
	}
}

func (r *reader) fill(read func(b []byte, off int) (int, error)) ([]byte, error) {
	for n := 0; ; {
		m, err := read(r.buf[n:], n)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return nil, err
		case m == 0:
			return r.buf[:n], nil
		}
		n += max(m, 0)
	}
}

func (r *reader) sendfile(fd int) ([]byte, error) {
	if r.out == nil {
		memfd, err := unix.MemfdCreate("out", unix.MFD_CLOEXEC)
		if err != nil {
			return nil, err
		}
		r.out = os.NewFile(uintptr(memfd), "out")
	}
	out := int(r.out.Fd())
	if _, err := unix.Seek(out, 0, io.SeekStart); err != nil {
		return nil, err
	}
	total := 0
	for {
		n, err := unix.Sendfile(out, fd, nil, 1<<16)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("sendfile: %w", err)
		}
		if n == 0 {
			break
		}
		total += n
	}
	n, err := unix.Pread(out, r.buf[:total], 0)
	return r.buf[:n], err
}
