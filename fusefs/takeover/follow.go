// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podproc/podproc/fusefs/device"
)

// Peer is the part of a process that has joined the active one, and does not
// serve yet.
type Peer struct {
	Connection

	node   *Node
	link   *link
	active string // for the log
	pidfd  int    // of the active one
	gone   chan struct{}
	synced chan struct{}
	seen   position // in the state file
}

// Synced is closed when all of the active one's state is known.
func (p *Peer) Synced() <-chan struct{} { return p.synced }

// Join joins who serves. Without anybody alive it returns nil: this process
// is to make a connection, and then to Lead; with Config.Standby it waits
// until somebody else has done that. Join ends with ctx.
func (n *Node) Join(ctx context.Context) (*Peer, error) {
	since := time.Now()
	for ctx.Err() == nil {
		// There is nothing better to do than to wait for a slow one.
		p, err := n.dial(ctx, n.config.Patience)
		if err == nil {
			return p, nil
		}
		n.holder.release()
		n.config.Log.Debug("nobody to join", "error", err)
		if !n.config.Standby && n.serving.try(unix.LOCK_EX) {
			if n.holder.try(unix.LOCK_EX) {
				return nil, nil
			}
			n.serving.release()
		}
		// Whoever holds the connection is about to serve, or hangs.
		if time.Since(since) > n.config.Patience {
			n.killHolders()
			since = time.Now()
		}
		select {
		case <-ctx.Done():
		case <-time.After(n.config.Beat / 4):
		}
	}
	return nil, ctx.Err()
}

// dial joins who serves, if somebody does, and answers in time. It may have taken the lock of the
// connection with an error, too.
func (n *Node) dial(ctx context.Context, within time.Duration) (*Peer, error) {
	conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Net: "unixpacket", Name: n.socket("sock")})
	if err != nil {
		return nil, err
	}
	p := &Peer{node: n, link: newLink(conn), gone: make(chan struct{}), synced: make(chan struct{})}
	var pid int
	pid, p.pidfd, _ = peer(conn)
	// From here on nobody makes another connection.
	if !n.holder.try(unix.LOCK_SH) {
		p.close()
		return nil, errors.New("a connection is being made")
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	var version string
	err = p.link.send(sayHello, hello{Version: n.config.Version})
	if err == nil {
		version, p.Connection, err = p.link.welcomed(within)
	}
	if !stop() && err == nil {
		err = ctx.Err()
		p.discard()
	}
	if err != nil {
		p.close()
		return nil, err
	}
	p.active = fmt.Sprintf("process %d, version %s", pid, version)
	n.config.Log.Info("joined", "active", p.active)
	return p, nil
}

func (p *Peer) close() {
	p.link.conn.Close()
	if p.pidfd >= 0 {
		unix.Close(p.pidfd)
		p.pidfd = -1
	}
}

// killHolders ends the processes that hold the connection and have not
// answered for long.
func (n *Node) killHolders() {
	for _, pid := range n.holder.holders() {
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue
		}
		// Once more: the number might have been taken over before the open.
		for _, again := range n.holder.holders() {
			if again == pid && pid != os.Getpid() {
				n.config.Log.Warn("ending a process that holds the connection and does not answer", "process", pid)
				_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
			}
		}
		unix.Close(fd)
	}
}

