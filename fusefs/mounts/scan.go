// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package mounts

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// namespace is a mount namespace in which processes live.
type namespace struct {
	id   uint64 // inode of its file
	dirs []string
}

// maxDirs bounds the processes that are remembered of a namespace: enough
// that one of them lives a moment later.
const maxDirs = 8

// scan lists the mount namespaces of all processes that proc shows. Those of
// processes that nobody may look into are left out; they are counted.
func scan(proc string) (list []*namespace, hidden int, err error) {
	d, err := os.Open(proc)
	if err != nil {
		return nil, 0, fmt.Errorf("list processes: %w", err)
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, 0, fmt.Errorf("list processes: %w", err)
	}
	byID := make(map[uint64]*namespace)
	for _, name := range names {
		if _, err := strconv.Atoi(name); err != nil {
			continue
		}
		dir := filepath.Join(proc, name)
		var st unix.Stat_t
		if err := unix.Stat(dir+"/ns/mnt", &st); err != nil {
			if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
				hidden++
			}
			continue // else it has ended
		}
		n := byID[st.Ino]
		if n == nil {
			n = &namespace{id: st.Ino}
			byID[st.Ino] = n
			list = append(list, n)
		}
		if len(n.dirs) < maxDirs {
			n.dirs = append(n.dirs, dir)
		}
	}
	return list, hidden, nil
}

// concerned tells whether any mount of the namespace may have the source, which
// is cheaper than to enter it. A process that has changed its root sees the
// mounts below that only: others may see more, and of one that sees no root
// nothing is known.
func (n *namespace) concerned(source string) bool {
	for _, dir := range n.dirs {
		text, err := os.ReadFile(dir + "/mountinfo")
		if err == nil && (bytes.Contains(text, []byte(" "+source+" ")) || !seesRoot(text)) {
			return true
		}
	}
	return false
}

// seesRoot tells whether a mountinfo has a mount at /.
func seesRoot(mountinfo []byte) bool {
	for line := range bytes.Lines(mountinfo) {
		if f := bytes.Fields(line); len(f) > 4 && string(f[4]) == "/" {
			return true
		}
	}
	return false
}

// open opens the namespace's file, and makes sure that it is the one: a
// process number may belong to another process by now.
func (n *namespace) open() (*os.File, error) {
	for _, dir := range n.dirs {
		f, err := os.Open(dir + "/ns/mnt")
		if err != nil {
			continue
		}
		var st unix.Stat_t
		if err := unix.Fstat(descriptor(f), &st); err == nil && st.Ino == n.id {
			return f, nil
		}
		f.Close()
	}
	return nil, os.ErrProcessDone
}

// errStuck is for work in a namespace that something there holds up.
var errStuck = errors.New("a file system in the container does not answer")

// visit calls f on threads in all mount namespaces that have mounts of the
// source, a few at a time, and waits for each no longer than timeout. A thread
// that is held up for longer is left behind.
func visit(proc, source string, timeout time.Duration, f func(*namespace, *thread) error, failed func(*namespace, error)) error {
	list, hidden, err := scan(proc)
	if err != nil {
		return err
	}
	if hidden == len(list) && hidden > 0 {
		return fmt.Errorf("no mount namespace of any process under %s can be looked into", proc)
	}
	work := make(chan *namespace)
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			for n := range work {
				if err := n.visit(source, timeout, f); err != nil {
					failed(n, err)
				}
			}
		})
	}
	for _, n := range list {
		work <- n
	}
	close(work)
	wait.Wait()
	return nil
}

func (n *namespace) visit(source string, timeout time.Duration, f func(*namespace, *thread) error) error {
	if !n.concerned(source) {
		return nil
	}
	ns, err := n.open()
	if err != nil {
		return nil // all its processes have ended
	}
	done := make(chan error, 1)
	go func() {
		defer ns.Close()
		done <- insideFile(ns, func(t *thread) error { return f(n, t) })
	}()
	select {
	case err := <-done:
		return err
	case <-time.After(timeout):
		return errStuck
	}
}
