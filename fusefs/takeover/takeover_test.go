// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestKill(t *testing.T) {
	c := newCluster(t)
	active := c.start(false, "serving first")
	r := c.read()
	for range soak(20, 1000) {
		standby := c.start(true, "synced")
		r.more(20)
		active.kill()
		standby.waitFor("serving died")
		r.more(20)
		active = standby
	}
	r.done(2 * time.Second)
}

// TestKillBeforeInStep: the active process dies while it tells others what it
// knows. One of them serves, the other one joins that.
func TestKillBeforeInStep(t *testing.T) {
	c := newCluster(t)
	active := c.start(false, "serving first")
	r := c.read()
	for range soak(5, 100) {
		pair := []*node{c.start(true, "joined"), c.start(true, "joined")}
		active.kill()
		var line string
		select {
		case line = <-pair[0].said:
		case line = <-pair[1].said:
			pair[0], pair[1] = pair[1], pair[0]
		case <-time.After(time.Minute):
			t.Fatal("nobody serves")
		}
		for strings.HasPrefix(line, "synced") { // it was faster than we are
			line = <-pair[0].said
		}
		if strings.HasPrefix(line, "serving") {
			pair[1].waitFor("joined")
		} else { // it has joined the other one
			pair[0], pair[1] = pair[1], pair[0]
			pair[0].waitFor("serving died")
		}
		r.more(20)
		pair[1].kill()
		active = pair[0]
	}
	r.done(2 * time.Second)
}

func TestNewcomer(t *testing.T) {
	c := newCluster(t)
	old := c.start(false, "serving first")
	r := c.read()
	for range soak(10, 100) {
		newer := c.start(false, "serving handover")
		old.waitFor("joined") // it has stepped back, and is a standby now
		r.more(20)
		old.kill()
		old = newer
	}
	r.done(2 * time.Second)
}

// TestNewcomerBesideStandby: of two that wait, the one that was asked to
// serve does, and the other one joins it.
func TestNewcomerBesideStandby(t *testing.T) {
	c := newCluster(t)
	active, standby := c.start(false, "serving first"), c.start(true, "synced")
	r := c.read()
	for range soak(10, 100) {
		newer := c.start(false, "serving handover")
		standby.waitFor("synced")
		active.waitFor("synced")
		r.more(20)
		active.kill()
		active = newer
		// Nobody else may serve.
		for len(standby.said) > 0 {
			if line := <-standby.said; strings.HasPrefix(line, "serving") {
				t.Fatalf("standby: %s", line)
			}
		}
	}
	r.done(2 * time.Second)
}

func TestStandbyDies(t *testing.T) {
	c := newCluster(t)
	c.start(false, "serving first")
	r := c.read()
	for range 5 {
		standby := c.start(true, "synced")
		standby.kill()
		r.more(20)
	}
	r.done(2 * time.Second)
}

func TestSilence(t *testing.T) {
	c := newCluster(t)
	c.silence = "1s"
	active := c.start(false, "serving first")
	r := c.read()
	for range soak(2, 50) {
		standby := c.start(true, "synced")
		r.more(20)
		active.hang()
		standby.waitFor("serving silent")
		<-active.end // killed
		r.more(20)
		active = standby
	}
	r.done(2 * time.Second)
}

// TestNotAlive: a process that knows that it does not answer any more loses
// its role.
func TestNotAlive(t *testing.T) {
	c := newCluster(t)
	c.silence = "1s"
	active := c.start(false, "serving first")
	r := c.read()
	standby := c.start(true, "synced")
	r.more(20)
	// It still sends records: these are no signs of life.
	_ = active.cmd.Process.Signal(syscall.SIGUSR1)
	standby.waitFor("serving silent")
	<-active.end
	r.more(20)
	r.done(5 * time.Second)
}

// TestSleeper: a standby that was stopped, and resumed, does not take the
// active one for dead.
func TestSleeper(t *testing.T) {
	c := newCluster(t)
	c.silence = "1s"
	active := c.start(false, "serving first")
	r := c.read()
	standby := c.start(true, "synced")
	standby.hang()
	time.Sleep(1500 * time.Millisecond) // longer than the silence that is allowed
	standby.resume()
	r.more(1000)
	// What it has missed may take a while; handing over waits for that.
	active.term()
	standby.waitFor("serving")
	r.more(20)
	r.done(2 * time.Second)
}

