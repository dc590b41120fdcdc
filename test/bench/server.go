// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
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
	"time"

	"golang.org/x/sys/unix"
)

// files are what is read: below a server's directory, and the kernel's own.
var files = []struct{ name, path, kernel string }{
	{"meminfo", "proc/meminfo", "/proc/meminfo"},
	{"stat", "proc/stat", "/proc/stat"},
	{"cpuinfo", "proc/cpuinfo", "/proc/cpuinfo"},
	{"online", "sys/devices/system/cpu/online", "/sys/devices/system/cpu/online"},
}

// Who is compared. procfs has no process.
const (
	procfs   = "procfs"
	goFuse   = "constant go-fuse file"
	podproc  = "podproc"
	lxcfs    = "LXCFS"
	anyCPU   = -1
	patience = 30 * time.Second
)

var compared = []string{procfs, goFuse, podproc, lxcfs}

// server is a process that serves files at dir.
type server struct {
	name, dir string
	cmd       *exec.Cmd
	said      *os.File
}

// start starts a server, on one CPU or on any, and waits until it serves.
func (b *bench) start(name string, cpu int) (*server, error) {
	s := &server{name: name}
	if name == procfs {
		return s, nil
	}
	var err error
	if s.dir, err = os.MkdirTemp(b.dir, "mount-"); err != nil {
		return nil, err
	}
	if s.said, err = os.CreateTemp(b.dir, "log-"); err != nil {
		return nil, err
	}
	switch name {
	case goFuse:
		s.cmd = exec.CommandContext(b.ctx, "/proc/self/exe", s.dir)
		s.cmd.Env = append(os.Environ(), roleEnv+"=constant")
	case podproc:
		s.cmd = exec.CommandContext(b.ctx, b.node, "serve", "--mount", s.dir)
	case lxcfs:
		s.cmd = exec.CommandContext(b.ctx, "lxcfs", "-f", "--enable-cfs", "-p", filepath.Join(b.dir, "lxcfs.pid"), s.dir)
	}
	s.cmd.Stderr = s.said
	s.cmd.Cancel = func() error { return s.cmd.Process.Signal(syscall.SIGTERM) }
	s.cmd.WaitDelay = patience
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := startOn(s.cmd, cpu); err != nil {
		return nil, err
	}
	if err := s.await(stdout); err != nil {
		s.stop()
		return nil, fmt.Errorf("%s: %w\n%s", name, err, s.log())
	}
	return s, nil
}

// startOn starts the command with the affinity that it shall have for life.
func startOn(cmd *exec.Cmd, cpu int) error {
	if cpu == anyCPU {
		return cmd.Start()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return err
	}
	one.Set(cpu)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return err
	}
	defer unix.SchedSetaffinity(0, &before)
	return cmd.Start()
}

// await waits for the word "ready", or, as LXCFS says none, for its files.
func (s *server) await(stdout io.Reader) error {
	if s.name != lxcfs {
		line, err := bufio.NewReader(stdout).ReadString('\n')
		if strings.TrimSpace(line) == "ready" {
			return nil
		}
		return fmt.Errorf("said %q (%v), not ready", line, err)
	}
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(s.dir, files[0].path)); err == nil {
			return nil
		}
	}
	return errors.New("serves nothing")
}

// source is where a file is served.
func (s *server) source(i int) string {
	if s.dir == "" {
		return files[i].kernel
	}
	return filepath.Join(s.dir, files[i].path)
}

// log is what the server said on stderr.
func (s *server) log() []byte {
	text, _ := os.ReadFile(s.said.Name())
	return text
}

func (s *server) stop() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	_ = s.cmd.Wait()
	_ = unix.Unmount(s.dir, unix.MNT_DETACH) // of a server that died
	s.said.Close()
}

// cpuTime is what the server has used so far, by the clock of its process.
func (s *server) cpuTime() (time.Duration, error) {
	const sched = 2
	var ts unix.Timespec
	err := unix.ClockGettime(int32(^s.cmd.Process.Pid<<3|sched), &ts)
	return time.Duration(ts.Nano()), err
}

// resident is the server's RssAnon and its whole resident set, in bytes.
func (s *server) resident() (anon, all int64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(line, ":")
		kib, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		switch key {
		case "RssAnon":
			anon = kib << 10
		case "VmRSS":
			all = kib << 10
		}
	}
	return anon, all, nil
}

func (s *server) descriptors() int {
	entries, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.cmd.Process.Pid))
	return len(entries)
}