// holders are the processes that hold the lock, by /proc/locks.
func (l *lock) holders() (pids []int) {
	var st unix.Stat_t
	text, err := os.ReadFile("/proc/locks")
	if err != nil || unix.Fstat(int(l.file.Fd()), &st) != nil {
		return nil
	}
	for line := range strings.Lines(string(text)) {
		// 1: FLOCK  ADVISORY  READ 4242 00:1a:1234 0 EOF
		f := strings.Fields(line)
		if len(f) < 6 || f[1] != "FLOCK" || !strings.HasSuffix(f[5], ":"+strconv.FormatUint(st.Ino, 10)) {
			continue
		}
		if pid, err := strconv.Atoi(f[4]); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Cause says why it is this process's turn to serve.
type Cause string

const (
	HandedOver Cause = "handover" // the active one has stepped back
	Died       Cause = "died"     // the active one is gone
	Silent     Cause = "silent"   // the active one hangs, and has been killed
	First      Cause = "first"    // nobody has served before
)

// ErrLeft says that the process may end.
var ErrLeft = errors.New("left")

// Follow keeps state up to date until it is this process's turn, and returns
// why; the caller then serves at once, calls Replay, and leads. A newcomer,
// that is no standby, asks for its turn as soon as it knows the state. If the
// active one has lost touch with this process and another one serves, Follow
// returns a Peer that has joined it, to begin again with. When ctx ends it
// returns ErrLeft, unless it is its turn for lack of anybody else.
func (p *Peer) Follow(ctx context.Context, state State) (Cause, *Peer, error) {
	leave := context.AfterFunc(ctx, func() { _ = p.link.send(sayLeaving, nil) })
	defer leave()
	var alive time.Time // the last sign of life; zero: not in step yet
	for {
		if !alive.IsZero() && time.Since(alive) > 3*p.node.config.Silence {
			return p.kill(ctx, state) // it sends its state, and does not answer
		}
		within := p.node.config.Silence
		if alive.IsZero() {
			within *= 5 // it has just spoken, and what it has not told is lost
		}
		kind, body, files, err := p.link.receive(within)
		if kind == sayYours && len(files) == 1 {
			p.node.serving.file.Close()
			p.node.serving.file, files = files[0], nil
		}
		for _, f := range files {
			f.Close()
		}
		switch {
		case err == nil:
		case errors.Is(err, errSilent):
			return p.kill(ctx, state)
		case errors.Is(err, io.EOF):
			close(p.gone)
			return p.succeed(ctx, state, Died)
		default:
			p.node.config.Log.Warn("connection to the active process", "error", err)
			return p.kill(ctx, state)
		}
		switch kind {
		case sayAlive:
			if alive.IsZero() {
				break // not all that there was before has come
			}
			alive = time.Now()
			if seen, ok := decodePosition(body); ok {
				p.seen = seen
			}
		case sayRecords:
			if err := eachRecord(body, func(r []byte) error { p.apply(state, r); return nil }); err != nil {
				return "", nil, err
			}
		case saySynced:
			close(p.synced)
			alive = time.Now()
			p.node.config.Log.Info("in step with the active process", "active", p.active)
			if !p.node.config.Standby {
				_ = p.link.send(sayTake, nil)
			}
		case sayYours:
			go p.awaitEnd()
			return HandedOver, nil, nil
		case sayBye:
			p.Leave()
			return "", nil, ErrLeft
		}
	}
}

func (p *Peer) apply(state State, record []byte) {
	if err := state.Apply(record); err != nil {
		p.node.config.Log.Warn("state of the active process", "error", err)
	}
}

// awaitEnd waits until the process that has stepped back is gone: its socket
// is closed when all its threads have returned from the device.
func (p *Peer) awaitEnd() {
	defer close(p.gone)
	for {
		_, _, files, err := p.link.receive(time.Minute)
		for _, f := range files {
			f.Close()
		}
		if err != nil && !errors.Is(err, errSilent) {
			return
		}
	}
}

// kill ends an active process that does not give signs of life any more.
func (p *Peer) kill(ctx context.Context, state State) (Cause, *Peer, error) {
	p.node.config.Log.Warn("the active process is silent: it is killed", "active", p.active)
	if p.pidfd >= 0 {
		_ = unix.PidfdSendSignal(p.pidfd, unix.SIGKILL, nil, 0)
	}
	// What it has told readers to the last is in the socket.
	for end := time.Now().Add(p.node.config.Silence / 4); ; {
		kind, body, files, err := p.link.receive(time.Until(end))
		for _, f := range files {
			f.Close()
		}
		if kind == sayRecords {
			_ = eachRecord(body, func(r []byte) error { p.apply(state, r); return nil })
		}
		switch {
		case errors.Is(err, io.EOF):
			close(p.gone)
			return p.succeed(ctx, state, Silent)
		case err != nil || !time.Now().Before(end):
			go p.awaitEnd()
			return p.succeed(ctx, state, Silent)
		}
	}
}

// succeed finds out who serves next.
func (p *Peer) succeed(ctx context.Context, state State, cause Cause) (Cause, *Peer, error) {
	n := p.node
	// The lock falls free with the death of who held it. If it does not,
	// another one was faster, or has got it from who went, and serves in a
	// moment; or who held it hangs in its death. Then to serve is more urgent.
	for end := time.Now().Add(3 * n.config.Silence); time.Now().Before(end); time.Sleep(n.config.Beat / 50) {
		if n.serving.try(unix.LOCK_EX) {
			p.catchUp(state)
			return cause, nil, nil
		}
		next, err := n.dial(context.Background(), n.config.Silence)
		if err != nil {
			continue
		}
		n.config.Log.Info("another process serves already", "active", next.active)
		p.discard()
		if ctx.Err() != nil {
			next.Leave()
			return "", nil, ErrLeft
		}
		return "", next, nil
	}
	p.catchUp(state)
	return cause, nil, nil
}

// catchUp takes from the state file what the process that is gone has told
// readers, and its socket had no room for any more.
func (p *Peer) catchUp(state State) {
	if err := p.node.restore(p.seen, state); err != nil {
		p.node.config.Log.Warn("state of the process before", "error", err)
	}
}

// Leave gives up the connection, which the caller must not use.
func (p *Peer) Leave() {
	p.discard()
	p.node.holder.release()
}

// discard closes what Join has given, which the caller must not use.
func (p *Peer) discard() {
	p.close()
	p.Slots.Close()
	p.Dev.Close()
}

// Replay answers what the process before this one has read and not answered:
// what it has left so far, and again when it is gone. conn serves already: a
// request that takes its time must not hold up the others. It returns how
// many there were.
func (p *Peer) Replay(conn *device.Conn) (answered int) {
	answered = p.replay(conn)
	// On Linux >= 6.9 there is nothing to lose by a second question. Before,
	// it is an error that means nothing.
	if err := conn.Resend(); err != nil && !errors.Is(err, unix.EINVAL) {
		p.node.config.Log.Warn("requests of the process before", "error", err)
	}
	go func() {
		<-p.gone
		p.replay(conn)
		p.Slots.Close()
		p.close()
	}()
	return answered
}

func (p *Peer) replay(conn *device.Conn) int {
	n, err := conn.Replay(p.Slots)
	if err != nil {
		p.node.config.Log.Error("requests of the process before; their readers may hang", "error", err)
	}
	p.node.config.Log.Debug("answered requests of the process before", "requests", n)
	return n
}
