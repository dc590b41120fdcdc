// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/podproc/podproc/test/vm/wire"
	"golang.org/x/sys/unix"
)

// events is the port to the host; its Write sends the output of one job.
type events struct {
	mu   sync.Mutex
	port *os.File
	job  int
}

func (e *events) send(ev wire.Event) error {
	line, err := json.Marshal(ev)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	_, err = e.port.Write(append(line, '\n'))
	return err
}

func (e *events) Write(p []byte) (int, error) {
	return len(p), e.send(wire.Event{Job: e.job, Output: p})
}

// openPort finds the serial port by its name: nobody here makes
// /dev/virtio-ports, as udev would.
func openPort() (*os.File, error) {
	names, err := filepath.Glob("/sys/class/virtio-ports/*/name")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if text, _ := os.ReadFile(name); strings.TrimSpace(string(text)) == wire.Port {
			return os.OpenFile("/dev/"+filepath.Base(filepath.Dir(name)), os.O_WRONLY, 0)
		}
	}
	return nil, fmt.Errorf("no serial port %s", wire.Port)
}

func runJobs(jobs []wire.Job) error {
	port, err := openPort()
	if err != nil {
		return err
	}
	defer port.Close()
	out := &events{port: port}
	if err := out.send(wire.Event{Up: true}); err != nil {
		return err
	}
	for i, job := range jobs {
		out.job = i
		start := time.Now()
		exit := runJob(job, out)
		if err := out.send(wire.Event{Job: i, Done: true, Exit: exit, Took: time.Since(start)}); err != nil {
			return err
		}
	}
	return nil
}

func runJob(job wire.Job, out *events) int {
	cmd := exec.Command(job.Args[0], job.Args[1:]...)
	cmd.Dir = job.Dir
	cmd.Env = append(environment(), job.Env...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.WaitDelay = 5 * time.Second // for children that keep stdout
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(out, err)
		return 127
	}
	var limit *time.Timer
	if job.Limit > 0 {
		limit = time.AfterFunc(job.Limit, func() { end(cmd.Process.Pid, job, out) })
	}
	err := cmd.Wait()
	if limit != nil && !limit.Stop() {
		return 124
	}
	return status(cmd, err)
}

// end shows where everything hangs and ends the job.
func end(pid int, job wire.Job, out *events) {
	fmt.Fprintf(out, "\nvm: %s ended after %v\n", job.Args[0], job.Limit)
	_ = os.WriteFile("/proc/sys/kernel/printk", []byte("7"), 0)
	_ = os.WriteFile("/proc/sysrq-trigger", []byte("w"), 0) // tasks in state D
	_ = unix.Kill(-pid, unix.SIGQUIT)
	time.Sleep(5 * time.Second)
	_ = unix.Kill(-pid, unix.SIGKILL)
}

func status(cmd *exec.Cmd, err error) int {
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil
	}
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	if code := cmd.ProcessState.ExitCode(); code != 0 || err == nil {
		return code
	}
	return 1
}

func environment() []string {
	return []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "USER=root", "LANG=C.UTF-8", "TERM=linux"}
}

// shell runs on the console, which becomes its terminal.
func shell() error {
	console, err := os.OpenFile("/dev/ttyS0", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	cmd := exec.Command("/bin/bash", "-l")
	cmd.Dir = wire.Payload
	cmd.Env = environment()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = console, console, console
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	_ = cmd.Run() // its exit status is nobody's concern
	return nil
}
