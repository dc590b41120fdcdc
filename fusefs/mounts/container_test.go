// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package mounts

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// nodeNamespace is where the tests themselves run. Like the DaemonSet's
// /proc/1/ns/mnt the path leads nowhere, or somewhere else, in a container.
func nodeNamespace() string { return fmt.Sprintf("/proc/%d/ns/mnt", os.Getpid()) }

// spec says what a container is to be like.
type spec struct {
	Binds [][2]string // source on the node, target in the container
	User  bool        // a user namespace of its own
	Node  bool        // keep the node's tree as root, in a private mount namespace
}

// container is a process with mount and pid namespaces of its own, whose
// read-only root holds nothing but /proc.
type container struct {
	t   *testing.T
	cmd *exec.Cmd
	in  *json.Encoder
	out *json.Decoder
}

func start(t *testing.T, s spec) *container {
	t.Helper()
	root := t.TempDir()
	c := &container{t: t, cmd: exec.Command("/proc/self/exe", "test-container")}
	c.cmd.Stderr = os.Stderr
	c.cmd.Env = append(os.Environ(), "ROOT="+root)
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID}
	if s.User {
		ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 100000, Size: 65536}}
		c.cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		c.cmd.SysProcAttr.UidMappings, c.cmd.SysProcAttr.GidMappings = ids, ids
		c.cmd.SysProcAttr.Credential = &syscall.Credential{NoSetGroups: true}
		// It makes its root here.
		for dir := root; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
			if err := os.Chmod(dir, 0o777); err != nil {
				t.Fatal(err)
			}
		}
	}
	in, err := c.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.in, c.out = json.NewEncoder(in), json.NewDecoder(out)
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait()
	})
	if got := c.do("start", s); got != "" {
		t.Fatalf("container does not start: %s", got)
	}
	return c
}

// do has the container do something and returns what it says.
func (c *container) do(what string, arg any) (answer string) {
	c.t.Helper()
	if err := c.in.Encode([]any{what, arg}); err != nil {
		c.t.Fatal(err)
	}
	if err := c.out.Decode(&answer); err != nil {
		c.t.Fatalf("container: %s: %v", what, err)
	}
	return answer
}

// read opens and reads a file.
func (c *container) read(path string) string { c.t.Helper(); return c.do("read", path) }

// tally is what readers in a tight loop have seen, and how often.
type tally map[string]int

// stop ends the readers that do("loop") has started.
func (c *container) stop() tally {
	c.t.Helper()
	var seen tally
	if err := json.Unmarshal([]byte(c.do("stop", nil)), &seen); err != nil {
		c.t.Fatal(err)
	}
	return seen
}

// seen tells whether a reader in a loop has seen the text.
func (c *container) seen(text string) bool { c.t.Helper(); return c.do("seen", text) != "0" }

// mounts at a point of the container, the lowest first.
func (c *container) mounts(point string) []Info {
	c.t.Helper()
	all, err := parse([]byte(c.do("mountinfo", nil)))
	if err != nil {
		c.t.Fatal(err)
	}
	return stack(all, point)
}

