// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"log/slog"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// changing is a state in which a record changes as soon as it has been told.
type changing struct{ change func(record []byte) }

func (s changing) Records(yield func([]byte)) {
	yield([]byte("a 1"))
	s.change([]byte("a 2"))
	yield([]byte("b 1"))
}
func (changing) SetJournal(func([]byte)) {}
func (changing) Apply([]byte) error      { return nil }

// TestSyncOrder: who joins does not get an older record after a newer one.
func TestSyncOrder(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var links [2]*link
	for i, fd := range fds {
		file := os.NewFile(uintptr(fd), "socket")
		conn, err := net.FileConn(file)
		file.Close()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		links[i] = newLink(conn.(*net.UnixConn))
	}
	raw, err := links[0].conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	m := &member{link: links[0], raw: raw, more: make(chan struct{}, 1)}
	l := &Lead{
		node:    &Node{config: Config{Log: slog.New(slog.DiscardHandler)}},
		members: map[*member]bool{m: true},
		synced:  make(chan *member),
	}
	l.state = changing{l.journal}
	l.sync(m)

	var got []string
	for kind := byte(0); kind != saySynced; {
		var body []byte
		if kind, body, _, err = links[1].receive(time.Minute); err != nil {
			t.Fatal(err)
		}
		if kind != sayRecords {
			continue
		}
		if err := eachRecord(body, func(r []byte) error { got = append(got, string(r)); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"a 1", "a 2", "b 1"}; !slices.Equal(got, want) {
		t.Errorf("sent %q, want %q", got, want)
	}
}
