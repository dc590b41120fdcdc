// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podproc/podproc/fusefs/view"
)

// dir is one cgroup, shared by all containers inside it.
type dir struct {
	fs   *FS
	h    *hierarchy
	path string
	ino  uint64
	refs int // guarded by FS.mu

	closed atomic.Bool
	files  [numFiles]file

	mu    sync.Mutex // guards what follows; never held across a kernel read
	level memoryLevel
	at    int64 // of level, as now; 0 is never
	quota quota // last seen, on v1
	used  usedTime
	per   []usedTime // the same for each CPU, on v1
}

type dirKey struct {
	hierarchy int
	path      string
	ino       uint64
}

// memoryLevel is a dir's last look at its memory, kept for node-wide levels.
type memoryLevel struct {
	view.MemoryLevel
	accounted bool // the controller is enabled here
	swap      bool // and counts swap
}

// dir returns the cgroup at path, which release gives back.
func (fs *FS) dir(h *hierarchy, path string) (*dir, error) {
	ino, err := h.inode(path)
	if err != nil {
		return nil, err
	}
	key := dirKey{h.index, path, ino}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	d := fs.dirs[key]
	if d == nil {
		d = &dir{fs: fs, h: h, path: path, ino: ino}
		for i := range d.files {
			d.files[i].dir, d.files[i].id = d, fileID(i)
		}
		fs.dirs[key] = d
	}
	d.refs++
	return d, nil
}

func (d *dir) release() {
	d.fs.mu.Lock()
	d.refs--
	last := d.refs == 0
	if last {
		delete(d.fs.dirs, dirKey{d.h.index, d.path, d.ino})
	}
	d.fs.mu.Unlock()
	if last {
		d.closed.Store(true)
		for i := range d.files {
			d.fs.files.drop(d.files[i].open.Load())
		}
	}
}

// file is one control file of a dir.
type file struct {
	dir  *dir
	id   fileID
	open atomic.Pointer[handle]
	// absent is until when the file is believed to be missing, as now.
	absent atomic.Int64
}

var start = time.Now()

// now is a monotonic time above 0.
func now() int64 { return int64(time.Since(start)) + 1 }

// How long a missing file is believed to be missing: controllers are enabled
// and disabled, but kernels are not built anew. What the root lacks it lacks for
// ever.
const (
	absentAge         = 100 * time.Millisecond
	absentOptionalAge = 2 * time.Second
)

// absentNow notes that the file is missing.
func (f *file) absentNow() {
	until := now() + int64(absentAge)
	if filePresence[f.id] == optional && unless[f.id] == "" {
		until = now() + int64(absentOptionalAge)
	}
	if f.dir.path == "/" {
		until = math.MaxInt64
	}
	f.absent.Store(until)
}

// errAbsent tells that the cgroup has no such file: its controller is not
// enabled there, or the kernel is too old.
var errAbsent = errors.New("no such control file")

// errMissing tells that a cgroup lacks a file that it must have.
var errMissing = errors.New("the cgroup exists, but without this file")

// read returns the file's text in buf.
func (f *file) read(buf *buffer) ([]byte, error) {
	for again := false; ; again = true {
		h, err := f.acquire()
		if again && errors.Is(err, errMissing) {
			return nil, f.dir.gone() // its files go first
		}
		if err != nil {
			return nil, err
		}
		b, err := buf.pread(h.fd)
		h.release()
		switch {
		case err == nil:
			return b, nil
		case err == unix.ENODEV:
			// kernfs: the file was removed, with its cgroup or with a
			// controller, which may have been enabled again.
			f.dir.fs.files.drop(h)
			if gone := f.dir.alive(); gone != nil {
				return nil, gone
			}
			if !again {
				continue
			}
		case err == unix.EOPNOTSUPP && filePresence[f.id] == optional: // memsw on old kernels
			return nil, errAbsent
		}
		return nil, fmt.Errorf("read %s: %w", f, err)
	}
}

