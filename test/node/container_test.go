// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// container is a container with an agent in it.
type container struct {
	t      *testing.T
	run    *process
	stdin  io.WriteCloser
	in     *json.Encoder
	agent  int               // its pid on the machine
	cgroup map[string]string // controller -> directory; on v2 all are one

	mu      sync.Mutex // guards what follows, and in
	last    int
	waiting map[int]chan answer // nil: the agent has ended
}

// unified tells whether there is nothing but cgroup v2.
func unified() bool {
	_, err := os.Stat("/sys/fs/cgroup/cgroup.controllers")
	return err == nil
}

// newContainer makes a container with the flags of podproc run, whose files
// come from the package's server unless they say otherwise.
func newContainer(t *testing.T, flags ...string) *container {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{"run", "--fs", tree}, flags...)
	args = append(args, "--", self)
	c := &container{t: t, run: &process{cmd: exec.Command(podproc, args...)}}
	c.run.cmd.Env = append(os.Environ(), "PODPROC_HELPER=agent", "GOMAXPROCS=1")
	if c.stdin, err = c.run.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := c.run.start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.stop)
	out := json.NewDecoder(stdout)
	c.in, c.waiting = json.NewEncoder(c.stdin), map[int]chan answer{}
	var hello answer
	if err := out.Decode(&hello); err != nil {
		t.Fatalf("podproc %q: %v: %s", args, err, c.run.lines())
	}
	go c.listen(out)
	c.cgroup = directories(hello.Cgroup)
	c.agent = c.find()
	return c
}

// stop ends the agent, and with it the container.
func (c *container) stop() {
	c.stdin.Close()
	if err := c.run.wait(patience); err != nil && !c.t.Failed() {
		c.t.Errorf("podproc run: %v: %s", err, c.run.lines())
	}
}

// directories turns /proc/PID/cgroup into the directory for each controller.
func directories(text string) map[string]string {
	dirs := map[string]string{}
	for line := range strings.Lines(text) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		for name := range strings.SplitSeq(f[1], ",") {
			switch {
			case name == "" && unified():
				for _, name := range []string{"cpu", "cpuacct", "cpuset", "memory"} {
					dirs[name] = "/sys/fs/cgroup" + f[2]
				}
			case name != "" && !strings.Contains(name, "="):
				dirs[name] = "/sys/fs/cgroup/" + name + f[2]
			}
		}
	}
	return dirs
}

// find returns the agent's pid on this machine: the one process in the cgroup.
func (c *container) find() int {
	pids := strings.Fields(c.file("memory", "cgroup.procs"))
	if len(pids) != 1 {
		c.t.Fatalf("a new container has the processes %q", pids)
	}
	pid, err := strconv.Atoi(pids[0])
	if err != nil {
		c.t.Fatal(err)
	}
	return pid
}

// file reads a control file.
func (c *container) file(controller, name string) string {
	c.t.Helper()
	b, err := os.ReadFile(filepath.Join(c.cgroup[controller], name))
	if err != nil {
		c.t.Fatal(err)
	}
	return string(b)
}

// listen gives answers to those who wait for them.
func (c *container) listen(out *json.Decoder) {
	for {
		var a answer
		err := out.Decode(&a)
		c.mu.Lock()
		if err != nil {
			for _, to := range c.waiting {
				close(to)
			}
			c.waiting = nil
			c.mu.Unlock()
			return
		}
		c.waiting[a.ID] <- a
		delete(c.waiting, a.ID)
		c.mu.Unlock()
	}
}

// try asks the agent.
func (c *container) try(r request) (answer, error) {
	to := make(chan answer, 1)
	c.mu.Lock()
	if c.waiting == nil {
		c.mu.Unlock()
		return answer{}, fmt.Errorf("the agent has ended: %s", c.run.lines())
	}
	c.last++
	r.ID = c.last
	c.waiting[r.ID] = to
	err := c.in.Encode(r)
	c.mu.Unlock()
	if err != nil {
		return answer{}, fmt.Errorf("ask agent: %w: %s", err, c.run.lines())
	}
	a, ok := <-to
	if !ok {
		return a, fmt.Errorf("the agent has ended: %s", c.run.lines())
	}
	if a.Error != "" {
		return a, fmt.Errorf("%s", a.Error)
	}
	return a, nil
}

func (c *container) do(r request) answer {
	c.t.Helper()
	a, err := c.try(r)
	if err != nil {
		c.t.Fatalf("%+v: %v", r, err)
	}
	return a
}

// sh runs a shell command inside that has to succeed.
func (c *container) sh(command string) string {
	c.t.Helper()
	a := c.do(request{Run: []string{"sh", "-c", command}})
	if a.Code != 0 {
		c.t.Fatalf("%s: exit status %d: %s%s", command, a.Code, a.Out, a.Stderr)
	}
	return a.Out
}

// helper runs a helper inside, to its end.
func (c *container) helper(args ...string) {
	c.t.Helper()
	self, err := os.Executable()
	if err != nil {
		c.t.Fatal(err)
	}
	c.sh("PODPROC_HELPER=" + args[0] + " " + self + " " + strings.Join(args[1:], " "))
}

func (c *container) read(path string) string {
	c.t.Helper()
	return c.do(request{Read: path}).Out
}

