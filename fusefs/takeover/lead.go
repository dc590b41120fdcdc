// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Lead is the part of the process that serves.
type Lead struct {
	node   *Node
	conn   Connection
	state  State
	listen *net.UnixListener

	takes    chan *member // who wants to serve
	synced   chan *member // who could
	releases chan *link   // clients that want the containers released
	stop     chan struct{}
	stopOnce sync.Once

	hasLock atomic.Bool

	mu      sync.Mutex
	members map[*member]bool
}

// Lead begins to lead: others can join, and get the state from then on. It is
// called when this process serves.
func (n *Node) Lead(c Connection, state State) (*Lead, error) {
	// Exclusive from Join, if this process is the first: what is to be held
	// exists now.
	if !n.holder.try(unix.LOCK_SH) {
		return nil, errors.New("lock of the connection is held by another process that makes one")
	}
	name := "sock." + strconv.Itoa(os.Getpid())
	_ = os.Remove(n.socket(name))
	listen, err := net.ListenUnix("unixpacket", &net.UnixAddr{Net: "unixpacket", Name: n.socket(name)})
	if err != nil {
		return nil, fmt.Errorf("listen in control directory: %w", err)
	}
	listen.SetUnlinkOnClose(false)
	// Over the socket of who served before.
	if err := os.Rename(n.socket(name), n.socket("sock")); err != nil {
		listen.Close()
		return nil, fmt.Errorf("publish socket: %w", err)
	}
	l := &Lead{
		node: n, conn: c, state: state, listen: listen,
		takes: make(chan *member), synced: make(chan *member), releases: make(chan *link),
		stop: make(chan struct{}), members: make(map[*member]bool),
	}
	state.SetJournal(l.journal)
	go l.save()
	go l.accept()
	go l.beat()
	go l.lock()
	return l, nil
}

// Close ends it: who has joined finds the connection left to them.
func (l *Lead) Close() {
	l.stopOnce.Do(func() {
		close(l.stop)
		l.listen.Close()
		l.mu.Lock()
		defer l.mu.Unlock()
		for m := range l.members {
			m.link.conn.Close()
		}
	})
}

// Peers is how many processes could serve instead of this one.
func (l *Lead) Peers() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for m := range l.members {
		if m.ready && !m.leaving {
			n++
		}
	}
	return n
}

// lock gets the lock of who serves when it falls free.
func (l *Lead) lock() {
	for !l.node.serving.try(unix.LOCK_EX) {
		select {
		case <-l.stop:
			return
		case <-time.After(l.node.config.Beat / 5):
		}
	}
	l.hasLock.Store(true)
}

// locked is the lock of who serves, if this process has got it: a successor
// gets it with the file, and nobody can come between.
func (l *Lead) locked() []*os.File {
	if !l.hasLock.Load() {
		return nil
	}
	return []*os.File{l.node.serving.file}
}

func (l *Lead) beat() {
	tick := time.NewTicker(l.node.config.Beat)
	defer tick.Stop()
	for {
		select {
		case <-l.stop:
			return
		case <-tick.C:
		}
		if l.node.config.Alive() {
			l.each(func(m *member) { m.post(l.node.file.position().encode([]byte{sayAlive})) })
		}
	}
}

// each calls f for those who have joined. f must not block.
func (l *Lead) each(f func(*member)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for m := range l.members {
		f(m)
	}
}

// journal sends a change to all. It does not block.
func (l *Lead) journal(record []byte) {
	// Both together: what a sign of life says of the file has been sent.
	l.mu.Lock()
	defer l.mu.Unlock()
	l.node.file.add(record)
	if len(l.members) == 0 {
		return
	}
	p := appendRecord([]byte{sayRecords}, record)
	for m := range l.members {
		m.post(p)
	}
}

// save keeps the state file whole, and short.
func (l *Lead) save() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		begin, complete := l.node.file.due()
		var err error
		if begin {
			err = l.node.file.begin()
		}
		if complete && err == nil {
			err = l.node.file.complete(l.state)
		}
		if err != nil {
			l.node.config.Log.Warn("state would be lost with all processes", "error", err)
		}
		select {
		case <-l.stop:
			return
		case <-tick.C:
		}
	}
}

func (l *Lead) accept() {
	for {
		conn, err := l.listen.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			l.node.config.Log.Error("accept in control directory", "error", err)
			select {
			case <-l.stop:
				return
			case <-time.After(l.node.config.Beat):
			}
			continue
		}
		go l.greet(conn)
	}
}