func TestTermination(t *testing.T) {
	c := newCluster(t)
	active := c.start(false, "serving first")
	r := c.read()
	for range soak(5, 50) {
		// To a standby.
		standby := c.start(true, "synced")
		r.more(20)
		active.term()
		standby.waitFor("serving handover")
		active.ended()
		// A standby goes.
		active = c.start(false, "serving handover")
		standby.waitFor("joined")
		standby.term()
		standby.ended()
		// All at once; somebody new comes later.
		standby = c.start(true, "synced")
		r.more(20)
		active.term()
		standby.term()
		r.more(20)
		active2 := c.start(false, "joined")
		active2.waitFor("serving")
		active.ended()
		standby.ended()
		active = active2
		r.more(20)
	}
	r.done(2 * time.Second)
}

func TestAlone(t *testing.T) {
	c := newCluster(t)
	c.grace = "100ms"
	active := c.start(false, "serving first")
	r := c.read()
	r.more(100)
	r.done(2 * time.Second)
	active.term()
	active.waitFor("alone")
	active.ended()
	if _, err := os.Stat(filepath.Join(c.mount, "count")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after the last one has left: %v", err)
	}
	// What was saved is there for the next one.
	c.start(false, "serving first")
	if n := c.count(); n <= r.reads.Load() {
		t.Errorf("count after a restart: %d; want more than %d", n, r.reads.Load())
	}
}

// count reads the file.
func (c *cluster) count() (n int64) {
	c.t.Helper()
	b, err := os.ReadFile(filepath.Join(c.mount, "count"))
	if err == nil {
		_, err = fmt.Sscan(string(b), &n)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return n
}

// TestAllKilled: what readers were told is known to the next process, though
// nobody was there to tell.
func TestAllKilled(t *testing.T) {
	c := newCluster(t)
	active := c.start(false, "serving first")
	for range soak(5, 50) {
		r := c.read()
		r.more(500)
		r.done(2 * time.Second)
		before := c.count()
		active.kill()
		active = c.start(false, "serving first")
		if after := c.count(); after <= before {
			t.Fatalf("count is %d, and was %d", after, before)
		}
	}
}

// TestHangsAlone: nobody but a process that hangs holds the connection.
func TestHangsAlone(t *testing.T) {
	c := newCluster(t)
	c.patience = "1s"
	active := c.start(false, "serving first")
	active.hang()
	c.start(false, "serving first")
	<-active.end
	if _, err := os.ReadFile(filepath.Join(c.mount, "count")); err != nil {
		t.Error(err)
	}
}

func TestRelease(t *testing.T) {
	c := newCluster(t)
	n, err := Open(Config{Dir: c.dir})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	var result string
	if err := n.Release(time.Minute, &result); !errors.Is(err, ErrNobody) {
		t.Errorf("without a server: %v", err)
	}
	c.start(false, "serving first")
	if err := n.Release(time.Minute, &result); err != nil || result != "released" {
		t.Errorf("release: %q, %v", result, err)
	}
}

// TestReceiveAfterReset: a process that dies with unread packets resets the
// connection, and that is reported before what it had sent.
func TestReceiveAfterReset(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fds[0]), "socket")
	conn, err := net.FileConn(f)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	l := newLink(conn.(*net.UnixConn))
	if err := l.send(sayLeaving, nil); err != nil {
		t.Fatal(err)
	}
	if err := unix.Sendto(fds[1], []byte{sayYours}, 0, nil); err != nil {
		t.Fatal(err)
	}
	unix.Close(fds[1])
	if kind, _, _, err := l.receive(time.Minute); kind != sayYours || err != nil {
		t.Errorf("first: %q, %v", kind, err)
	}
	if _, _, _, err := l.receive(time.Minute); !errors.Is(err, io.EOF) {
		t.Errorf("then: %v, want EOF", err)
	}
}
