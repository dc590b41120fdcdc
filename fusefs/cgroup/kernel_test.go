// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	cgroups "github.com/containerd/cgroups/v3"
	"github.com/containerd/cgroups/v3/cgroup1"
	"github.com/containerd/cgroups/v3/cgroup2"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/podproc/podproc/fusefs/view"
)

// The tests named TestKernel... run on this machine's kernel with cgroups of
// their own, on v1, hybrid and v2 alike; they need root. The test binary is its
// own child process: PODPROC_CGROUP_CHILD says as what.

const childEnv = "PODPROC_CGROUP_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(childEnv) {
	case "":
		os.Exit(m.Run())
	case "wait": // for the end of input, doing nothing
		io.Copy(io.Discard, os.Stdin)
	case "burn": // CPU time for each byte of input
		in := bufio.NewReader(os.Stdin)
		for {
			if _, err := in.ReadByte(); err != nil {
				return
			}
			burn(200 * time.Millisecond)
			fmt.Println("burned")
		}
	case "touch": // 4 MiB more for each byte of input
		in, held := bufio.NewReader(os.Stdin), [][]byte(nil)
		for {
			if _, err := in.ReadByte(); err != nil {
				return
			}
			held = append(held, bytes.Repeat([]byte("x"), 4*mib))
			fmt.Println("touched", len(held))
		}
	case "init": // of a pid namespace: with a child
		cmd := childCommand("wait")
		cmd.Stdin = os.Stdin
		if err := cmd.Start(); err != nil {
			panic(err)
		}
		fmt.Println("started")
		cmd.Wait()
	case "reuse":
		if err := reusePid(os.Args[1], os.Args[2]); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
}

// burn uses d of CPU time, however busy the machine is.
func burn(d time.Duration) {
	used := func() time.Duration {
		var ru unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &ru); err != nil {
			panic(err)
		}
		return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
	}
	for start := used(); used()-start < d; {
	}
}

func childCommand(as string, args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), childEnv+"="+as)
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	return cmd
}

