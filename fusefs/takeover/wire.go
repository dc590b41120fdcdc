// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podproc/podproc/fusefs/device"
)

// A packet on the socket is a kind and what belongs to it. Kinds that a
// version does not know it passes over.
const (
	// from who joins
	sayHello   = 'h' // hello, as JSON
	sayTake    = 't' // a newcomer wants to serve
	sayLeaving = 'l' // a peer is to end
	sayRelease = 'x' // of a client that is no peer: release the containers

	// from the active one
	sayWelcome  = 'w' // welcome, as JSON; with the descriptors
	sayRecords  = 'r' // records, each after its length
	saySynced   = 's' // all records there were have been sent
	sayAlive    = '.' // with the position in the state file up to which records have been sent
	sayYours    = 'y' // you serve now
	sayBye      = 'b' // you may end
	sayReleased = 'X' // what came of sayRelease, as JSON
)

type hello struct {
	Version string
	Release bool // no peer
}

type welcome struct {
	Version         string
	Init, InitReply []byte
	Paths           map[uint8]string
	Since           time.Time
}

// maxPacket is the longest packet that is sent; what is received may be
// somewhat longer.
const maxPacket = 32 << 10

// link is one end of a connection between two processes.
type link struct {
	conn *net.UnixConn
	buf  []byte
}

func newLink(conn *net.UnixConn) *link { return &link{conn, make([]byte, 2*maxPacket)} }

// errSilent says that nothing came in time.
var errSilent = errors.New("silence")

// receive returns the next packet, which is valid until the next call, and
// the files that came with it; io.EOF when the other end is closed.
func (l *link) receive(within time.Duration) (kind byte, body []byte, files []*os.File, err error) {
	oob := make([]byte, unix.CmsgSpace(8*4))
	late := false
	for {
		_ = l.conn.SetReadDeadline(time.Now().Add(within))
		n, oobn, _, _, err := l.conn.ReadMsgUnix(l.buf, oob)
		switch {
		case err == nil && n > 0:
			files, err := parseFiles(oob[:oobn])
			return l.buf[0], l.buf[1:n], files, err
		case err == nil, errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ECONNRESET):
			// The other end died with packets of ours unread. That comes
			// once, ahead of what it had sent itself.
			continue
		case errors.Is(err, os.ErrDeadlineExceeded) && !late:
			// Perhaps it was us who stood still.
			late, within = true, within/4
			continue
		case errors.Is(err, os.ErrDeadlineExceeded):
			return 0, nil, nil, errSilent
		default:
			return 0, nil, nil, err
		}
	}
}

func parseFiles(oob []byte) (files []*os.File, err error) {
	if len(oob) == 0 {
		return nil, nil
	}
	list, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("parse control message: %w", err)
	}
	for _, m := range list {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			continue
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "handed over"))
		}
	}
	return files, nil
}

// send sends a packet that is short.
func (l *link) send(kind byte, body any, files ...*os.File) error {
	p := []byte{kind}
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("encode packet: %w", err)
		}
		p = append(p, text...)
	}
	var oob []byte
	if len(files) > 0 {
		var fds []int
		for _, f := range files {
			fds = append(fds, int(f.Fd()))
		}
		oob = unix.UnixRights(fds...)
	}
	_ = l.conn.SetWriteDeadline(time.Now().Add(5 * time.Second))
	_, _, err := l.conn.WriteMsgUnix(p, oob, nil)
	_ = l.conn.SetWriteDeadline(time.Time{})
	return err
}

// welcome sends what a peer needs.
func (l *link) welcome(version string, c Connection) error {
	w := welcome{version, c.Init, c.InitReply, c.Paths, c.Since}
	return l.send(sayWelcome, w, c.Dev, c.Slots)
}

// welcomed waits for that.
func (l *link) welcomed(within time.Duration) (version string, c Connection, err error) {
	kind, body, files, err := l.receive(within)
	if err == nil && (kind != sayWelcome || len(files) != 2) {
		err = fmt.Errorf("unexpected packet %q with %d files", kind, len(files))
	}
	var w welcome
	if err == nil {
		err = json.Unmarshal(body, &w)
	}
	if err != nil {
		for _, f := range files {
			f.Close()
		}
		return "", Connection{}, fmt.Errorf("join: %w", err)
	}
	return w.Version, Connection{
		Handover: device.Handover{Dev: files[0], Slots: files[1], Init: w.Init, InitReply: w.InitReply},
		Paths:    w.Paths, Since: w.Since,
	}, nil
}

// appendRecord adds a record to the body of a packet, or of the state file.
func appendRecord(dst, record []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(record))), record...)
}

// eachRecord undoes it.
func eachRecord(body []byte, f func(record []byte) error) error {
	for len(body) > 0 {
		n, k := binary.Uvarint(body)
		if k <= 0 || n > uint64(len(body)-k) {
			return fmt.Errorf("parse records: %w", io.ErrUnexpectedEOF)
		}
		if err := f(body[k : k+int(n)]); err != nil {
			return err
		}
		body = body[k+int(n):]
	}
	return nil
}

// peer returns the process at the other end: its number, a pidfd of it, and
// whether it is root's. There is no pidfd (-1) if it has gone already.
func peer(conn *net.UnixConn) (pid int, pidfd int, root bool) {
	rc, err := conn.SyscallConn()
	if err != nil {
		return 0, -1, false
	}
	var cred *unix.Ucred
	_ = rc.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err != nil || cred == nil {
		return 0, -1, false
	}
	pidfd = -1
	if cred.Pid > 0 {
		// The connection lives, so does the process: the number is its own.
		if fd, err := unix.PidfdOpen(int(cred.Pid), 0); err == nil {
			pidfd = fd
		}
	}
	return int(cred.Pid), pidfd, cred.Uid == 0
}

// result waits for what came of sayRelease.
func (l *link) result(within time.Duration, v any) error {
	kind, body, _, err := l.receive(within)
	switch {
	case err != nil:
		return fmt.Errorf("wait for release: %w", err)
	case kind != sayReleased:
		return fmt.Errorf("wait for release: unexpected packet %q", kind)
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("parse result of release: %w", err)
	}
	return nil
}
