// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"errors"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// member is one that has joined.
type member struct {
	link *link
	raw  syscall.RawConn // of link
	pid  int
	gone chan struct{} // closed when it is

	// guarded by Lead.mu
	ready, leaving, failed, yours bool

	mu    sync.Mutex // guards queue
	queue [][]byte   // what the socket has no room for
	bytes int        // of it
	more  chan struct{}
}

// sendBuffer is for some 10,000 records, each in a packet of its own.
const sendBuffer = 8 << 20

// maxQueue bounds what is kept for a process that does not read. The state of
// 100,000 files is 16 MB.
const maxQueue = 64 << 20

// post sends a packet, in the order of calls. It does not block.
func (m *member) post(p []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.queue) == 0 && m.now(p) {
		return
	}
	if m.bytes += len(p); m.bytes > maxQueue {
		m.link.conn.Close() // it hangs; when it is back it joins again
		return
	}
	m.queue = append(m.queue, append([]byte(nil), p...))
	select {
	case m.more <- struct{}{}:
	default:
	}
}

// now sends a packet if there is room for it: it is in the kernel then,
// whatever becomes of this process.
func (m *member) now(p []byte) (sent bool) {
	err := m.raw.Control(func(fd uintptr) { sent = sendNow(fd, p) })
	return sent || err != nil // closed: nobody is there to get it
}

func sendNow(fd uintptr, p []byte) bool {
	for {
		_, err := unix.SendmsgN(int(fd), p, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		if !errors.Is(err, unix.EINTR) {
			return !errors.Is(err, unix.EAGAIN)
		}
	}
}

// sendRest sends what is queued, when there is room again.
func (m *member) sendRest() {
	for {
		select {
		case <-m.gone:
			return
		case <-m.more:
		}
		// Called again whenever there is room, until it returns true.
		_ = m.raw.Write(func(fd uintptr) bool {
			m.mu.Lock()
			defer m.mu.Unlock()
			for len(m.queue) > 0 {
				if !sendNow(fd, m.queue[0]) {
					return false
				}
				m.bytes -= len(m.queue[0])
				m.queue = m.queue[1:]
			}
			return true
		})
	}
}

// flush waits until all is sent, and tells whether it is.
func (m *member) flush(within time.Duration) bool {
	for end := time.Now().Add(within); ; {
		m.mu.Lock()
		rest := len(m.queue)
		m.mu.Unlock()
		if rest == 0 {
			return true
		}
		select {
		case <-m.gone:
			return false
		case <-time.After(time.Millisecond):
		}
		if time.Now().After(end) {
			return false
		}
	}
}
