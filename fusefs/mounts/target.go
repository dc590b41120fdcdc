// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package mounts

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// target is a mount point in the namespace of a thread, held open: dir is the
// directory that has it, file the root of what is mounted there.
type target struct {
	t         *thread
	dir, file int
	name      string
}

// errCovered says that a path of mountinfo leads to another mount by now, or
// that it always did: something was mounted over it or over a directory on
// the way.
var errCovered = errors.New("it is covered by another mount")

// open opens the mount point of m. It follows no links, and fails with
// errCovered unless the path leads to the root of m itself. The root is not
// touched: its server may be dead.
func (t *thread) open(m Info) (*target, error) {
	const flags = unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC
	dir, err := unix.Open("/", flags|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, fmt.Errorf("open root: %w", err)
	}
	parts := strings.Split(strings.Trim(m.Point, "/"), "/")
	for _, part := range parts[:len(parts)-1] {
		next, err := unix.Openat(dir, part, flags|unix.O_DIRECTORY, 0)
		unix.Close(dir)
		switch err {
		case nil:
		case unix.ENOENT, unix.ENOTDIR, unix.ELOOP:
			return nil, errCovered
		default:
			return nil, fmt.Errorf("open way to %s: %w", m.Point, err)
		}
		dir = next
	}
	to := &target{t: t, dir: dir, file: -1, name: parts[len(parts)-1]}
	if err := to.reopen(); err != nil {
		to.close()
		return nil, err
	}
	if id, err := t.mountID(to.file); err != nil || id != m.ID {
		to.close()
		return nil, errors.Join(err, errCovered)
	}
	return to, nil
}

// reopen opens what is on top at the mount point now.
func (to *target) reopen() error {
	fd, err := unix.Openat(to.dir, to.name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open mount point %s: %w", to.name, err)
	}
	if to.file >= 0 {
		unix.Close(to.file)
	}
	to.file = fd
	return nil
}

func (to *target) close() {
	unix.Close(to.dir)
	if to.file >= 0 {
		unix.Close(to.file)
	}
}

// detach takes away the top mount, which must be the one with that ID. Its
// open files live on.
func (to *target) detach(id int) error {
	if err := to.reopen(); err != nil {
		return err
	}
	if now, err := to.t.mountID(to.file); err != nil || now != id {
		return errors.Join(err, errCovered)
	}
	// umount takes a path only; from this directory it is one name.
	if err := unix.Fchdir(to.dir); err != nil {
		return fmt.Errorf("go to mount point: %w", err)
	}
	if err := unix.Unmount(to.name, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
		return fmt.Errorf("detach mount: %w", err)
	}
	return to.reopen()
}

// moveBeneath is MOVE_MOUNT_BENEATH (Linux >= 6.5; EINVAL before).
const moveBeneath = 0x200

// attach puts the detached mount fd on top of what is there, or beneath the
// top.
func (to *target) attach(fd, flags int) error {
	return unix.MoveMount(fd, "", to.file, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH|flags)
}

// mountID returns the ID of the mount that fd is on, without a question to
// its file system. statx could tell only since Linux 5.8.
func (t *thread) mountID(fd int) (int, error) {
	n, err := unix.Openat(int(t.task.Fd()), "fdinfo/"+strconv.Itoa(fd), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("open fdinfo: %w", err)
	}
	f := os.NewFile(uintptr(n), "fdinfo")
	defer f.Close()
	text, err := io.ReadAll(f)
	if err != nil {
		return 0, fmt.Errorf("read fdinfo: %w", err)
	}
	for line := range bytes.Lines(text) {
		if v, ok := bytes.CutPrefix(line, []byte("mnt_id:")); ok {
			return strconv.Atoi(string(bytes.TrimSpace(v)))
		}
	}
	return 0, fmt.Errorf("parse fdinfo: no mnt_id in %q", text)
}
