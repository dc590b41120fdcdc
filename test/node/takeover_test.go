// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podproc/podproc/test/variant"
)

// times is how often: short in make test, long in make soak.
// Where even that is too long, as in the VM, a third of it.
func times(short, long int) int {
	switch {
	case soak:
		return long
	case testing.Short():
		return (short + 2) / 3
	}
	return short
}

// promised makes sure that no read took longer than promised, on a machine
// that let processes wait no longer than this one did.
func (m *team) promised(longest time.Duration) {
	m.t.Helper()
	if s := m.sum(nil); s.Longest > longest+10*s.Late {
		m.t.Errorf("the longest read took %s, promised are %s", s.Longest, longest)
	}
}

// TestActiveKilled: a reader does not notice that who serves is killed.
func TestActiveKilled(t *testing.T) {
	m := newTeam(t)
	active := m.start("ready")
	standby := m.start("joined", "--standby")
	m.containAll()
	before := m.cost(active)
	n := times(10, 1000)
	for range n {
		active.kill()
		standby.waitFor("ready")
		active, standby = standby, m.start("joined", "--standby")
		m.more(10)
	}
	m.unharmed(fmt.Sprintf("%d kills", n))
	m.promised(2 * time.Second)
	m.tidy()
	// A request that is lost, and asked about for ever, takes a whole CPU.
	after := m.cost(active)
	t.Logf("a read costs the active process %s of CPU time, before the kills %s", after, before)
	if after > 4*before+time.Millisecond {
		t.Errorf("after %d kills a read costs %s of CPU time, before %s", n, after, before)
	}
}

// cost is the CPU time that the process takes for one read.
func (m *team) cost(p *podprocNodeProcess) time.Duration {
	m.t.Helper()
	cpu, before := p.cpuTime(m.t), m.tallies()
	m.more(50)
	return (p.cpuTime(m.t) - cpu) / time.Duration(m.sum(before).Reads)
}

