// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// handle is an open control file. It lives while it has references: one is
// the cache's, the others are those of reads under way, so that a descriptor
// is never closed under a read and no lock is held across one.
type handle struct {
	file *file
	fd   int
	refs atomic.Int32
	used atomic.Bool // since the clock's hand came by
	slot int         // in fileCache.ring, -1 if not; guarded by fileCache.mu
}

// newHandle returns a handle with one reference, the caller's.
func newHandle(f *file, fd int) *handle {
	h := &handle{file: f, fd: fd, slot: -1}
	h.refs.Store(1)
	h.used.Store(true)
	return h
}

// acquire takes a reference, unless the descriptor is closed already.
func (h *handle) acquire() bool {
	for {
		n := h.refs.Load()
		if n == 0 {
			return false
		}
		if h.refs.CompareAndSwap(n, n+1) {
			if !h.used.Load() { // spares a shared cache line
				h.used.Store(true)
			}
			return true
		}
	}
}

func (h *handle) release() {
	if h.refs.Add(-1) == 0 {
		unix.Close(h.fd)
	}
}

// fileCache bounds how many control files are kept open: beyond max, the ones
// that were not read for longest are closed, as told by a clock (a file that
// was read since the hand came by is passed over once).
type fileCache struct {
	max int

	mu   sync.Mutex
	ring []*handle
	hand int
}

// add puts h, which has a reference for the cache, under the bound.
func (c *fileCache) add(h *handle) {
	c.mu.Lock()
	var out *handle
	if len(c.ring) >= c.max {
		out = c.evict()
	}
	h.slot = len(c.ring)
	c.ring = append(c.ring, h)
	c.mu.Unlock()
	if out != nil {
		out.release()
	}
}

// evict takes the handle out that the clock points to; c.mu is held.
func (c *fileCache) evict() *handle {
	if len(c.ring) == 0 {
		return nil
	}
	for {
		c.hand = (c.hand + 1) % len(c.ring)
		if h := c.ring[c.hand]; !h.used.Swap(false) {
			c.remove(h)
			return h
		}
	}
}

// remove takes h out of the ring and its file; c.mu is held.
func (c *fileCache) remove(h *handle) {
	last := len(c.ring) - 1
	c.ring[h.slot] = c.ring[last]
	c.ring[h.slot].slot = h.slot
	c.ring[last] = nil
	c.ring = c.ring[:last]
	h.slot = -1
	h.file.open.CompareAndSwap(h, nil)
}

// drop closes h, unless that was done before.
func (c *fileCache) drop(h *handle) {
	if h == nil {
		return
	}
	c.mu.Lock()
	in := h.slot >= 0
	if in {
		c.remove(h)
	}
	c.mu.Unlock()
	if in {
		h.release()
	}
}

func (c *fileCache) dropAll() {
	for c.dropOne() {
	}
}

// dropOne closes the file that was not read for longest, if there is one.
func (c *fileCache) dropOne() bool {
	c.mu.Lock()
	h := c.evict()
	c.mu.Unlock()
	if h != nil {
		h.release()
	}
	return h != nil
}

func (c *fileCache) open() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.ring)
}

// openat opens a control file, at the cost of others when the process has no
// descriptor left.
func (c *fileCache) openat(dir int, name string) (int, error) {
	for {
		fd, err := openat(dir, name, unix.O_RDONLY)
		if (err == unix.EMFILE || err == unix.ENFILE) && c.dropOne() {
			continue
		}
		return fd, err
	}
}
