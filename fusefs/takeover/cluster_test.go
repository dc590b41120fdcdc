// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/podproc/podproc/fusefs/mounts"
)

// cluster is the processes of one file system.
type cluster struct {
	t          *testing.T
	dir, mount string
	grace      string
	patience   string
	silence    string // long, since the machine may stand still for a while
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
	c := &cluster{t: t, dir: filepath.Join(t.TempDir(), "ctl"), mount: filepath.Join(t.TempDir(), "fs"), grace: "1m", patience: "1m", silence: "20s"}
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
	n.cmd.Env = append(os.Environ(), "TEST_DIR="+c.dir, "TEST_MOUNT="+c.mount, "TEST_GRACE="+c.grace, "TEST_PATIENCE="+c.patience, "TEST_SILENCE="+c.silence)
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
	stop    atomic.Bool
	wait    sync.WaitGroup
	reads   atomic.Int64
	failed  atomic.Int64
	longest atomic.Int64 // in ns
	late    atomic.Int64 // by how much this machine lets a process wait, in ns
}

func (c *cluster) read() *readers {
	r := &readers{t: c.t}
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
		if err == nil && count <= last {
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
