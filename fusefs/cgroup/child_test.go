// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
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
	case "write": // to a file, past the page cache, from a cgroup
		if err := write(os.Args[1], os.Args[2]); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
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

const writtenBytes = mib

func write(path, procs string) error {
	if err := os.WriteFile(procs, []byte("0"), 0); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|unix.O_DIRECT, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	page, err := unix.Mmap(-1, 0, writtenBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON) // aligned
	if err != nil {
		return err
	}
	_, err = f.Write(page)
	return err
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
