// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package mounts

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Release takes the mounts of podproc's, live or dead, out of every mount
// namespace, so that containers see the kernel's own files. The server has to
// serve until it returns. The tree of Kernel stays at the point: pods that
// name a file below it can start again. Where a mount cannot be detached, or
// where a dead one below it would show, the kernel's file is put on top.
func (tr Tree) Release() (Result, error) { return tr.retreat(Tree.release) }

// Suspend is Release for a time: containers see the kernel's own files, by
// mounts that the next Repair knows and replaces. It needs the tree of Kernel.
func (tr Tree) Suspend() (Result, error) { return tr.retreat(Tree.suspend) }

func (tr Tree) retreat(each func(Tree, *counts, *thread, []Info) error) (Result, error) {
	if err := tr.setDefaults(); err != nil {
		return Result{}, err
	}
	// From here on who mounts a file gets the kernel's.
	if err := tr.Point.Unmount(); err != nil {
		return Result{}, err
	}
	var c counts
	err := visit(tr.Proc, tr.source, tr.Timeout, func(n *namespace, t *thread) error {
		return tr.each(&c, n, t, func(m Info) bool {
			_, kernel := m.kernelPath(tr.source)
			return m.of(tr.source) || kernel
		}, func(at []Info) error { return each(tr, &c, t, at) })
	}, tr.failed(&c))
	return c.result(), err
}

// errDone says that a point is as it has to be.
var errDone = errors.New("nothing to do")

// release has the kernel's file seen instead of the top one of the mounts at.
func (tr Tree) release(c *counts, t *thread, at []Info) error {
	top := at[len(at)-1]
	if len(at) > 1 && at[len(at)-2].of(tr.source) {
		if _, kernel := top.kernelPath(tr.source); kernel {
			return errDone
		}
		return tr.cover(c, t, top)
	}
	err := detach(c, t, top)
	if errors.Is(err, unix.EINVAL) { // locked
		return tr.cover(c, t, top)
	}
	return err
}

// suspend has the kernel's file, as it is in the tree of Kernel, seen instead
// of the top one of the mounts at.
func (tr Tree) suspend(c *counts, t *thread, at []Info) error {
	top := at[len(at)-1]
	file, ok := tr.file(top)
	if _, kernel := top.kernelPath(tr.source); kernel {
		return errDone
	}
	if !ok {
		return detach(c, t, top)
	}
	if len(at) > 1 {
		below := at[len(at)-2]
		if _, kernel := below.kernelPath(tr.source); kernel {
			return detach(c, t, top)
		}
		if below.of(tr.source) {
			return tr.cover(c, t, top)
		}
	}
	to, err := t.open(top)
	if err != nil {
		return err
	}
	defer to.close()
	fd, err := tr.clone(file)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	// Without it there is the kernel's file too. EINVAL: it is locked.
	if err := to.detach(top.ID); err != nil && !errors.Is(err, unix.EINVAL) {
		return err
	}
	if err := to.attach(fd, 0); err != nil {
		return fmt.Errorf("mount the kernel's file: %w", err)
	}
	c.detached.Add(1)
	return nil
}

// cover puts the kernel's file on top of m.
func (tr Tree) cover(c *counts, t *thread, m Info) error {
	file, ok := tr.file(m)
	if !ok {
		return fmt.Errorf("%s is of no known file", m.Root)
	}
	to, err := t.open(m)
	if err != nil {
		return err
	}
	defer to.close()
	fd, err := tr.clone(file) // of the tree of Kernel
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := to.attach(fd, 0); err != nil {
		return fmt.Errorf("mount on top: %w", err)
	}
	c.detached.Add(1)
	return nil
}

// detach takes away m, which is on top at its point.
func detach(c *counts, t *thread, m Info) error {
	to, err := t.open(m)
	if err != nil {
		return err
	}
	defer to.close()
	if err := to.detach(m.ID); err != nil {
		return err
	}
	c.detached.Add(1)
	return nil
}