// child is a process of this test.
type child struct {
	t   testing.TB
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func startChild(t testing.TB, as string, clone uintptr) *child {
	t.Helper()
	cmd := childCommand(as)
	cmd.SysProcAttr.Cloneflags = clone
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &child{t, cmd, in, bufio.NewReader(out)}
	t.Cleanup(c.end)
	return c
}

func (c *child) pid() int { return c.cmd.Process.Pid }

// say sends a byte and waits for the child's line.
func (c *child) say() {
	c.t.Helper()
	if _, err := c.in.Write([]byte("x")); err != nil {
		c.t.Fatal(err)
	}
	c.hear()
}

func (c *child) hear() {
	c.t.Helper()
	if _, err := c.out.ReadString('\n'); err != nil {
		c.t.Fatal(err)
	}
}

// end ends the child and waits until it is gone.
func (c *child) end() {
	c.in.Close()
	c.cmd.Process.Kill()
	c.cmd.Wait()
}

// group is a cgroup in all hierarchies, made by containerd's library.
type group struct {
	t    testing.TB
	path string
	v1   cgroup1.Cgroup
	v2   *cgroup2.Manager
}

// testRoot is the path above all cgroups of this process, and its children.
var testRoot = fmt.Sprintf("/podproc-test-cgroup-%d", os.Getpid())

func newGroup(t testing.TB, path string, res *specs.LinuxResources) *group {
	t.Helper()
	g := &group{t: t, path: path}
	var err error
	if cgroups.Mode() == cgroups.Unified {
		g.v2, err = cgroup2.NewManager("/sys/fs/cgroup", path, cgroup2.ToResources(res))
	} else {
		g.v1, err = cgroup1.New(cgroup1.StaticPath(path), res)
	}
	if err != nil {
		t.Fatalf("make cgroup %s (needs root and a cgroup file system that can be written): %v", path, err)
	}
	t.Cleanup(g.remove)
	return g
}

func (g *group) update(res *specs.LinuxResources) {
	g.t.Helper()
	var err error
	if g.v2 != nil {
		err = g.v2.Update(cgroup2.ToResources(res))
	} else {
		err = g.v1.Update(res)
	}
	if err != nil {
		g.t.Fatal(err)
	}
}

func (g *group) add(pid int) {
	g.t.Helper()
	var err error
	if g.v2 != nil {
		err = g.v2.AddProc(uint64(pid))
	} else {
		err = g.v1.AddProc(uint64(pid))
	}
	if err != nil {
		g.t.Fatal(err)
	}
}

// remove removes the cgroup and what the library left above it. A process
// that has ended may keep it busy for a moment.
func (g *group) remove() {
	for path := g.path; path != "/" && path != ""; path, _ = parent(path) {
		for _, dir := range g.dirs(path) {
			err := eventually(func() error {
				err := unix.Rmdir(dir)
				if errors.Is(err, unix.ENOENT) || path != g.path {
					return nil // others are below it
				}
				return err
			})
			if err != nil {
				g.t.Errorf("remove %s: %v", dir, err)
			}
		}
	}
}

// dirs returns the directory of a path in each hierarchy. Controllers that are
// mounted together have symlinks to theirs.
func (g *group) dirs(path string) []string {
	if g.v2 != nil {
		return []string{"/sys/fs/cgroup" + path}
	}
	roots, err := filepath.Glob("/sys/fs/cgroup/*")
	if err != nil {
		g.t.Fatal(err)
	}
	var dirs []string
	for _, root := range roots {
		if st, err := os.Lstat(root); err == nil && st.IsDir() {
			if _, err := os.Stat(root + path); err == nil {
				dirs = append(dirs, root+path)
			}
		}
	}
	return dirs
}

// file returns the path of a control file: v1's or v2's.
func (g *group) file(v1, v2 string) string {
	if g.v2 != nil {
		return "/sys/fs/cgroup" + g.path + "/" + v2
	}
	controller, _, _ := strings.Cut(v1, ".")
	return "/sys/fs/cgroup/" + controller + g.path + "/" + v1
}

// eventually calls f until it returns nil, for at most 20 s.
func eventually(f func() error) error {
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		err := f()
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

// limits are resources where -1 is no limit; every controller is enabled.
func limits(memory, quota int64, period uint64) *specs.LinuxResources {
	shares := uint64(1024)
	pids := int64(1000)
	r := &specs.LinuxResources{
		Memory: &specs.LinuxMemory{},
		CPU:    &specs.LinuxCPU{Period: &period, Shares: &shares},
		Pids:   &specs.LinuxPids{Limit: &pids},
	}
	if memory >= 0 {
		r.Memory.Limit = &memory
	}
	if quota >= 0 {
		r.CPU.Quota = &quota
	}
	return r
}

func kernelFS(t testing.TB, change func(*Config)) *FS {
	t.Helper()
	cfg := Config{NodeWideAge: -1}
	if change != nil {
		change(&cfg)
	}
	fs, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { fs.Close() })
	if fs.Mode() != cgroups.Mode() {
		t.Errorf("mode %v, containerd says %v", fs.Mode(), cgroups.Mode())
	}
	return fs
}

func openOf(t testing.TB, fs *FS, pid int) *Container {
	t.Helper()
	b, err := fs.Boundary(uint32(pid))
	if err != nil {
		t.Fatal(err)
	}
	c, err := fs.Open(b)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func readNumber(t testing.TB, path string) uint64 {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	n, err := parseValue(b)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return n
}

// TestKernelNested: limits of several levels, changed while they are read, and
// a reader below the boundary with tighter limits of its own.
func TestKernelNested(t *testing.T) {
	fs := kernelFS(t, nil)
	pod := newGroup(t, testRoot+"/pod", limits(96*mib, 200000, 100000))
	outer := newGroup(t, pod.path+"/"+hexA, limits(64*mib, 150000, 100000))
	inner := newGroup(t, outer.path+"/inner", limits(32*mib, 50000, 100000))
	proc := startChild(t, "touch", 0)
	inner.add(proc.pid())
	proc.say()
	c := openOf(t, fs, proc.pid())
	if b := c.Boundary(); !b.Container() || b.Root() || !strings.Contains(b.String(), outer.path) || strings.Contains(b.String(), "/inner") {
		t.Fatal(b)
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Dir(outer.file("memory.stat", "memory.stat")), &st); err != nil || st.Ino != c.Boundary().ID() {
		t.Errorf("id %d, inode %d, %v", c.Boundary().ID(), st.Ino, err)
	}
	var m view.Memory
	var cpu view.CPU
	check := func(container, pod uint64, quota view.Limit) {
		t.Helper()
		if err := errors.Join(c.Memory(&m), c.CPU(&cpu)); err != nil {
			t.Fatal(err)
		}
		if m.Levels[0].Limit != view.Limit(container) || m.Levels[1].Limit != view.Limit(pod) {
			t.Errorf("limits %d and %d, want %d and %d", m.Levels[0].Limit, m.Levels[1].Limit, container, pod)
		}
		if len(m.Levels) != 4 || !m.Levels[3].NodeWide || m.Levels[2].NodeWide || m.Levels[2].Limit != view.Unlimited {
			t.Errorf("levels %+v", m.Levels)
		}
		if cpu.Quota != quota {
			t.Errorf("quota %d, want %d", cpu.Quota, quota)
		}
	}
	check(64*mib, 96*mib, 1500)
	for range 20 { // the next read sees it, each time
		// The period is written first; v1 refuses more than the pod has
		// and less than inner.
		outer.update(limits(80*mib, 100000, 100000))
		check(80*mib, 96*mib, 1000)
		outer.update(limits(80*mib, 240000, 200000))
		check(80*mib, 96*mib, 1200)
		pod.update(limits(90*mib, 125000, 100000))
		check(80*mib, 90*mib, 1200)
		outer.update(limits(64*mib, 100000, 200000))
		pod.update(limits(96*mib, 200000, 100000))
		outer.update(limits(64*mib, 150000, 100000))
		check(64*mib, 96*mib, 1500)
		if pod.v2 != nil { // which v1 refuses
			pod.update(limits(96*mib, 100000, 100000))
			check(64*mib, 96*mib, 1000)
			pod.update(limits(96*mib, 200000, 100000))
		}
	}

	usage := outer.file("memory.usage_in_bytes", "memory.current")
	if err := eventually(func() error { // two looks of the test without change in between
		before := readNumber(t, usage)
		if err := c.Memory(&m); err != nil {
			t.Fatal(err)
		}
		if after := readNumber(t, usage); before != after || m.Levels[0].Usage != before {
			return fmt.Errorf("usage %d, the kernel says %d and %d", m.Levels[0].Usage, before, after)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if m.Levels[0].Usage < 4*mib || m.Levels[1].Usage < 4*mib {
		t.Errorf("%+v", m.Levels)
	}

	var tasks view.Tasks
	threads := func() int {
		entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", proc.pid()))
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	if err := eventually(func() error {
		before := threads()
		if err := c.Tasks(&tasks); err != nil {
			t.Fatal(err)
		}
		if after := threads(); before != after || !tasks.Known || tasks.Total != uint64(after) {
			return fmt.Errorf("%+v, threads %d and %d", tasks, before, after)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// TestKernelRoundTrip: another process's boundary can be opened again by its
// string, and two readers in one container have equal ones.
func TestKernelRoundTrip(t *testing.T) {
	fs := kernelFS(t, nil)
	g := newGroup(t, testRoot+"/"+hexA, limits(64*mib, -1, 100000))
	sub := newGroup(t, g.path+"/sub", limits(64*mib, -1, 100000))
	if g.v2 == nil { // v2 allows processes in leaves only
		sub = g
	}
	one, two := startChild(t, "wait", 0), startChild(t, "wait", 0)
	sub.add(one.pid())
	sub.add(two.pid())
	a, err := fs.Boundary(uint32(one.pid()))
	if err != nil {
		t.Fatal(err)
	}
	b, err := fs.Boundary(uint32(two.pid()))
	if err != nil || a != b {
		t.Errorf("%s, %s, %v", a, b, err)
	}
	again, err := kernelFS(t, nil).Reopen(a.String())
	if err != nil || again != a {
		t.Errorf("%s, %v; want %s", again, err, a)
	}
	own, err := fs.Boundary(uint32(os.Getpid()))
	if err != nil || own == a || own.ID() == a.ID() {
		t.Errorf("%s, %v", own, err)
	}
}

// TestKernelThreads: each thread of a process is found, not only the first.
func TestKernelThreads(t *testing.T) {
	fs := kernelFS(t, nil)
	want, err := fs.Boundary(uint32(os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		got, err := fs.Boundary(uint32(unix.Gettid()))
		if err == nil && got != want {
			err = fmt.Errorf("thread %d: %s, want %s", unix.Gettid(), got, want)
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestKernelCPUTime: judged against the kernel's own file, read before and
// after; nothing steps back.
func TestKernelCPUTime(t *testing.T) {
	fs := kernelFS(t, nil)
	g := newGroup(t, testRoot+"/"+hexA, limits(512*mib, -1, 100000))
	proc := startChild(t, "burn", 0)
	g.add(proc.pid())
	c := openOf(t, fs, proc.pid())
	path := g.file("cpuacct.usage_all", "cpu.stat")
	kernel := func() uint64 {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if g.v2 != nil {
			usage, _, err := parseCPUStat(b)
			if err != nil {
				t.Fatal(err)
			}
			return usage
		}
		var v view.CPUTime
		if v.PerCPU, err = parseUsageAll(nil, b); err != nil {
			t.Fatal(err)
		}
		sum(&v)
		return v.User + v.System
	}
	var last, v view.CPUTime
	for range 5 {
		proc.say()
		before := kernel()
		if err := c.CPUTime(&v); err != nil {
			t.Fatal(err)
		}
		after := kernel()
		if used := v.User + v.System; used < before || used > after {
			t.Errorf("used %d, the kernel says %d and then %d", used, before, after)
		}
		if v.User < last.User || v.System < last.System {
			t.Errorf("from %+v back to %+v", last, v)
		}
		last.User, last.System = v.User, v.System
	}
	if v.User+v.System == 0 {
		t.Error("nothing used")
	}
}

func TestKernelBirth(t *testing.T) {
	fs := kernelFS(t, nil)
	g := newGroup(t, testRoot+"/"+hexA, limits(64*mib, -1, 100000))
	// The kernel rounds down to ticks, and counts from boot, suspend included.
	before := bootTime(t) - 10*time.Millisecond
	old := startChild(t, "wait", 0)
	between := bootTime(t)
	time.Sleep(20 * time.Millisecond) // so that the next one is a tick younger
	young := startChild(t, "wait", 0)
	g.add(young.pid())
	g.add(old.pid())
	c := openOf(t, fs, young.pid())
	if got, err := c.Birth(); err != nil || got < before || got > between {
		t.Errorf("%v, %v; want %v to %v", got, err, before, between)
	}
	old.end()
	if got, err := c.Birth(); err != nil || got < between {
		t.Errorf("of the younger: %v, %v; want more than %v", got, err, between)
	}
}

// TestKernelThreaded: v2 can have threads of one process in cgroups of their
// own, which have neither memory limits nor processes. On v1 a thread can be
// anywhere.
func TestKernelThreaded(t *testing.T) {
	fs := kernelFS(t, nil)
	plain := newGroup(t, testRoot+"/plain", limits(64*mib, -1, 100000))
	sub := &group{t: t, path: plain.path + "/threads", v1: plain.v1, v2: plain.v2}
	t.Cleanup(sub.remove)
	for _, dir := range plain.dirs(plain.path) {
		if err := os.Mkdir(dir+"/threads", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	list := sub.file("memory.tasks", "cgroup.threads")
	if plain.v2 == nil {
		list = filepath.Dir(list) + "/tasks"
	} else if err := os.WriteFile(sub.file("", "cgroup.type"), []byte("threaded"), 0); err != nil {
		t.Fatal(err)
	}
	proc := startChild(t, "wait", 0)
	plain.add(proc.pid())
	var thread int
	if err := eventually(func() error { // the Go runtime starts some
		entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", proc.pid()))
		if err != nil || len(entries) < 2 {
			return fmt.Errorf("%d threads, %w", len(entries), err)
		}
		thread, err = strconv.Atoi(entries[1].Name())
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(list, fmt.Append(nil, thread), 0); err != nil {
		t.Fatal(err)
	}
	c := openOf(t, fs, thread)
	if b := c.Boundary(); b.Container() || !strings.Contains(b.String(), sub.path) {
		t.Errorf("%s, want %s", b, sub.path)
	}
	var m view.Memory
	if err := c.Memory(&m); err != nil {
		t.Fatal(err)
	}
	limited := 0
	for _, l := range m.Levels {
		if l.Limit == 64*mib {
			limited++
		}
	}
	if limited != 1 {
		t.Errorf("%+v", m.Levels)
	}
	if plain.v2 == nil {
		return // a process is only listed in the cgroup of its first thread
	}
	if birth, err := c.Birth(); err != nil || birth == 0 {
		t.Errorf("%v, %v", birth, err)
	}
}

func bootTime(t *testing.T) time.Duration {
	t.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		t.Fatal(err)
	}
	return time.Duration(ts.Nano())
}

// TestKernelRemoved: a removed cgroup is gone for good, also when there is a
// new one of the same path.
func TestKernelRemoved(t *testing.T) {
	for name, warm := range map[string]bool{"files open": true, "files not open yet": false} {
		t.Run(name, func(t *testing.T) {
			fs := kernelFS(t, nil)
			g := newGroup(t, testRoot+"/"+hexA, limits(64*mib, 50000, 100000))
			proc := startChild(t, "wait", 0)
			g.add(proc.pid())
			c := openOf(t, fs, proc.pid())
			var m view.Memory
			var cpu view.CPU
			var used view.CPUTime
			var tasks view.Tasks
			reads := map[string]func() error{
				"Memory":  func() error { return c.Memory(&m) },
				"CPU":     func() error { return c.CPU(&cpu) },
				"CPUTime": func() error { return c.CPUTime(&used) },
				"Tasks":   func() error { return c.Tasks(&tasks) },
			}
			for name, read := range reads {
				if err := read(); warm && err != nil {
					t.Fatal(name, err)
				}
				if !warm {
					for fs.files.dropOne() {
					}
				}
			}
			gone := func(when string) {
				t.Helper()
				for name, read := range reads {
					if err := read(); !errors.Is(err, ErrGone) {
						t.Errorf("%s, %s: %v", when, name, err)
					}
				}
				if got, err := fs.Reopen(c.Boundary().String()); !errors.Is(err, ErrGone) {
					t.Errorf("%s: Reopen gives %s, %v", when, got, err)
				}
				if _, err := fs.Open(c.Boundary()); !errors.Is(err, ErrGone) {
					t.Errorf("%s: Open gives %v", when, err)
				}
			}
			proc.end()
			g.remove()
			gone("removed")
			newGroup(t, g.path, limits(32*mib, 50000, 100000))
			gone("made again")
			if _, err := c.Birth(); err == nil {
				t.Error("Birth of a removed cgroup")
			}
		})
	}
}

// TestKernelRemovalRace reads while the cgroup is being removed, when its
// files vanish one after the other: the limit or ErrGone, never "unlimited".
func TestKernelRemovalRace(t *testing.T) {
	for name, maxOpen := range map[string]int{"files open": 100, "files opened anew": 1} {
		t.Run(name, func(t *testing.T) {
			fs := kernelFS(t, func(cfg *Config) { cfg.MaxOpen = maxOpen })
			proc := startChild(t, "wait", 0)
			for n := range 15 {
				g := newGroup(t, testRoot+"/"+hexA, limits(64*mib, 50000, 100000))
				g.add(proc.pid())
				c := openOf(t, fs, proc.pid())
				newGroup(t, testRoot+"/park", limits(64*mib, 50000, 100000)).add(proc.pid())
				started := make(chan struct{})
				done := make(chan error)
				go func() { done <- readUntilGone(c, started) }()
				var err error
				select {
				case <-started:
					g.remove()
					err = <-done
				case err = <-done:
				}
				if err != nil {
					t.Fatalf("removal %d: %v", n, err)
				}
			}
			proc.end()
		})
	}
}

func readUntilGone(c *Container, started chan<- struct{}) error {
	var m view.Memory
	var cpu view.CPU
	for n := 0; ; n++ {
		if n == 10 {
			close(started)
		}
		errMem, errCPU := c.Memory(&m), c.CPU(&cpu)
		switch {
		case errMem == nil && m.Levels[0].Limit != 64*mib:
			return fmt.Errorf("memory %+v", m)
		case errCPU == nil && cpu.Quota != 500:
			return fmt.Errorf("CPU %+v", cpu)
		case errMem != nil && !errors.Is(errMem, ErrGone):
			return errMem
		case errCPU != nil && !errors.Is(errCPU, ErrGone):
			return errCPU
		case errMem != nil && errCPU != nil:
			return nil
		}
	}
}

// TestKernelZombie: on v1 a process that has ended shows in the root cgroup.
// That must not make its container the host.
func TestKernelZombie(t *testing.T) {
	fs := kernelFS(t, nil)
	g := newGroup(t, testRoot+"/"+hexA, limits(64*mib, -1, 100000))
	proc := startChild(t, "wait", 0)
	g.add(proc.pid())
	want, err := fs.Boundary(uint32(proc.pid()))
	if err != nil {
		t.Fatal(err)
	}
	if err := proc.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	state := func() string {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", proc.pid()))
		if err != nil {
			t.Fatal(err)
		}
		return strings.Fields(string(b))[2]
	}
	for deadline := time.Now().Add(20 * time.Second); state() != "Z"; {
		// All along its way out.
		if got, err := fs.Boundary(uint32(proc.pid())); err == nil && got != want {
			t.Fatalf("on its way out: %s, want %s", got, want)
		}
		if time.Now().After(deadline) {
			t.Fatal("still no zombie")
		}
	}
	got, err := fs.Boundary(uint32(proc.pid()))
	if !errors.Is(err, ErrNoProcess) && (g.v2 == nil || err != nil || got != want) {
		t.Errorf("zombie: %s, %v", got, err)
	}
	proc.cmd.Wait()
	if got, err := fs.Boundary(uint32(proc.pid())); !errors.Is(err, ErrNoProcess) {
		t.Errorf("reaped: %s, %v", got, err)
	}
}

// TestKernelNamespace: a container without a name that tells, found by the
// init of its pid namespace; the kernel's answer (Linux 6.11) and the search
// agree.
func TestKernelNamespace(t *testing.T) {
	fs := kernelFS(t, nil)
	box := newGroup(t, testRoot+"/box", limits(64*mib, -1, 100000))
	// On v2 a process can be in leaves only, so init has one like systemd's.
	home := newGroup(t, box.path+"/init.scope", limits(64*mib, -1, 100000))
	sub := newGroup(t, box.path+"/sub", limits(32*mib, -1, 100000))
	init := startChild(t, "init", unix.CLONE_NEWPID)
	init.hear()
	other := childOf(t, init.pid())
	home.add(init.pid())
	sub.add(other)
	for name, pid := range map[string]int{"init": init.pid(), "other": other} {
		b, err := fs.Boundary(uint32(pid))
		if err != nil {
			t.Fatal(err)
		}
		if !b.Container() || !strings.Contains(b.String(), box.path) || strings.Contains(b.String(), box.path+"/") {
			t.Errorf("%s: %s, want %s", name, b, box.path)
		}
	}
	p, err := fs.process(other)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	if id := p.askInit(); id != 0 && id != init.pid() {
		t.Errorf("the kernel says init is %d, not %d", id, init.pid())
	} else {
		t.Logf("asked for init, the kernel says %d (0: too old)", id)
	}
	places, err := p.places()
	if err != nil {
		t.Fatal(err)
	}
	ns, err := p.namespace()
	if err != nil {
		t.Fatal(err)
	}
	found, err := p.searchInit(places, ns)
	if err != nil || len(found) == 0 || !strings.Contains(fmt.Sprint(found), home.path) {
		t.Errorf("the search finds %v, %v", found, err)
	}
}

func childOf(t *testing.T, pid int) int {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		b, err := os.ReadFile(task)
		if err != nil {
			t.Fatal(err)
		}
		if f := strings.Fields(string(b)); len(f) == 1 {
			n, err := strconv.Atoi(f[0])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("process %d has no child", pid)
	return 0
}

// TestKernelPidReuse: what was opened of one process never tells of the next
// one with the same id. It runs in a pid namespace of its own, where nobody
// else takes the id.
func TestKernelPidReuse(t *testing.T) {
	a := newGroup(t, testRoot+"/"+hexA, limits(64*mib, -1, 100000))
	b := newGroup(t, testRoot+"/"+hexB, limits(64*mib, -1, 100000))
	cmd := childCommand("reuse", a.path, b.path)
	cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWPID | unix.CLONE_NEWNS
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// reusePid is the part of TestKernelPidReuse inside.
func reusePid(pathA, pathB string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount proc: %w", err)
	}
	fs, err := New(Config{})
	if err != nil {
		return err
	}
	start := func(path string) (*exec.Cmd, error) {
		cmd := childCommand("wait")
		if _, err := cmd.StdinPipe(); err != nil {
			return nil, err
		}
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		return cmd, enter(path, cmd.Process.Pid)
	}
	stop := func(cmd *exec.Cmd) { cmd.Process.Kill(); cmd.Wait() }
	first, err := start(pathA)
	if err != nil {
		return err
	}
	id := first.Process.Pid
	bound, err := fs.Boundary(uint32(id))
	if err != nil || !strings.Contains(bound.String(), pathA) {
		return fmt.Errorf("first process: %s, %w", bound, err)
	}
	opened, err := fs.process(id)
	if err != nil {
		return err
	}
	stop(first)
	for range 1000 { // a thread of this program may take the id meanwhile
		if err := os.WriteFile("/proc/sys/kernel/ns_last_pid", fmt.Append(nil, id-1), 0); err != nil {
			return err
		}
		second, err := start(pathB)
		if err != nil {
			return err
		}
		if second.Process.Pid != id {
			stop(second)
			continue
		}
		defer stop(second)
		if places, err := opened.places(); !errors.Is(err, ErrNoProcess) {
			return fmt.Errorf("through the first process's directory: %v, %w", places, err)
		}
		bound, err := fs.Boundary(uint32(id))
		if err != nil || !strings.Contains(bound.String(), pathB) {
			return fmt.Errorf("second process: %s, %w", bound, err)
		}
		return nil
	}
	return fmt.Errorf("id %d was never used again", id)
}

// enter moves a process into the cgroup at path in every hierarchy.
func enter(path string, pid int) error {
	procs := []string{"/sys/fs/cgroup" + path + "/cgroup.procs"}
	if cgroups.Mode() != cgroups.Unified {
		var err error
		if procs, err = filepath.Glob("/sys/fs/cgroup/*" + path + "/cgroup.procs"); err != nil {
			return err
		}
	}
	for _, file := range procs {
		if err := os.WriteFile(file, fmt.Append(nil, pid), 0); err != nil {
			return fmt.Errorf("enter cgroup: %w", err)
		}
	}
	return nil
}
