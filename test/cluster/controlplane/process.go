// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A Spawner starts processes that end with the test, and with the test's process
// however that ends.
type Spawner struct {
	t     testing.TB
	dir   string
	start chan func()
}

// NewSpawner returns a Spawner whose processes log into dir.
//
// The kernel sends the parent-death signal when the *thread* that made the child
// ends: all are made on one thread that lives until the test ends.
func NewSpawner(t testing.TB, dir string) *Spawner {
	s := &Spawner{t: t, dir: dir, start: make(chan func())}
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		for f := range s.start {
			f()
		}
	}()
	t.Cleanup(func() { close(s.start) })
	return s
}

// A Process is a child process.
type Process struct {
	log  string
	cmd  *exec.Cmd
	done chan struct{}
	once sync.Once
}

// Start starts a process with further environment; it is ended with the test.
func (s *Spawner) Start(name string, env []string, argv ...string) *Process {
	s.t.Helper()
	p := &Process{log: filepath.Join(s.dir, name+".log"), cmd: exec.Command(argv[0], argv[1:]...), done: make(chan struct{})}
	out, err := os.Create(p.log)
	if err != nil {
		s.t.Fatal(err)
	}
	defer out.Close()
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.Env = out, out, append(os.Environ(), env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	s.start <- func() { started <- p.cmd.Start() }
	if err := <-started; err != nil {
		s.t.Fatalf("start %s: %v", name, err)
	}
	go func() {
		p.cmd.Wait() // how it ended is of no interest: Ended and the log tell
		close(p.done)
	}()
	s.t.Cleanup(func() {
		p.Kill()
		if s.t.Failed() {
			s.t.Logf("%s:\n%s", name, p.Tail())
		}
	})
	return p
}

// Ended reports whether the process has ended.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Kill ends the process at once and waits for that.
func (p *Process) Kill() {
	p.once.Do(func() { p.cmd.Process.Kill() })
	<-p.done
}

// Terminate asks the process to end and reports whether it did within d.
func (p *Process) Terminate(d time.Duration) bool {
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return true
	case <-time.After(d):
		return false
	}
}

// Log is all that the process has printed.
func (p *Process) Log() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// Tail is the end of what the process has printed.
func (p *Process) Tail() string {
	const most = 4000
	text := []byte(p.Log())
	if len(text) <= most {
		return string(text)
	}
	text = text[len(text)-most:]
	return string(text[bytes.IndexByte(text, '\n')+1:])
}
