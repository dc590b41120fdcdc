// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package mounts

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Tree is a podproc file system, and where its files may be mounted.
type Tree struct {
	// Point is where the whole of it is mounted.
	Point Point
	// Proc is a procfs of the node's pid namespace; "" is /proc.
	Proc string
	// Files are the paths of its files, as in "proc/meminfo". Each is a link
	// to a file .inode/meminfo-NUMBER, whose number is another one each time.
	Files []string
	// Timeout is how long the mounts of one container may take; 0 is 5 s.
	Timeout time.Duration
	Log     *slog.Logger // default: discards

	source string
	home   *os.File // the point's namespace; nil is this process's
}

// Result counts what Repair or Release has done, in mounts.
type Result struct {
	Repaired int // a live file instead of a dead one or of the kernel's own
	Detached int // taken away, or covered by the kernel's file
	Failed   int // left as they are; each is logged
}

// counts is a Result that several threads add to.
type counts struct{ repaired, detached, failed atomic.Int64 }

func (c *counts) result() Result {
	return Result{int(c.repaired.Load()), int(c.detached.Load()), int(c.failed.Load())}
}

func (tr *Tree) setDefaults() (err error) {
	if tr.Proc == "" {
		tr.Proc = "/proc"
	}
	if tr.Timeout == 0 {
		tr.Timeout = 5 * time.Second
	}
	if tr.Log == nil {
		tr.Log = slog.New(slog.DiscardHandler)
	}
	if tr.Point.Namespace != "" {
		// Now: in a container's namespace the path leads somewhere else. Not
		// closed by hand, as a thread that was left behind may still use it.
		if tr.home, err = os.Open(tr.Point.Namespace); err != nil {
			return fmt.Errorf("open mount namespace: %w", err)
		}
	}
	tr.source, err = tr.Point.source()
	return err
}

// Repair mounts the file system's files in every mount namespace where there
// are files of a podproc file system whose server is gone, or files of the
// kernel that were mounted through the tree of Kernel. Mounts of a dead file
// system that are no file of this one are detached, copies of the whole tree
// among them. It is to be called when the file system is mounted and served,
// by this process or another.
//
// It makes no difference for it what a container's image has, who its user
// is, and whether it has a user namespace. Where Linux has
// MOVE_MOUNT_BENEATH (>= 6.5) a reader gets an error until the moment when it
// gets the live file, and never anything else. On older kernels, and in
// namespaces that a container made of its own, where a mount cannot be
// detached, the live file is put on top of the dead one.
func (tr Tree) Repair() (Result, error) {
	if err := tr.setDefaults(); err != nil {
		return Result{}, err
	}
	live, err := tr.live()
	if err != nil {
		return Result{}, err
	}
	var c counts
	err = visit(tr.Proc, tr.source, tr.Timeout, func(n *namespace, t *thread) error {
		return tr.each(&c, n, t, func(m Info) bool { return tr.broken(m, live) }, func(at []Info) error {
			return tr.repair(&c, t, at, live)
		})
	}, tr.failed(&c))
	return c.result(), err
}

// live returns the device number of the file system that is mounted now.
func (tr Tree) live() (string, error) {
	at, err := tr.Point.Mounts()
	if err != nil {
		return "", err
	}
	if len(at) == 0 || !at[len(at)-1].of(tr.source) || at[len(at)-1].Root != "/" {
		return "", fmt.Errorf("no podproc file system is mounted at %s", tr.Point.Dir)
	}
	return at[len(at)-1].Dev, nil
}

func (tr Tree) failed(c *counts) func(*namespace, error) {
	return func(n *namespace, err error) {
		c.failed.Add(1)
		tr.Log.Warn("a container's mounts are left as they are", "process", path.Base(n.dirs[0]), "error", err)
	}
}

// each calls f for the mounts at every point of t's namespace where the top
// one is wanted, until there is none, or f has failed there. What f gets is
// the mounts at that point, the lowest first.
func (tr Tree) each(c *counts, n *namespace, t *thread, wanted func(Info) bool, f func([]Info) error) error {
	given := make(map[string]bool) // points given up
	for {
		all, err := t.mounts()
		if err != nil {
			return err
		}
		found := false
		// The last first: a mount below another one comes before it.
		for i := len(all) - 1; i >= 0 && !found; i-- {
			m := all[i]
			if given[m.Point] || !wanted(m) {
				continue
			}
			at := stack(all, m.Point)
			if len(at) == 0 || !wanted(at[len(at)-1]) {
				continue // repaired by a mount on top, or hidden by one of the container's
			}
			found = true
			switch err := f(at); {
			case errors.Is(err, errDone):
				given[m.Point] = true
			case errors.Is(err, errCovered):
				// Nobody sees it, so nobody misses it.
				tr.Log.Debug("a mount is covered by another one", "process", path.Base(n.dirs[0]), "point", m.Point)
				given[m.Point] = true
			case err != nil:
				c.failed.Add(1)
				tr.Log.Warn("a container's mount is left as it is", "process", path.Base(n.dirs[0]), "point", m.Point, "error", err)
				given[m.Point] = true
			}
		}
		if !found {
			return nil
		}
	}
}