// greet finds out who has connected.
func (l *Lead) greet(conn *net.UnixConn) {
	pid, pidfd, root := peer(conn)
	if pidfd >= 0 {
		unix.Close(pidfd)
	}
	link := newLink(conn)
	kind, _, _, err := link.receive(l.node.config.Silence)
	switch {
	case !root || err != nil:
		l.node.config.Log.Warn("refused a connection", "process", pid, "root", root, "error", err)
	case kind == sayRelease:
		select {
		case l.releases <- link:
			return // answered there
		case <-l.stop:
		}
	case kind == sayHello:
		raw, err := conn.SyscallConn()
		if err != nil {
			break
		}
		// What is sent is the kernel's, whoever dies: have room for what a
		// peer is behind.
		_ = raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, sendBuffer)
		})
		l.serve(&member{link: link, raw: raw, pid: pid, more: make(chan struct{}, 1), gone: make(chan struct{})})
	}
	conn.Close()
}

// serve talks to one that has joined, until it is gone.
func (l *Lead) serve(m *member) {
	if err := m.link.welcome(l.node.config.Version, l.conn); err != nil {
		l.node.config.Log.Warn("welcome a process", "process", m.pid, "error", err)
		return
	}
	go m.sendRest()
	l.mu.Lock()
	l.members[m] = true
	l.mu.Unlock()
	defer func() {
		close(m.gone)
		l.mu.Lock()
		delete(l.members, m)
		l.mu.Unlock()
	}()
	l.sync(m)
	for {
		kind, _, _, err := m.link.receive(time.Hour)
		if errors.Is(err, errSilent) {
			continue // who waits has nothing to say
		}
		if err != nil {
			l.node.config.Log.Info("a process has left", "process", m.pid)
			return
		}
		switch kind {
		case sayTake:
			select {
			case l.takes <- m:
			case <-l.stop:
			}
		case sayLeaving:
			l.mu.Lock()
			if !m.yours {
				m.leaving = true
				m.post([]byte{sayBye})
			}
			l.mu.Unlock()
		}
	}
}

// sync sends all that is known. Changes are sent meanwhile: each record goes out
// at once, while nobody can change what it is of, or an older one would come
// after a newer.
func (l *Lead) sync(m *member) {
	l.state.Records(func(record []byte) { m.post(appendRecord([]byte{sayRecords}, record)) })
	l.mu.Lock()
	m.post([]byte{saySynced})
	m.ready = true
	l.mu.Unlock()
	l.node.config.Log.Info("a process has joined", "process", m.pid)
	select {
	case l.synced <- m:
	default: // nobody waits for it
	}
}

// Outcome says how a process has ceased to lead.
type Outcome int

const (
	SteppedBack Outcome = iota // a newer process serves
	Left                       // ctx has ended, and somebody else serves
	Alone                      // ctx has ended, and nobody else has come in time
)

// Pauser is a connection that can be made to begin no further requests.
type Pauser interface {
	Pause()
	Resume()
}

// Run leads until somebody else does, or ctx has ended: then it hands over to
// one that has joined, or waits for one as long as grace. It still serves when
// it returns Alone; otherwise the process has to end, or to execute itself
// anew, at once: the successor waits for that to answer what was left.
//
// release is called when the command for it comes, and answers it.
func (l *Lead) Run(ctx context.Context, grace time.Duration, conn Pauser, release func() any) Outcome {
	leave := ctx.Done()
	var timeout <-chan time.Time
	released := false
	for {
		select {
		case m := <-l.takes:
			if l.handOver(m, conn) {
				return SteppedBack
			}
		case link := <-l.releases:
			released = true
			go func() {
				_ = link.send(sayReleased, release())
				link.conn.Close()
			}()
		case <-leave:
			if released {
				return Alone // nothing is left to hand over
			}
			leave = nil
			timeout = time.After(grace)
			if l.handOverToAny(conn) {
				return Left
			}
			l.node.config.Log.Info("nobody else holds the connection: waiting for somebody to hand it over to", "grace", grace)
		case <-l.synced:
			if timeout != nil && l.handOverToAny(conn) {
				return Left
			}
		case <-timeout:
			return Alone
		case <-l.stop:
			return Left
		}
	}
}

func (l *Lead) handOverToAny(conn Pauser) bool {
	for {
		var to *member
		l.each(func(m *member) {
			if m.ready && !m.leaving && !m.failed {
				to = m
			}
		})
		if to == nil {
			return false
		}
		if l.handOver(to, conn) {
			return true
		}
	}
}

// handOver answers what was begun and then leaves the connection to m, if
// that one is still there to take it.
func (l *Lead) handOver(m *member, conn Pauser) bool {
	// As far as possible before anybody has to wait.
	m.flush(l.node.config.Silence)
	conn.Pause()
	l.mu.Lock()
	ok := !m.leaving && l.members[m]
	if ok {
		m.yours = true // no more of sayBye
	}
	l.mu.Unlock()
	if ok && m.flush(l.node.config.Silence) && m.link.send(sayYours, nil, l.locked()...) == nil {
		l.node.config.Log.Info("handed over", "process", m.pid)
		l.state.SetJournal(nil)
		return true
	}
	l.node.config.Log.Warn("handing over failed: serving on", "process", m.pid)
	l.mu.Lock()
	m.failed = true
	l.mu.Unlock()
	m.link.conn.Close()
	conn.Resume()
	return false
}