// containerMain is the container's one process.
func containerMain() {
	// Of all threads, the first is shown in /proc/PID/ns.
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	loop := &loop{}
	for {
		var msg [2]json.RawMessage
		if err := in.Decode(&msg); err == io.EOF {
			os.Exit(0)
		} else if err != nil {
			panic(err)
		}
		var what, path string
		_ = json.Unmarshal(msg[0], &what)
		_ = json.Unmarshal(msg[1], &path)
		answer := ""
		switch what {
		case "start":
			var s spec
			if err := json.Unmarshal(msg[1], &s); err != nil {
				panic(err)
			}
			if err := build(s); err != nil {
				answer = err.Error()
			}
		case "read":
			answer = see(path)
		case "mountinfo":
			b, err := os.ReadFile("/proc/self/mountinfo")
			if err != nil {
				answer = err.Error()
			}
			answer += string(b)
		case "loop":
			loop.start(path)
		case "nest":
			// Below: all that is inherited is locked there.
			cmd := exec.Command("/proc/self/exe", "test-container")
			cmd.Env = append(os.Environ(), "NESTED=1")
			cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
			cmd.SysProcAttr = &syscall.SysProcAttr{
				Cloneflags:  unix.CLONE_NEWNS | unix.CLONE_NEWUSER,
				UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1000}},
				GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1000}},
			}
			if err := cmd.Start(); err != nil {
				answer = err.Error()
				break
			}
			_ = out.Encode("")
			_ = cmd.Wait() // it reads the rest of the commands
			os.Exit(0)
		case "stuck":
			// A file system over a directory that nobody answers for.
			fd, err := unix.Open("/dev/fuse", unix.O_RDWR, 0)
			if err == nil {
				err = unix.Mount("stuck", path, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fd))
			}
			if err != nil {
				answer = err.Error()
			}
		case "seen":
			answer = loop.saw(path)
		case "stop":
			b, _ := json.Marshal(loop.end())
			answer = string(b)
		}
		if err := out.Encode(answer); err != nil {
			panic(err)
		}
	}
}

// build makes the container's root.
func build(s spec) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make private: %w", err)
	}
	if s.Node {
		return nil
	}
	root := os.Getenv("ROOT")
	if err := unix.Mount("root", root, "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mount root: %w", err)
	}
	for _, dir := range []string{"/proc", "/old", "/dev"} {
		if err := os.Mkdir(root+dir, 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount("proc", root+"/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount proc: %w", err)
	}
	binds := s.Binds
	if !s.User {
		binds = append(binds, [2]string{"/dev", "/dev"})
	}
	// The test binary starts itself again; it may need libraries.
	for _, dir := range []string{"/lib", "/lib64"} {
		if _, err := os.Stat(dir); err == nil {
			if err := os.Mkdir(root+dir, 0o755); err != nil {
				return err
			}
			binds = append(binds, [2]string{dir, dir})
		}
	}
	for _, b := range binds {
		if err := unix.Mount(b[0], root+b[1], "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind %s: %w", b[0], err)
		}
	}
	if err := os.Chdir(root); err != nil {
		return err
	}
	// A VM's first root cannot be pivoted.
	if err := unix.PivotRoot(".", "old"); err == nil {
		if err := os.Chdir("/"); err != nil {
			return err
		}
		if err := unix.Unmount("/old", unix.MNT_DETACH); err != nil {
			return fmt.Errorf("detach old root: %w", err)
		}
	} else {
		if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("move root: %w", err)
		}
		if err := unix.Chroot("."); err != nil {
			return fmt.Errorf("change root: %w", err)
		}
	}
	return unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")
}

// see returns what a file says, or the error.
func see(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// loop reads files as fast as it can.
type loop struct {
	done  atomic.Bool
	wait  sync.WaitGroup
	mu    sync.Mutex
	seen  tally
	first sync.WaitGroup
}

func (l *loop) start(path string) {
	l.done.Store(false)
	l.seen = tally{}
	l.first.Add(2)
	for range 2 {
		l.wait.Go(func() {
			for n := 0; !l.done.Load(); n++ {
				s := see(path)
				if strings.HasPrefix(s, "MemTotal:  ") {
					s = "kernel"
				}
				l.mu.Lock()
				l.seen[s]++
				l.mu.Unlock()
				if n == 0 {
					l.first.Done()
				}
				runtime.Gosched()
			}
		})
	}
	l.first.Wait()
}

func (l *loop) saw(text string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strconv.Itoa(l.seen[text])
}

func (l *loop) end() tally {
	l.done.Store(true)
	l.wait.Wait()
	return l.seen
}

// pid is the container's process, as the node numbers it.
func (c *container) pid() string { return strconv.Itoa(c.cmd.Process.Pid) }
