// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// team is the podproc-node processes of one file system, and containers that
// read it all the time: 64 readers in 8 containers.
type team struct {
	t          *testing.T
	dir, ctl   string
	members    []*podprocNodeProcess
	containers []*container
	status     []string // files
}

// podprocNodeProcess is a "podproc-node serve --ctl".
type podprocNodeProcess struct {
	*process
	t    *testing.T
	said chan string
}

func newTeam(t *testing.T) *team {
	t.Helper()
	dir := t.TempDir()
	m := &team{t: t, dir: filepath.Join(dir, "fs"), ctl: filepath.Join(dir, "ctl")}
	t.Cleanup(func() {
		for _, p := range m.members {
			p.signal(unix.SIGKILL)
		}
		// As the next process does: who was walking there waits for itself.
		for unix.Unmount(m.dir, unix.MNT_DETACH|unix.MNT_FORCE) == nil {
		}
		for _, p := range m.members {
			_ = p.wait(patience)
			if t.Failed() {
				t.Logf("process %d:\n%s", p.cmd.Process.Pid, strings.Join(p.lines(), "\n"))
			}
		}
	})
	return m
}

// start starts a process and waits until it says what it is to say.
func (m *team) start(say string, flags ...string) *podprocNodeProcess {
	m.t.Helper()
	return m.startBinary(podprocNode, say, flags...)
}

func (m *team) startBinary(binary, say string, flags ...string) *podprocNodeProcess {
	m.t.Helper()
	// The machine may stand still for a while: that is no reason to kill.
	// The path of the namespace leads nowhere in a container, as the DaemonSet's.
	namespace := fmt.Sprintf("/proc/%d/ns/mnt", os.Getpid())
	args := append([]string{"serve", "--mount", m.dir, "--mount-namespace", namespace, "--ctl", m.ctl, "--silence", "30s"}, flags...)
	p := &podprocNodeProcess{&process{cmd: exec.Command(binary, args...)}, m.t, make(chan string, 100)}
	out, err := p.start()
	if err != nil {
		m.t.Fatal(err)
	}
	m.members = append(m.members, p)
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			p.said <- lines.Text()
		}
	}()
	p.waitFor(say)
	return p
}

// waitFor waits until the process says "ready" (it serves) or "joined" (it
// could).
func (p *podprocNodeProcess) waitFor(what string) {
	p.t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case line := <-p.said:
			if line == what {
				return
			}
		case <-p.done:
			p.t.Fatalf("podproc-node ended (%v) and never said %q", p.err, what)
		case <-timeout:
			p.t.Fatalf("podproc-node does not say %q", what)
		}
	}
}

func (p *podprocNodeProcess) kill() {
	p.signal(unix.SIGKILL)
	<-p.done
}

func (p *podprocNodeProcess) ended() {
	p.t.Helper()
	if err := p.wait(patience); err != nil {
		p.t.Errorf("podproc-node: %v", err)
	}
}

const teamReaders = 8 // in each container

// teamTotal is the MemTotal of a container, in kB.
func teamTotal(c int) int { return (64 + 8*c) << 10 }

// contain starts one more container with readers.
func (m *team) contain(i int) {
	m.t.Helper()
	c := newContainer(m.t, "--fs", m.dir, "--memory", strconv.Itoa(teamTotal(i)<<10), "--cpus", "1")
	status := filepath.Join(scratch, fmt.Sprintf("readers-%d-%d", os.Getpid(), monotonic()))
	c.do(request{Start: []string{"readers", status, strconv.Itoa(teamTotal(i))}})
	m.t.Cleanup(func() { os.Remove(status) })
	m.containers, m.status = append(m.containers, c), append(m.status, status)
}

func (m *team) containAll() {
	m.t.Helper()
	containers := 8
	if testing.Short() {
		containers = 3 // in the VM they take long to start
	}
	for i := range containers {
		m.contain(i)
	}
	m.more(1)
}

// tally is what the readers of one container have seen.
type tally struct {
	Reads   int64         // that told the truth
	Failed  int64         // that got an error
	Slow    int64         // of them, in a file that was opened more than 200 ms before
	Wrong   int64         // that told something else
	Longest time.Duration // of a read
	Late    time.Duration // by which a sleeping process was woken up
	Sample  string        // of an error
}

func (m *team) tallies() (list []tally) {
	m.t.Helper()
	for _, path := range m.status {
		var v tally
		if b, err := os.ReadFile(path); err == nil {
			if err := json.Unmarshal(b, &v); err != nil {
				m.t.Fatal(err)
			}
		}
		list = append(list, v)
	}
	return list
}

// more waits until each container has read the truth some more times.
func (m *team) more(n int64) {
	m.t.Helper()
	before := m.tallies()
	var now []tally
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		now = m.tallies()
		done := true
		for i := range now {
			done = done && now[i].Reads >= before[i].Reads+n
		}
		if done {
			return
		}
		if time.Now().After(end) {
			m.t.Fatalf("readers hang: %+v, before %+v", now, before)
		}
	}
}

// sum adds up, since a moment before.
func (m *team) sum(before []tally) (s tally) {
	m.t.Helper()
	for i, v := range m.tallies() {
		if i < len(before) {
			v.Reads -= before[i].Reads
			v.Failed -= before[i].Failed
			v.Slow -= before[i].Slow
			v.Wrong -= before[i].Wrong
		}
		s.Reads += v.Reads
		s.Failed += v.Failed
		s.Slow += v.Slow
		s.Wrong += v.Wrong
		s.Longest = max(s.Longest, v.Longest)
		s.Late = max(s.Late, v.Late)
		if v.Sample != "" {
			s.Sample = v.Sample
		}
	}
	return s
}

// unharmed makes sure that no read has failed.
func (m *team) unharmed(what string) {
	m.t.Helper()
	s := m.sum(nil)
	m.t.Logf("%s: %d reads, %d failed, longest %s (processes woken up to %s late)", what, s.Reads, s.Failed+s.Wrong, s.Longest.Round(time.Millisecond), s.Late.Round(time.Millisecond))
	if s.Failed+s.Wrong > 0 {
		m.t.Errorf("%s: %d reads failed and %d were wrong: %s", what, s.Failed, s.Wrong, s.Sample)
	}
}

// tidy makes sure that the machine has one mount of the file system, and that
// the processes that are left hold no more than they should.
func (m *team) tidy() {
	m.t.Helper()
	if n := m.mounts("/proc/self/mountinfo"); n != 1 {
		m.t.Errorf("%d mounts of the file system, want 1", n)
	}
	for _, p := range m.members {
		select {
		case <-p.done:
			continue
		default:
		}
		if fds, _ := p.usage(m.t); fds > 400 {
			m.t.Errorf("podproc-node has %d open files", fds)
		}
		if threads, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", p.cmd.Process.Pid)); len(threads) > 60 {
			m.t.Errorf("podproc-node has %d threads", len(threads))
		}
	}
}

// mounts counts the mounts of the whole file system in a mountinfo.
func (m *team) mounts(path string) (n int) {
	m.t.Helper()
	for line := range strings.Lines(read(m.t, path)) {
		if f := strings.Fields(line); f[4] == m.dir && strings.Contains(line, " - fuse.podproc ") {
			n++
		}
	}
	return n
}
