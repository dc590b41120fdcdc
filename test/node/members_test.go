// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
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

// readers is the helper: it reads in a container until that ends, and tells in
// a file what it has seen. args are the file and the MemTotal that is right.
func readers(args []string) error {
	want, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	r := &readerTally{want: []byte(fmt.Sprintf("MemTotal:%15d kB\n", want))}
	for i := range teamReaders {
		go r.loop(i%2 == 0, i%4 < 2)
	}
	go func() {
		for {
			start := time.Now()
			time.Sleep(time.Millisecond)
			raise(&r.late, int64(time.Since(start)-time.Millisecond))
		}
	}()
	for ; ; time.Sleep(20 * time.Millisecond) {
		b, err := json.Marshal(r.tally())
		if err == nil {
			err = os.WriteFile(args[0]+".new", b, 0o644)
		}
		if err == nil {
			err = os.Rename(args[0]+".new", args[0])
		}
		if err != nil {
			return err
		}
	}
}

type readerTally struct {
	want []byte

	reads, failed, slow, wrong, longest, late atomic.Int64

	mu     sync.Mutex
	sample string
}

func (r *readerTally) tally() tally {
	r.mu.Lock()
	defer r.mu.Unlock()
	failed := r.failed.Load() // before slow, which is raised first
	return tally{r.reads.Load(), failed, r.slow.Load(), r.wrong.Load(), time.Duration(r.longest.Load()), time.Duration(r.late.Load()), r.sample}
}

func raise(v *atomic.Int64, to int64) {
	for old := v.Load(); to > old && !v.CompareAndSwap(old, to); old = v.Load() {
	}
}

func (r *readerTally) note(count *atomic.Int64, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sample = err.Error()
	count.Add(1)
}

var errWrong = errors.New("not the truth")

// loop reads meminfo, or stat, with a descriptor that is kept open, or not.
func (r *readerTally) loop(stat, keep bool) {
	path, check := "/proc/meminfo", r.meminfo
	if stat {
		path, check = "/proc/stat", new(cpuTimes).check
	}
	var file *os.File
	buf := make([]byte, 64<<10)
	pause := 20 * time.Millisecond
	if soak {
		pause = 2 * time.Millisecond
	}
	for ; ; time.Sleep(pause) {
		start := time.Now()
		text, err := []byte(nil), error(nil)
		if file == nil {
			file, err = os.Open(path)
		}
		if err == nil {
			var n int
			n, err = unix.Pread(int(file.Fd()), buf, 0)
			text = buf[:max(n, 0)]
		}
		raise(&r.longest, int64(time.Since(start)))
		if err == nil {
			err = check(text)
		}
		switch {
		case errors.Is(err, errWrong):
			r.note(&r.wrong, err)
		case err != nil:
			if !keep && time.Since(start) > 200*time.Millisecond {
				r.slow.Add(1)
			}
			r.note(&r.failed, fmt.Errorf("%s: %w", path, err))
		default:
			r.reads.Add(1)
		}
		if file != nil && (!keep || err != nil) {
			file.Close()
			file = nil
		}
	}
}

func (r *readerTally) meminfo(text []byte) error {
	if !bytes.HasPrefix(text, r.want) {
		return fmt.Errorf("meminfo begins with %.40q: %w", text, errWrong)
	}
	return nil
}

// cpuTimes are the counters of the first line of stat.
type cpuTimes struct{ last []int64 }

// check makes sure that no counter goes backwards.
func (c *cpuTimes) check(text []byte) error {
	line, _, _ := bytes.Cut(text, []byte("\n"))
	fields := strings.Fields(string(line))
	if len(fields) < 8 || fields[0] != "cpu" {
		return fmt.Errorf("stat begins with %.40q: %w", text, errWrong)
	}
	var now []int64
	for _, f := range fields[1:] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return fmt.Errorf("stat begins with %.40q: %w", text, errWrong)
		}
		now = append(now, n)
	}
	last := c.last
	c.last = now
	if len(last) == len(now) && backwards(last, now) {
		return fmt.Errorf("stat went from %v to %v: %w", last, now, errWrong)
	}
	return nil
}

func backwards(from, to []int64) bool {
	for i := range from {
		if to[i] < from[i] {
			return true
		}
	}
	return false
}