// cpuTime is what the process has used so far, in steps of 10 ms.
func (p *process) cpuTime(t *testing.T) time.Duration {
	t.Helper()
	_, rest, _ := strings.Cut(read(t, fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid)), ") ")
	fields := strings.Fields(rest)
	var ticks int
	for _, field := range fields[11:13] { // utime, stime
		n, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// TestCleanTakeover: a newer process serves, then the old one again, and so
// on; the one that has stepped back stands by.
func TestCleanTakeover(t *testing.T) {
	m := newTeam(t)
	binaries := []string{podprocNode, laterVersion(t, variant.Next)}
	old := m.startBinary(binaries[0], "ready")
	m.containAll()
	n := times(10, 100)
	for i := range n {
		newer := m.startBinary(binaries[(i+1)%2], "ready")
		old.waitFor("joined")
		if got := strings.TrimSpace(read(t, fmt.Sprintf("/proc/%d/comm", old.cmd.Process.Pid))); got != "podproc-node" {
			t.Errorf("a process that has stepped back is called %q", got)
		}
		old.signal(unix.SIGTERM)
		old.ended()
		old = newer
		m.more(10)
		// A file that the old version does not know it serves as the host's.
		if got, want := read(t, m.dir+"/proc/version"), read(t, "/proc/version"); got != want {
			t.Errorf("takeover %d: proc/version is %q, want %q", i, got, want)
		}
	}
	m.unharmed(fmt.Sprintf("%d clean takeovers, to a newer version and back", n))
	m.promised(2 * time.Second)
	m.tidy()
}

// laterVersion is a version of podproc-node that is not there yet. It is built now,
// unless it is there beside the others, as in the VM.
func laterVersion(t *testing.T, name string) string {
	t.Helper()
	if path := filepath.Join(filepath.Dir(podprocNode), name); exists(path) {
		return path
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := variant.Build(t.Context(), root, name, dir); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}

// TestOtherOptions: a version with other FUSE options cannot go on with the
// connection for long. It mounts afresh, with files that are open served
// until they are closed: nobody notices anything.
func TestOtherOptions(t *testing.T) {
	m := newTeam(t)
	old := m.start("ready")
	standby := m.start("joined", "--standby")
	m.containAll()
	m.more(10)
	other := laterVersion(t, variant.Options)
	newer := m.startBinary(other, "ready")
	m.more(10)
	m.unharmed("other FUSE options")
	m.tidy()
	for _, p := range []*podprocNodeProcess{old, standby} {
		p.waitFor("joined")
		p.signal(unix.SIGTERM)
		p.ended()
	}
	last := m.startBinary(other, "joined", "--standby")
	newer.kill()
	last.waitFor("ready")
	m.more(10)
	s := m.sum(nil)
	t.Logf("other options, and the next takeover: %d reads, %d failed, %d wrong", s.Reads, s.Failed, s.Wrong)
	if held := int64(len(m.containers) * teamReaders / 2); s.Failed > held || s.Wrong > 0 {
		t.Errorf("%d reads failed and %d were wrong, but only %d descriptors were as old as the old version: %s", s.Failed, s.Wrong, held, s.Sample)
	}
	m.tidy()
}

// TestOneOfTwoDies: standby, active, hanging active, and both one after the
// other.
func TestOneOfTwoDies(t *testing.T) {
	m := newTeam(t)
	active := m.start("ready")
	m.containAll()
	for range times(2, 50) {
		standby := m.start("joined", "--standby")
		standby.kill()
		m.more(5)

		standby = m.start("joined", "--standby")
		active.kill()
		standby.waitFor("ready")
		m.more(5)
		active = m.start("ready") // takes over
		standby.waitFor("joined")
		standby.kill()
		m.more(5)

		standby = m.start("joined", "--standby", "--silence", "1s")
		active.signal(unix.SIGSTOP)
		standby.waitFor("ready")
		<-active.done
		m.more(5)
		active = standby
	}
	m.unharmed("standby, active, hanging active killed")
	m.promised(2 * time.Second)
	m.tidy()
}

// TestTermination: both are to end at the same time, as when two DaemonSets
// are rolled out; their successors come later.
func TestTermination(t *testing.T) {
	m := newTeam(t)
	active, standby := m.start("ready"), m.start("joined", "--standby")
	m.containAll()
	for range times(3, 50) {
		active.signal(unix.SIGTERM)
		standby.signal(unix.SIGTERM)
		m.more(10)
		newer := m.start("ready")
		active.ended()
		standby.ended()
		active, standby = newer, m.start("joined", "--standby")
		m.more(10)
	}
	m.unharmed("both terminated at once")
	m.promised(2 * time.Second)
	m.tidy()
}

// TestOutOfMemory: the kernel kills who serves.
func TestOutOfMemory(t *testing.T) {
	m := newTeam(t)
	path := newParent(t, "-oom", 96<<20)
	active := m.start("ready")
	standby := m.start("joined", "--standby")
	m.containAll()
	procs := "/sys/fs/cgroup/memory" + path + "/cgroup.procs"
	if unified() {
		procs = "/sys/fs/cgroup" + path + "/cgroup.procs"
	}
	write(t, procs, strconv.Itoa(active.cmd.Process.Pid))
	write(t, fmt.Sprintf("/proc/%d/oom_score_adj", active.cmd.Process.Pid), "1000") // the first to be killed
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	eater := exec.Command("sh", "-c", "echo $$ > "+procs+" && exec "+self)
	eater.Env = append(os.Environ(), "PODPROC_HELPER=hog", "GOMAXPROCS=1")
	if err := eater.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = eater.Process.Kill()
		_ = eater.Wait()
	}()
	standby.waitFor("ready")
	<-active.done
	m.more(10)
	m.unharmed("out of memory")
	m.promised(2 * time.Second)
	m.tidy()
}

// hog takes memory until it is killed. None of its own is reclaimed, or a
// machine with a slow disk and swap would thrash for minutes before it kills.
func hog([]string) error {
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_ONFAULT); err != nil {
		return err
	}
	for ; ; time.Sleep(2 * time.Millisecond) {
		if _, err := unix.Mmap(-1, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_LOCKED); err != nil {
			return err
		}
	}
}

// TestBothKilled: after a total loss the next process repairs what runs.
func TestBothKilled(t *testing.T) {
	m := newTeam(t)
	active, standby := m.start("ready"), m.start("joined", "--standby")
	m.containAll()
	for range times(2, 20) {
		m.more(10)
		active.signal(unix.SIGKILL)
		standby.signal(unix.SIGKILL)
		active.kill()
		standby.kill()
		w := startWatch(t)
		active = m.start("ready")
		m.right(w)
		standby = m.start("joined", "--standby")
		before := m.tallies()
		m.more(50)
		// Every reader has opened its file again by now.
		if s := m.sum(before); s.Wrong > 0 {
			t.Errorf("after repair %d reads were wrong: %s", s.Wrong, s.Sample)
		}
		m.tidy()
	}
	s := m.sum(nil)
	t.Logf("both killed: %d reads, %d failed while nobody served, %d wrong", s.Reads, s.Failed, s.Wrong)
	if s.Wrong > 0 {
		t.Errorf("%d reads were wrong: %s", s.Wrong, s.Sample)
	}
}

