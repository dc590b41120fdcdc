// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podproc/podproc/fusefs/mounts"
)

// cluster is the processes of one file system.
type cluster struct {
	t          *testing.T
	dir, mount string
	grace      string
	nodes      []*node
}

// node is one of them.
type node struct {
	c    *cluster
	cmd  *exec.Cmd
	said chan string // lines of its output
	end  chan struct{}
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{t: t, dir: filepath.Join(t.TempDir(), "ctl"), mount: filepath.Join(t.TempDir(), "fs"), grace: "1m"}
	t.Cleanup(func() {
		for _, n := range c.nodes {
			_ = n.cmd.Process.Kill()
			<-n.end
		}
		if err := (mounts.Point{Dir: c.mount}).Unmount(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// start starts a process and waits until it says what it is to say.
func (c *cluster) start(standby bool, say string) *node {
	c.t.Helper()
	n := &node{c: c, cmd: exec.Command("/proc/self/exe", "test-node"), said: make(chan string, 100), end: make(chan struct{})}
	n.cmd.Env = append(os.Environ(), "TEST_DIR="+c.dir, "TEST_MOUNT="+c.mount, "TEST_GRACE="+c.grace)
	if standby {
		n.cmd.Env = append(n.cmd.Env, "TEST_STANDBY=1")
	}
	log, err := os.Create(filepath.Join(c.t.TempDir(), "log"))
	if err != nil {
		c.t.Fatal(err)
	}
	n.cmd.Stderr = log
	out, err := n.cmd.StdoutPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	if err := n.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.nodes = append(c.nodes, n)
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			n.said <- lines.Text()
		}
		_ = n.cmd.Wait()
		if text, _ := os.ReadFile(log.Name()); c.t.Failed() {
			c.t.Logf("log of process %d:\n%s", n.cmd.Process.Pid, text)
		}
		log.Close()
		close(n.end)
	}()
	n.waitFor(say)
	return n
}

// waitFor waits until the process says a line that begins with what.
func (n *node) waitFor(what string) {
	n.c.t.Helper()
	timeout := time.After(time.Minute)
	for {
		select {
		case line := <-n.said:
			if strings.HasPrefix(line, what) {
				return
			}
		case <-n.end:
			n.c.t.Fatalf("process %d ended and never said %q", n.cmd.Process.Pid, what)
		case <-timeout:
			n.c.t.Fatalf("process %d does not say %q", n.cmd.Process.Pid, what)
		}
	}
}

func (n *node) kill()   { _ = n.cmd.Process.Kill(); <-n.end }
func (n *node) hang()   { _ = n.cmd.Process.Signal(syscall.SIGSTOP) }
func (n *node) resume() { _ = n.cmd.Process.Signal(syscall.SIGCONT) }
func (n *node) term()   { _ = n.cmd.Process.Signal(syscall.SIGTERM) }

// ended waits until the process has ended, well.
func (n *node) ended() {
	n.c.t.Helper()
	select {
	case <-n.end:
	case <-time.After(time.Minute):
		n.c.t.Fatalf("process %d does not end", n.cmd.Process.Pid)
	}
	if !n.cmd.ProcessState.Success() {
		n.c.t.Errorf("process %d: %v", n.cmd.Process.Pid, n.cmd.ProcessState)
	}
}

// readers read all the while, and expect the count to go up.
type readers struct {
	t       *testing.T
	restart bool // the count may start again
	stop    atomic.Bool
	wait    sync.WaitGroup
	reads   atomic.Int64
	failed  atomic.Int64
	longest atomic.Int64 // in ns
	late    atomic.Int64 // by how much this machine lets a process wait, in ns
}

func (c *cluster) read() *readers { return c.readers(&readers{t: c.t}) }

func (c *cluster) readers(r *readers) *readers {
	path := filepath.Join(c.mount, "count")
	for i := range 8 {
		r.wait.Go(func() {
			if i%2 == 0 {
				r.loop(func() (string, error) {
					b, err := os.ReadFile(path)
					return string(b), err
				})
				return
			}
			f, err := os.Open(path)
			if err != nil {
				r.fail(err)
				return
			}
			defer f.Close()
			r.loop(func() (string, error) {
				b := make([]byte, countSize)
				n, err := f.ReadAt(b, 0)
				return string(b[:n]), err
			})
		})
	}
	go func() {
		for !r.stop.Load() {
			t := time.Now()
			time.Sleep(time.Millisecond)
			raise(&r.late, int64(time.Since(t)-time.Millisecond))
		}
	}()
	return r
}

func raise(v *atomic.Int64, to int64) {
	for old := v.Load(); to > old && !v.CompareAndSwap(old, to); old = v.Load() {
	}
}

func (r *readers) fail(err error) {
	if r.failed.Add(1) < 10 {
		r.t.Errorf("a reader: %v", err)
	}
}

func (r *readers) loop(read func() (string, error)) {
	last := 0
	for !r.stop.Load() {
		t := time.Now()
		text, err := read()
		raise(&r.longest, int64(time.Since(t)))
		r.reads.Add(1)
		count := 0
		if err == nil {
			_, err = fmt.Sscan(text, &count)
		}
		if err == nil && count <= last && !r.restart {
			err = fmt.Errorf("%d after %d", count, last)
		}
		if err != nil {
			r.fail(err)
			time.Sleep(time.Millisecond)
			continue
		}
		last = count
	}
}

// more waits for some more reads.
func (r *readers) more(n int64) {
	r.t.Helper()
	for end, until := time.Now().Add(time.Minute), r.reads.Load()+n; r.reads.Load() < until; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatalf("readers hang after %d reads", r.reads.Load())
		}
	}
}

// done ends them. No read may have failed, or have taken longer than promised,
// on a machine that lets processes wait as this one did.
func (r *readers) done(promised time.Duration) {
	r.t.Helper()
	r.stop.Store(true)
	r.wait.Wait()
	longest, late := time.Duration(r.longest.Load()), time.Duration(r.late.Load())
	r.t.Logf("%d reads, %d failed, longest %s (scheduling delays up to %s)", r.reads.Load(), r.failed.Load(), longest, late)
	if promised > 0 && longest > promised+10*late {
		r.t.Errorf("longest read %s, promised %s", longest, promised)
	}
}

func soak(short, long int) int {
	if os.Getenv("PODPROC_SOAK") != "" {
		return long
	}
	return short
}

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
	r := c.readers(&readers{t: t, restart: true}) // what was not told is lost
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
	active := c.start(false, "serving first")
	r := c.read()
	standby := c.start(true, "synced")
	standby.hang()
	time.Sleep(1500 * time.Millisecond) // longer than the silence that is allowed
	standby.resume()
	r.more(1000)
	// What it has missed may take a while; handing over waits for that.
	active.term()
	standby.waitFor("serving handover")
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
