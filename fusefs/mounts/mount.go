// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

// Package mounts puts podproc's file system where it belongs and takes it
// away again: at one directory of the node, and over the kernel's files in
// running containers.
//
// It looks for mounts in mountinfo only, which no file system can delay, and
// walks no path of a container through a link that the container made. It
// never opens, stats or lists what lies under a podproc mount whose server
// may be gone, so a dead or a stuck server stops nothing here. What is not
// podproc's is never touched. It needs CAP_SYS_ADMIN, and CAP_SYS_CHROOT for
// other mount namespaces; Linux >= 5.2, but for Mount and Unmount.
//
// A program that links it has its main goroutine locked to its first thread.
package mounts

import (
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// How our mounts are told from others in mountinfo, where it says
// "fuse.podproc podproc-1a2b3c4d".
const (
	subtype      = "podproc"
	sourcePrefix = "podproc-"
)

// Point is a directory in a mount namespace.
type Point struct {
	// Namespace is the path of a mount namespace's file, as in
	// /proc/1/ns/mnt. Empty: the one of this process.
	Namespace string
	// Dir is an absolute path there. It is made when it is missing.
	Dir string
	// Context is the SELinux context of all files of what is mounted, as in
	// "system_u:object_r:container_file_t:s0". Empty: as the node's policy
	// says.
	Context string
}

// ErrContext says that the kernel takes no SELinux context, or not this one.
var ErrContext = errors.New("the kernel does not take this SELinux context for a mount")

// source is what mountinfo shows as the source of what was mounted at the
// point, and of all bind mounts of it. It is the same for every process, until
// the node boots, and another one for another point: Repair and Release must
// not meddle with a second podproc, for instance that of a cluster whose nodes
// are containers here.
func (p Point) source() (string, error) {
	ns := p.Namespace
	if ns == "" {
		ns = "/proc/self/ns/mnt"
	}
	var st unix.Stat_t
	if err := unix.Stat(ns, &st); err != nil {
		return "", fmt.Errorf("stat mount namespace %s: %w", ns, err)
	}
	h := fnv.New32a()
	fmt.Fprintf(h, "%d %s", st.Ino, filepath.Clean(p.Dir))
	return fmt.Sprintf("%s%08x", sourcePrefix, h.Sum32()), nil
}

// Mount makes a FUSE file system whose requests come from dev, a fresh open
// /dev/fuse, and attaches it. podproc mounts that are there already, however
// many, are detached first and their connections cut, so that nobody waits
// for a server that does not answer; a caller that could take over such a
// mount has to do that instead. Mount does not wait for the server: the
// INIT request is in dev when it returns.
//
// The file system can be used by everybody (allow_other), with permissions
// checked by the kernel (default_permissions: without it sendfile readers
// get data of any age), read-only (the server is not asked whether a file may
// be opened), nosuid, nodev, noexec. Its requests carry thread numbers of the
// pid namespace of this process.
func (p Point) Mount(dev *os.File) error {
	source, err := p.source()
	if err != nil {
		return err
	}
	o := p.options(dev, source)
	fs, err := superblock(o)
	if err != nil && !errors.Is(err, unix.ENOSYS) {
		return err
	}
	defer fs.Close()
	return inside(p.Namespace, func(t *thread) error {
		dir, err := t.prepare(p.Dir)
		if err != nil {
			return err
		}
		if fs == nil {
			return mountOld(o, dir)
		}
		if err := unix.MoveMount(int(fs.Fd()), "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			return fmt.Errorf("attach file system at %s: %w", dir, err)
		}
		return nil
	})
}

// Replace is Mount beside a server that lives: the new file system is seen
// instead of the one that is there, which goes on wherever else it is mounted.
// Before Linux 6.5 nothing of podproc's is there for a moment.
func (p Point) Replace(dev *os.File) error {
	source, err := p.source()
	if err != nil {
		return err
	}
	fs, err := superblock(p.options(dev, source))
	if err != nil {
		return err
	}
	defer fs.Close()
	return inside(p.Namespace, func(t *thread) error {
		dir, err := resolve(p.Dir)
		if err != nil {
			return err
		}
		all, err := t.mounts()
		if err != nil {
			return err
		}
		at := stack(all, dir)
		if len(at) == 0 || !at[len(at)-1].Ours() {
			return fmt.Errorf("no podproc file system is mounted at %s", p.Dir)
		}
		old := at[len(at)-1]
		to, err := t.open(old)
		if err != nil {
			return err
		}
		defer to.close()
		err = to.attach(descriptor(fs), moveBeneath)
		if err == nil {
			return to.detach(old.ID)
		}
		if !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("attach file system beneath the one at %s: %w", p.Dir, err)
		}
		if err := to.detach(old.ID); err != nil {
			return err
		}
		if err := to.attach(descriptor(fs), 0); err != nil {
			return fmt.Errorf("attach file system at %s: %w", p.Dir, err)
		}
		return nil
	})
}

// Unmount detaches the podproc mounts at the directory and leaves all else
// there. Open files go on working while their server does.
func (p Point) Unmount() error {
	return inside(p.Namespace, func(t *thread) error {
		dir, err := resolve(p.Dir)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		return t.clear(dir, unix.MNT_DETACH)
	})
}

// Mounts lists what is mounted at the directory, the lowest first. It tells
// nothing of whether a server lives, and asks none.
func (p Point) Mounts() (list []Info, err error) {
	err = inside(p.Namespace, func(t *thread) error {
		dir, err := resolve(p.Dir)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		all, err := t.mounts()
		list = stack(all, dir)
		return err
	})
	return list, err
}

// prepare makes dir ready to mount on, and returns its path without links.
func (t *thread) prepare(dir string) (string, error) {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", fmt.Errorf("make mount point: %w", err)
	}
	dir, err := resolve(dir)
	if err != nil {
		return "", err
	}
	// Before mkdir, which a dead mount would answer.
	if err := t.clear(dir, unix.MNT_DETACH|unix.MNT_FORCE); err != nil {
		return "", err
	}
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return "", fmt.Errorf("make mount point: %w", err)
	}
	return dir, nil
}

// resolve follows the links on the way to dir, and not what dir itself is:
// it may be a dead mount.
func resolve(dir string) (string, error) {
	if !filepath.IsAbs(dir) {
		return "", fmt.Errorf("mount point %q: not an absolute path", dir)
	}
	dir = filepath.Clean(dir)
	parent, err := filepath.EvalSymlinks(filepath.Dir(dir))
	if err != nil {
		return "", fmt.Errorf("resolve mount point: %w", err)
	}
	return filepath.Join(parent, filepath.Base(dir)), nil
}

// clear detaches the podproc mounts at dir from the top down to the first
// mount that is not podproc's.
func (t *thread) clear(dir string, flags int) error {
	for {
		all, err := t.mounts()
		if err != nil {
			return err
		}
		at := stack(all, dir)
		if len(at) == 0 || !at[len(at)-1].Ours() {
			return nil
		}
		if err := unix.Unmount(dir, flags|unix.UMOUNT_NOFOLLOW); err != nil {
			return fmt.Errorf("detach podproc's mount %d at %s: %w", at[len(at)-1].ID, dir, err)
		}
	}
}

// descriptor returns the number of file, which stays in the mode, blocking or
// not, that it is in; Fd would change that. -1 if the file is closed.
func descriptor(file *os.File) int {
	n := -1
	if c, err := file.SyscallConn(); err == nil {
		_ = c.Control(func(fd uintptr) { n = int(fd) })
	}
	return n
}