// String is the file's name as people know it.
func (f *file) String() string {
	path := f.dir.h.show(f.dir.path)
	if f.dir.path != "/" {
		path += "/"
	}
	return path + fileName[f.id]
}

func (f *file) acquire() (*handle, error) {
	for {
		if h := f.open.Load(); h != nil && h.acquire() {
			return h, nil
		}
		if until := f.absent.Load(); until != 0 && now() < until {
			return nil, errAbsent
		}
		h, err := f.reopen()
		if err != nil {
			return nil, err
		}
		if !f.open.CompareAndSwap(nil, h) {
			h.release() // somebody was faster
			continue
		}
		h.refs.Add(1) // the cache's
		f.dir.fs.files.add(h)
		if f.dir.closed.Load() {
			f.dir.fs.files.drop(h)
		}
		return h, nil
	}
}

// reopen opens the file, and makes sure that it is in the very cgroup and not
// in a later one of the same path.
func (f *file) reopen() (*handle, error) {
	h, must, err := f.tryOpen()
	if must { // its controller may have been enabled a moment ago
		h, must, err = f.tryOpen()
	}
	if must {
		return nil, fmt.Errorf("read %s: %w", f, errMissing)
	}
	return h, err
}

// tryOpen is one attempt; must tells that there is no file where one must be.
func (f *file) tryOpen() (h *handle, must bool, err error) {
	d := f.dir
	fd, err := d.fs.files.openat(d.h.fd, relative(d.path)+"/"+fileName[f.id])
	if gone := d.alive(); gone != nil {
		if err == nil {
			unix.Close(fd)
		}
		return nil, false, gone
	}
	switch err {
	case nil:
		f.absent.Store(0)
		return newHandle(f, fd), false, nil
	case unix.ENODEV:
		return nil, false, d.gone()
	case unix.ENOENT:
	default:
		return nil, false, fmt.Errorf("open %s: %w", f, err)
	}
	if must, err = f.required(); must || err != nil {
		return nil, must, err
	}
	f.absentNow()
	return nil, false, errAbsent
}

// alive returns ErrGone unless the cgroup still exists.
func (d *dir) alive() error {
	ino, err := d.h.inode(d.path)
	if err == nil && ino != d.ino {
		return d.gone()
	}
	return err
}

func (d *dir) gone() error { return fmt.Errorf("%s: %w", d.h.show(d.path), ErrGone) }

// required tells whether the cgroup must have the file, see presence.
func (f *file) required() (bool, error) {
	d := f.dir
	up, ok := parent(d.path)
	switch {
	case filePresence[f.id] == always:
		return true, nil
	case filePresence[f.id] == optional && unless[f.id] == "" || !ok:
		return false, nil
	}
	if name := unless[f.id]; name != "" {
		var st unix.Stat_t
		if ignoringEINTR(func() error { return unix.Fstatat(d.h.fd, relative(d.path)+"/"+name, &st, 0) }) == nil {
			return false, nil
		}
	}
	if !d.h.v2 {
		return true, nil
	}
	return d.h.enables(up, fileName[f.id])
}

// enables tells whether the v2 cgroup at path enables the controller of a
// control file for its children.
func (h *hierarchy) enables(path, file string) (bool, error) {
	fd, err := openat(h.fd, relative(path)+"/cgroup.subtree_control", unix.O_RDONLY)
	if err == unix.ENOENT {
		return false, nil // not the kernel's: an old record of a machine
	}
	var b []byte
	if err == nil {
		b, err = (&buffer{b: make([]byte, 256)}).readAll(fd)
		unix.Close(fd)
	}
	if err != nil {
		return false, fmt.Errorf("read %s: %w", h.show(join(path, "cgroup.subtree_control")), err)
	}
	controller, _, _ := strings.Cut(file, ".")
	return slices.Contains(strings.Fields(string(b)), controller), nil
}
