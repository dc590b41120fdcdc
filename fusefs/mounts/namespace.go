// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package mounts

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// The main goroutine keeps the thread-group leader, in every program that
// links this package. setns(2) with a mount namespace changes one thread for
// good; a goroutine that holds the leader when it does so leaves
// /proc/<pid>/ns/mnt, and with it kubectl exec and our own path lookups, in
// the other namespace: the leader is parked instead of ended. A main function
// has nothing to do for this, but should only wait: a locked goroutine is
// slow to switch to.
func init() { runtime.LockOSThread() }

// thread is a thread of this process that has its own root, working
// directory and umask, perhaps in another mount namespace. Its calls must
// come from the function that inside has given it to.
type thread struct {
	// task is its directory in the procfs of the namespace where the
	// process lives: in the other one there may be no procfs, or one that
	// does not show us.
	task *os.File
}

// inside runs f on a thread of its own that has entered the mount namespace
// ns, the path of a namespace file ("" is the namespace of the process).
// The thread ends with f. Paths that f uses are those of that namespace.
func inside(ns string, f func(*thread) error) error {
	var file *os.File
	if ns != "" {
		var err error
		if file, err = os.Open(ns); err != nil {
			return fmt.Errorf("open mount namespace: %w", err)
		}
		defer file.Close()
	}
	return insideFile(file, f)
}

// insideFile is inside for an open namespace file; nil is the own namespace.
func insideFile(ns *os.File, f func(*thread) error) error {
	done := make(chan error, 1)
	go func() {
		// Never unlocked: the thread is of no use to anybody else.
		runtime.LockOSThread()
		err := errors.New("thread of another mount namespace ended")
		defer func() { done <- err }()
		var t *thread
		if t, err = enter(ns); err == nil {
			err = f(t)
			t.task.Close()
		}
	}()
	return <-done
}

// enter moves the calling thread, which must be locked, into ns.
func enter(ns *os.File) (*thread, error) {
	// The kernel lets no thread change its mount namespace while it shares
	// its root and working directory (EINVAL).
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return nil, fmt.Errorf("unshare root and working directory: %w", err)
	}
	task, err := os.OpenFile("/proc/self/task/"+strconv.Itoa(unix.Gettid()), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, fmt.Errorf("open own thread: %w", err)
	}
	if ns == nil {
		return &thread{task: task}, nil
	}
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS); err != nil {
		task.Close()
		return nil, fmt.Errorf("enter mount namespace %s: %w", ns.Name(), err)
	}
	return &thread{task: task}, nil
}

// mounts reads the mounts of the namespace that t is in. It asks no file
// system, so that a dead or a stuck one does not matter.
func (t *thread) mounts() ([]Info, error) {
	fd, err := unix.Openat(int(t.task.Fd()), "mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open mountinfo: %w", err)
	}
	file := os.NewFile(uintptr(fd), "mountinfo")
	defer file.Close()
	text, err := io.ReadAll(file)
	if err != nil {
		return nil, fmt.Errorf("read mountinfo: %w", err)
	}
	return parse(text)
}
