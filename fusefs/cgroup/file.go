// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

func openat(dir int, name string, flags int) (fd int, err error) {
	err = ignoringEINTR(func() error {
		fd, err = unix.Openat(dir, name, flags|unix.O_CLOEXEC, 0)
		return err
	})
	return fd, err
}

// buffer is room for the text of one file.
type buffer struct{ b []byte }

const maxText = 4 << 20 // no control file comes near it

// pread reads a file that the kernel renders as one record, which it hands out
// whole to whoever has room for it.
func (buf *buffer) pread(fd int) ([]byte, error) {
	for {
		n, err := unix.Pread(fd, buf.b, 0)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return nil, err
		case n < len(buf.b):
			return buf.b[:n], nil
		default:
			if err := buf.grow(); err != nil {
				return nil, err
			}
		}
	}
}

// readAll reads to the end of the file, as files of many records need it.
func (buf *buffer) readAll(fd int) ([]byte, error) {
	for n := 0; ; {
		if n == len(buf.b) {
			if err := buf.grow(); err != nil {
				return nil, err
			}
		}
		m, err := unix.Read(fd, buf.b[n:])
		switch {
		case err == unix.EINTR:
		case err != nil:
			return nil, err
		case m == 0:
			return buf.b[:n], nil
		default:
			n += m
		}
	}
}

func (buf *buffer) grow() error {
	if len(buf.b) >= maxText {
		return fmt.Errorf("more than %d bytes of text", maxText)
	}
	b := make([]byte, 2*len(buf.b))
	copy(b, buf.b)
	buf.b = b
	return nil
}

// scratchList keeps buffers for reuse. Unlike a sync.Pool it loses none to the
// garbage collector, so that reads stay free of allocation.
type scratchList struct {
	mu   sync.Mutex
	free []*buffer
}

func (l *scratchList) get() *buffer {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.free); n > 0 {
		b := l.free[n-1]
		l.free = l.free[:n-1]
		return b
	}
	return &buffer{b: make([]byte, 8192)}
}

const maxScratch = 64 // buffers kept, more than reads at a time

func (l *scratchList) put(b *buffer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.free) < maxScratch {
		l.free = append(l.free, b)
	}
}

// procs returns up to limit ids of a cgroup's processes, of its threads where
// it is a threaded one, which has none. Those that FS's pid namespace has no id
// for are left out.
func (h *hierarchy) procs(path string, limit int) ([]int, error) {
	ids, err := h.ids(path, "cgroup.procs", limit)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return h.ids(path, "cgroup.threads", limit)
	}
	return ids, err
}

func (h *hierarchy) ids(path, name string, limit int) ([]int, error) {
	fd, err := openat(h.fd, relative(path)+"/"+name, unix.O_RDONLY)
	var b []byte
	if err == nil {
		buf := buffer{b: make([]byte, 4096)}
		b, err = buf.readAll(fd)
		unix.Close(fd)
	}
	switch {
	case errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV):
		return nil, fmt.Errorf("%s: %w", h.show(path), ErrGone)
	case err != nil:
		return nil, fmt.Errorf("read %s/%s: %w", h.show(path), name, err)
	}
	ids, err := parseIDs(b, limit)
	if err != nil {
		return nil, fmt.Errorf("parse %s/%s: %w", h.show(path), name, err)
	}
	return ids, nil
}
