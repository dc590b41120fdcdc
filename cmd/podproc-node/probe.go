// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podproc/podproc/fusefs"
	"github.com/podproc/podproc/fusefs/mounts"
)

// probeTimeout is long: the kernel is asked for a page of text.
const probeTimeout = 10 * time.Second

// selfTest has a child read a file through the mount, which tells that a
// reader gets an answer, and that we can see readers: requests of a reader
// outside our pid namespace carry the pid 0. The server does not read its own
// mount itself; if it hung, nobody could end it.
//
// The child also polls the file, so that the kernel learns that POLL is not
// implemented before others come, and closes it, which does the same for
// FLUSH.
func selfTest(ctx context.Context, fs *fusefs.FS, at mounts.Point) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	unseen := fs.Stats.Unseen.Load()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", "probe", at.Namespace, at.Dir)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	switch {
	case ctx.Err() != nil && err != nil:
		return fmt.Errorf("self-test: no answer through %s within %s", at.Dir, probeTimeout)
	case fs.Stats.Unseen.Load() != unseen:
		return errors.New("self-test: the process ids of readers cannot be seen, they are in another pid namespace: run podproc-node in the node's pid namespace (hostPID: true)")
	case err != nil:
		return fmt.Errorf("self-test: read through %s: %w: %s", at.Dir, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// probe is the child of selfTest.
func probe(_ context.Context, args []string, _ io.Reader, _, _ io.Writer) error {
	if len(args) != 2 {
		return errors.New("probe is a part of serve")
	}
	// In a thread that ends with the process. No runtime poller: raw calls.
	runtime.LockOSThread()
	if args[0] != "" {
		ns, err := os.Open(args[0])
		if err != nil {
			return err
		}
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("enter %s: %w", args[0], err)
		}
	}
	fd, err := unix.Open(args[1]+"/proc/meminfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	if _, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0); err != nil {
		return fmt.Errorf("poll: %w", err)
	}
	buf := make([]byte, 4096)
	n, err := unix.Read(fd, buf)
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	if !strings.HasPrefix(string(buf[:n]), "MemTotal:") {
		return fmt.Errorf("proc/meminfo begins with %q", buf[:min(n, 40)])
	}
	return unix.Close(fd)
}