// meminfo reads /proc/meminfo inside, in kB.
func (c *container) meminfo() map[string]int {
	c.t.Helper()
	return parseMeminfo(c.t, c.read("/proc/meminfo"))
}

func parseMeminfo(t *testing.T, text string) map[string]int {
	t.Helper()
	m := map[string]int{}
	for line := range strings.Lines(text) {
		var key string
		var value int
		if _, err := fmt.Sscanf(strings.Replace(line, ":", " ", 1), "%s %d", &key, &value); err != nil {
			t.Fatalf("meminfo has the line %q", line)
		}
		m[key] = value
	}
	return m
}

// burn keeps n CPUs busy inside until the returned function is called.
func (c *container) burn(n int) (stop func()) {
	c.t.Helper()
	var pids []string
	for range n {
		pids = append(pids, strconv.Itoa(c.do(request{Start: []string{"burn"}}).PID))
	}
	return func() {
		c.t.Helper()
		c.sh("kill -9 " + strings.Join(pids, " "))
	}
}

// set writes a control file, by its name on v1 and on v2.
func (c *container) set(controller, v1, v2, value string) {
	c.t.Helper()
	name := v1
	if unified() {
		name = v2
	}
	write(c.t, filepath.Join(c.cgroup[controller], name), value)
}

// limitMemory and limitCPU change limits live; 100 are one CPU.
func (c *container) limitMemory(bytes int) {
	c.t.Helper()
	c.set("memory", "memory.limit_in_bytes", "memory.max", strconv.Itoa(bytes))
}

func (c *container) limitCPU(percent int) {
	c.t.Helper()
	quota := strconv.Itoa(percent * 1000)
	c.set("cpu", "cpu.cfs_quota_us", "cpu.max", quota)
}

// enter runs a shell command in the namespaces of the container, from a shell
// outside of it: with its cgroups as kubectl exec does, or without.
func (c *container) enter(cgroups bool, command string) string {
	c.t.Helper()
	script := ""
	if cgroups {
		script = joining(c.cgroup)
	}
	return shell(c.t, fmt.Sprintf("%sexec nsenter -t %d -m -p -- sh -c '%s'", script, c.agent, command))
}

// inside is a helper in the namespaces of the container, but not in its cgroups.
func (c *container) inside(args ...string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		c.t.Fatal(err)
	}
	cmd := exec.Command("nsenter", append([]string{"-t", strconv.Itoa(c.agent), "-m", "-p", "--", self}, args[1:]...)...)
	cmd.Env = append(os.Environ(), "PODPROC_HELPER="+args[0], "GOMAXPROCS=1")
	return cmd
}

// joining is the part of a script that moves its shell into cgroups.
func joining(cgroup map[string]string) string {
	script := "set -e; "
	for _, dir := range cgroup {
		script += "echo $$ > " + dir + "/cgroup.procs; "
	}
	return script
}

// shell runs a script on the machine.
func shell(t *testing.T, script string) string {
	t.Helper()
	out, err := exec.Command("sh", "-c", script).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", script, err, out)
	}
	return string(out)
}

func write(t *testing.T, path, value string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(value), 0); err != nil {
		t.Fatal(err)
	}
}

// newParent makes a cgroup to put containers in, with a limit of memory if
// limit is not 0, and returns its path from the root of the hierarchies.
func newParent(t *testing.T, name string, limit int) string {
	t.Helper()
	path := fmt.Sprintf("/podproc-test-%d-%d%s", os.Getpid(), time.Now().UnixNano(), name)
	roots := []string{"/sys/fs/cgroup"}
	if !unified() {
		roots = nil
		for _, controller := range []string{"cpu", "cpuacct", "cpuset", "memory", "pids", "blkio", "freezer"} {
			if _, err := os.Stat("/sys/fs/cgroup/" + controller); err == nil {
				roots = append(roots, "/sys/fs/cgroup/"+controller)
			}
		}
	}
	for _, root := range roots {
		makeCgroup(t, root, path)
	}
	if limit > 0 && unified() {
		write(t, roots[0]+path+"/memory.max", strconv.Itoa(limit))
	} else if limit > 0 {
		write(t, "/sys/fs/cgroup/memory"+path+"/memory.limit_in_bytes", strconv.Itoa(limit))
	}
	return path
}

// makeCgroup makes all directories of path, and removes them after the test.
func makeCgroup(t *testing.T, root, path string) {
	t.Helper()
	dir := root
	for name := range strings.SplitSeq(strings.TrimPrefix(path, "/"), "/") {
		if unified() {
			write(t, dir+"/cgroup.subtree_control", "+cpu +cpuset +memory")
		}
		parent := dir
		dir += "/" + name
		if os.Mkdir(dir, 0o755) == nil {
			made := dir
			t.Cleanup(func() {
				eventually(t, "remove "+made, func() bool { return unix.Rmdir(made) == nil || !exists(made) })
			})
		}
		if strings.HasSuffix(root, "/cpuset") { // v1 gives a new one no CPUs
			for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
				b, err := os.ReadFile(parent + "/" + file)
				if err != nil {
					t.Fatal(err)
				}
				write(t, dir+"/"+file, string(b))
			}
		}
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