// right waits until all containers see themselves, for which two seconds are
// promised.
func (m *team) right(w *stopwatch) {
	m.t.Helper()
	for i, c := range m.containers {
		eventually(m.t, "a container sees itself again", func() bool {
			a, err := c.try(request{Read: "/proc/meminfo"})
			return err == nil && strings.HasPrefix(a.Out, fmt.Sprintf("MemTotal:%15d kB\n", teamTotal(i)))
		})
	}
	w.promised(fmt.Sprintf("%d containers are right", len(m.containers)), 2*time.Second)
}

// TestRelease: without podproc a container sees the kernel's files, and
// podproc's when that is back, whether it has started meanwhile or before.
func TestRelease(t *testing.T) {
	m := newTeam(t)
	active, standby := m.start("ready"), m.start("joined", "--standby")
	m.containAll()
	release := exec.Command(podprocNode, "release", "--mount", m.dir, "--ctl", m.ctl)
	if out, err := release.CombinedOutput(); err != nil {
		t.Fatalf("release: %v: %s", err, out)
	}
	host := hostTotal(t)
	for i, c := range m.containers {
		if got := c.meminfo()["MemTotal"]; got != host {
			t.Errorf("container %d has MemTotal %d after release, the machine %d", i, got, host)
		}
	}
	if s := m.sum(nil); s.Failed > 0 {
		t.Errorf("release: %d reads failed: %s", s.Failed, s.Sample)
	} else {
		t.Logf("release: %d reads, 0 failed, then the kernel's files", s.Reads)
	}
	active.signal(unix.SIGTERM)
	standby.signal(unix.SIGTERM)
	active.ended()
	standby.ended()
	if n := m.mounts("/proc/self/mountinfo"); n != 0 {
		t.Errorf("%d mounts are left", n)
	}
	for _, c := range m.containers {
		if got := c.meminfo()["MemTotal"]; got != host {
			t.Errorf("a container has MemTotal %d when all has ended, the machine %d", got, host)
		}
	}
	// One that starts now gets the kernel's files, and is put right.
	late := newContainer(t, "--fs", m.dir, "--memory", strconv.Itoa(teamTotal(0)<<10))
	if got := late.meminfo()["MemTotal"]; got != host {
		t.Errorf("a container that starts while podproc is away has MemTotal %d, the machine %d", got, host)
	}
	w := startWatch(t)
	m.start("ready")
	m.containers, m.status = []*container{late}, nil
	m.right(w)
	m.tidy()
}

// TestLastOne: the last process ends without anybody to hand over to. Its
// containers see the kernel's files until the next one comes.
func TestLastOne(t *testing.T) {
	m := newTeam(t)
	active := m.start("ready", "--grace", "300ms")
	m.containAll()
	host := hostTotal(t)
	for i := range times(2, 20) {
		m.more(5)
		active.signal(unix.SIGTERM)
		active.ended()
		for i, c := range m.containers {
			if got := c.meminfo()["MemTotal"]; got != host {
				t.Errorf("container %d has MemTotal %d while nobody serves, the machine %d", i, got, host)
			}
		}
		// A held descriptor fails once, when the connection ends: maybe in the
		// next round only. So does one of a reader that had no CPU for as long as
		// podproc serves on, from when it opened the file.
		held := int64(len(m.containers) * teamReaders / 2 * (i + 1))
		if s := m.sum(nil); s.Failed-s.Slow > held {
			t.Errorf("%d reads failed, but only %d descriptors were held: %s", s.Failed-s.Slow, held, s.Sample)
		}
		w := startWatch(t)
		active = m.start("ready", "--grace", "300ms")
		m.right(w)
		m.tidy()
	}
	s := m.sum(nil)
	t.Logf("last one ended: %d reads, %d failed on held descriptors, the kernel's files meanwhile", s.Reads, s.Failed)
}

func hostTotal(t *testing.T) int {
	t.Helper()
	return parseMeminfo(t, read(t, "/proc/meminfo"))["MemTotal"]
}