// broken tells whether m has to be replaced or detached while the file system
// with device number live is served.
func (tr Tree) broken(m Info, live string) bool {
	if _, kernel := m.kernelPath(tr.source); kernel {
		_, served := tr.file(m)
		return served
	}
	return m.of(tr.source) && m.Dev != live
}

// file returns the path of the file that m shows, or should show.
func (tr Tree) file(m Info) (string, bool) {
	if p, ok := m.kernelPath(tr.source); ok {
		for _, f := range tr.Files {
			if f == p {
				return f, true
			}
		}
		return "", false
	}
	name, ok := strings.CutPrefix(m.Root, "/.inode/")
	i := strings.LastIndexByte(name, '-')
	if !ok || i < 0 {
		return "", false
	}
	for _, f := range tr.Files {
		if path.Base(f) == name[:i] {
			return f, true
		}
	}
	return "", false
}

// repair puts a live file in the place of the top one of the mounts at, all
// of one point.
func (tr Tree) repair(c *counts, t *thread, at []Info, live string) error {
	top := at[len(at)-1]
	file, ok := tr.file(top)
	if !ok {
		return detach(c, t, top)
	}
	to, err := t.open(top)
	if err != nil {
		return err
	}
	defer to.close()
	if len(at) > 1 && at[len(at)-2].Ours() && at[len(at)-2].Dev == live {
		// Somebody died between the two steps below.
		if err := to.detach(top.ID); err != nil {
			return err
		}
		c.repaired.Add(1)
		return nil
	}
	fd, err := tr.clone(file)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := to.replace(fd, at); err != nil {
		return err
	}
	c.repaired.Add(1)
	return nil
}

// replace has the mount fd seen instead of the top one of the mounts at.
func (to *target) replace(fd int, at []Info) error {
	top := at[len(at)-1]
	err := to.attach(fd, moveBeneath)
	if err == nil {
		return to.detach(top.ID)
	}
	if !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("mount beneath: %w", err)
	}
	// The first dead mount stays for ever as what is seen while one on it is
	// exchanged: it gives errors, where the kernel's file below would give
	// the node's numbers. It does not become more than one.
	if len(at) > 1 && at[len(at)-2].Ours() && top.Ours() {
		if err := to.detach(top.ID); err != nil {
			return err
		}
	}
	err = to.attach(fd, 0)
	if errors.Is(err, unix.ENOENT) {
		// The root is a file whose name was looked up again: nothing can be
		// mounted there.
		if err := to.detach(top.ID); err != nil {
			return err
		}
		err = to.attach(fd, 0)
	}
	if err != nil {
		return fmt.Errorf("mount on top: %w", err)
	}
	return nil
}

// clone makes a mount of a file of the live file system that is nowhere yet.
// The link on the way gives it an inode that nobody else has.
func (tr Tree) clone(file string) (fd int, err error) {
	err = insideFile(tr.home, func(*thread) (err error) {
		fd, err = unix.OpenTree(unix.AT_FDCWD, path.Join(tr.Point.Dir, file), unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		if errors.Is(err, unix.ENOSYS) {
			return errors.New("this needs Linux 5.2 or later; on this kernel restart the pod")
		}
		if err != nil {
			return fmt.Errorf("clone %s: %w", file, err)
		}
		return nil
	})
	if err != nil {
		return -1, err
	}
	// Private: it must not get into the peer group of the node's mount.
	// Before Linux 5.12 (ENOSYS) it is as the node's mount is; the files are
	// read-only in themselves.
	err = unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &unix.MountAttr{
		Attr_set:    unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC,
		Propagation: unix.MS_PRIVATE,
	})
	if err != nil && !errors.Is(err, unix.ENOSYS) {
		unix.Close(fd)
		return -1, fmt.Errorf("set attributes of %s: %w", file, err)
	}
	return fd, nil
}
