// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package fusefs

import (
	"errors"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/podproc/podproc/fusefs/cgroup"
)

// always is the time that the kernel may keep what never changes.
const always = 24 * time.Hour

// status is the one translation of errors to what a reader gets.
func status(err error) fuse.Status {
	switch {
	case err == nil:
		return fuse.OK
	case errors.Is(err, cgroup.ErrNoProcess):
		return fuse.Status(unix.ESRCH)
	case errors.Is(err, cgroup.ErrNotCounted):
		return fuse.Status(unix.EOPNOTSUPP)
	}
	return fuse.EIO
}

// Lookup finds a name in a directory. Of an inode it says what is known: its
// attributes are asked for before anybody reads it.
func (fs *FS) Lookup(_ <-chan struct{}, in *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	i, code := fs.find(in, name, out)
	if i != nil {
		fs.hint(i, in.Pid)
	}
	return code
}

// find is Lookup, but for who has looked up an inode. It does not block.
func (fs *FS) find(in *fuse.InHeader, name string, out *fuse.EntryOut) (*inode, fuse.Status) {
	dir, _ := fs.table.node(in.NodeId)
	if dir == nil || dir.file != nil {
		return nil, fuse.ENOENT
	}
	if dir.path == inodeDir {
		id := fs.table.inodeByName(name)
		n, _ := fs.table.node(id)
		if id == 0 || n == nil {
			return nil, fuse.ENOENT
		}
		i := fs.lookup(n, id)
		i.mu.Lock()
		defer i.mu.Unlock()
		out.NodeId = id
		i.attr(&out.Attr)
		return i, fuse.OK
	}
	n := fs.table.child(dir, name)
	if n == nil {
		return nil, fuse.ENOENT
	}
	out.NodeId = n.id()
	n.attr(&out.Attr)
	out.SetEntryTimeout(always)
	out.SetAttrTimeout(always)
	return nil, fuse.OK
}

// lookup counts one more lookup of an inode, of which the kernel will say
// when it forgets it.
func (fs *FS) lookup(n *node, id uint64) *inode {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	i := fs.inodeLocked(n, id)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.lookups++
	i.used = sinceBoot()
	return i
}

// Forget drops an inode that the kernel knows no more.
func (fs *FS) Forget(id, lookups uint64) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	i := fs.inodes[id]
	if i == nil {
		return
	}
	i.mu.Lock()
	i.lookups -= int64(lookups)
	known := i.owner != nil || i.hint != nil
	stays := i.lookups > 0 || i.inherited && known
	i.mu.Unlock()
	if stays {
		return
	}
	fs.remove(i)
	if known {
		fs.record(recordForget(id))
	}
}

// Readlink names an inode that is the caller's alone.
func (fs *FS) Readlink(_ <-chan struct{}, in *fuse.InHeader) ([]byte, fuse.Status) {
	n, number := fs.table.node(in.NodeId)
	if n == nil || n.file == nil || number != 0 {
		return nil, fuse.EINVAL
	}
	return []byte(n.target(fs.next.Add(1) & numberMask)), fuse.OK
}

// GetAttr makes a snapshot if need be and reports its size and time. That of
// somebody who has opened the file comes before the first READ, and settles
// whose file it is; that of stat(2) does not.
func (fs *FS) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	n, number := fs.table.node(in.NodeId)
	if n == nil {
		return fuse.ENOENT
	}
	if number == 0 {
		n.attr(&out.Attr)
		out.SetTimeout(always)
		return fuse.OK
	}
	i := fs.inode(n, in.NodeId)
	settled, err := fs.show(i, in.Pid, in.Flags()&fuse.FUSE_GETATTR_FH != 0, fs.config.Freshness)
	if err != nil {
		return status(err) // no attributes without a text: a size of 0 would be taken for its end
	}
	defer i.mu.Unlock()
	i.attr(&out.Attr)
	if settled {
		out.SetTimeout(max(0, fs.config.Freshness-(sinceBoot()-i.snap.taken)))
	}
	return fuse.OK
}

// Open is no request after the first one, which ENOSYS ends: opening and
// closing a file costs nothing, and the kernel keeps its pages for as long as
// GETATTR shows the same mtime, to which open(2) comes too if what the kernel
// knows is old (default_permissions).
func (fs *FS) Open(<-chan struct{}, *fuse.OpenIn, *fuse.OpenOut) fuse.Status { return fuse.ENOSYS }

// staleRead is the age, in freshness bounds, at which a READ is not answered
// from the snapshot any more. The kernel asks for attributes first, but not for
// mmap and sendfile on a descriptor that has long been open; and a reader that
// waits for a CPU between the two reads what is old by then.
const staleRead = 3

// Read serves the snapshot that GETATTR reported.
func (fs *FS) Read(_ <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	n, number := fs.table.node(in.NodeId)
	if n == nil || n.file == nil || number == 0 {
		return nil, fuse.ENOENT
	}
	i := fs.inode(n, in.NodeId)
	if _, err := fs.show(i, in.Pid, true, staleRead*fs.config.Freshness); err != nil {
		return nil, status(err)
	}
	defer i.mu.Unlock()
	return i.read(buf, in.Offset), fuse.OK
}

// read copies from the snapshot, since the next one overwrites it. Its caller
// holds mu.
func (i *inode) read(buf []byte, off uint64) fuse.ReadResult {
	if off >= uint64(len(i.snap.text)) {
		return newPiece(nil)
	}
	return newPiece(buf[:copy(buf, i.snap.text[off:])])
}

// attr fills in what is known of i.
func (i *inode) attr(out *fuse.Attr) {
	*out = fuse.Attr{
		Ino: ino(i.id), Mode: unix.S_IFREG | 0o444, Nlink: 1, Blksize: 4096,
		Size: uint64(len(i.snap.text)), Blocks: uint64(len(i.snap.text)+511) / 512,
	}
	out.SetTimes(&i.snap.mtime, &i.snap.mtime, &i.snap.mtime)
}

// attr fills in what a directory or symlink is.
func (n *node) attr(out *fuse.Attr) {
	*out = fuse.Attr{Ino: ino(n.id()), Mode: unix.S_IFDIR | 0o555, Nlink: 2, Blksize: 4096}
	switch {
	case n.file != nil:
		out.Mode, out.Nlink = unix.S_IFLNK|0o777, 1
		out.Size = uint64(len(n.target(numberMask)))
	case n.path == inodeDir:
		out.Mode = unix.S_IFDIR | 0o111
	}
}

// OpenDir allows directories to be listed.
func (fs *FS) OpenDir(_ <-chan struct{}, _ *fuse.OpenIn, _ *fuse.OpenOut) fuse.Status { return fuse.OK }

// ReadDir lists a directory; inodeDir looks empty.
func (fs *FS) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	dir, _ := fs.table.node(in.NodeId)
	if dir == nil || dir.file != nil {
		return fuse.ENOTDIR
	}
	entries := fs.table.entries[dir]
	for ; in.Offset < uint64(len(entries)); in.Offset++ {
		n := entries[in.Offset]
		e := fuse.DirEntry{Name: n.name(), Ino: ino(n.id()), Mode: unix.S_IFDIR, Off: in.Offset + 1}
		if n.file != nil {
			e.Mode = unix.S_IFLNK
		}
		if n.path != inodeDir && !out.AddDirEntry(e) {
			break
		}
	}
	return fuse.OK
}

// StatFs is answered at once; there are no blocks to count.
func (fs *FS) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	*out = fuse.StatfsOut{Bsize: 4096, Frsize: 4096, NameLen: 255}
	return fuse.OK
}

// Ioctl answers what isatty(3) asks; Python, awk and bash do.
func (fs *FS) Ioctl(<-chan struct{}, *fuse.IoctlIn, []byte, *fuse.IoctlOut, []byte) fuse.Status {
	return fuse.Status(unix.ENOTTY)
}

// Flush does nothing, which the kernel remembers after ENOSYS (go-fuse's own
// default is success): no close(2) costs a request, and none hangs for good
// where nobody answers. The same holds for POLL, which would keep a machine
// from being suspended.
func (fs *FS) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.ENOSYS }

// Nothing here can be written.

func (fs *FS) SetAttr(<-chan struct{}, *fuse.SetAttrIn, *fuse.AttrOut) fuse.Status {
	return fuse.EROFS
}
func (fs *FS) Mknod(<-chan struct{}, *fuse.MknodIn, string, *fuse.EntryOut) fuse.Status {
	return fuse.EROFS
}
func (fs *FS) Mkdir(<-chan struct{}, *fuse.MkdirIn, string, *fuse.EntryOut) fuse.Status {
	return fuse.EROFS
}
func (fs *FS) Unlink(<-chan struct{}, *fuse.InHeader, string) fuse.Status { return fuse.EROFS }
func (fs *FS) Rmdir(<-chan struct{}, *fuse.InHeader, string) fuse.Status  { return fuse.EROFS }
func (fs *FS) Rename(<-chan struct{}, *fuse.RenameIn, string, string) fuse.Status {
	return fuse.EROFS
}
func (fs *FS) Link(<-chan struct{}, *fuse.LinkIn, string, *fuse.EntryOut) fuse.Status {
	return fuse.EROFS
}
func (fs *FS) Symlink(<-chan struct{}, *fuse.InHeader, string, string, *fuse.EntryOut) fuse.Status {
	return fuse.EROFS
}
func (fs *FS) Create(<-chan struct{}, *fuse.CreateIn, string, *fuse.CreateOut) fuse.Status {
	return fuse.EROFS
}
func (fs *FS) SetXAttr(<-chan struct{}, *fuse.SetXAttrIn, string, []byte) fuse.Status {
	return fuse.EROFS
}
func (fs *FS) Write(<-chan struct{}, *fuse.WriteIn, []byte) (uint32, fuse.Status) {
	return 0, fuse.EROFS
}

// Late answers requests that are overdue, from what is known and without a
// kernel read. Of what is not known it says EAGAIN: a process that has just
// taken over knows no snapshots.
type Late struct{ *FS }

// Lookup does not ask who looks: that would be a kernel read.
func (l Late) Lookup(_ <-chan struct{}, in *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	_, code := l.find(in, name, out)
	return code
}

// GetAttr reports the last snapshot, whatever its age; the kernel is to ask
// again soon.
func (l Late) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	n, number := l.table.node(in.NodeId)
	if n == nil {
		return fuse.ENOENT
	}
	if number == 0 {
		return l.FS.GetAttr(nil, in, out)
	}
	i := l.inode(n, in.NodeId)
	i.mu.Lock()
	defer i.mu.Unlock()
	if !l.known(i) {
		return fuse.EAGAIN
	}
	i.attr(&out.Attr)
	return fuse.OK
}

// Read reads the last snapshot.
func (l Late) Read(_ <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	n, number := l.table.node(in.NodeId)
	if n == nil || number == 0 {
		return nil, fuse.ENOENT
	}
	i := l.inode(n, in.NodeId)
	i.mu.Lock()
	defer i.mu.Unlock()
	if !l.known(i) {
		return nil, fuse.EAGAIN
	}
	return i.read(buf, in.Offset), fuse.OK
}

// known tells whether i has a snapshot of its owner, and counts.
func (l Late) known(i *inode) bool {
	if !i.shows(i.owner) {
		return false
	}
	l.Stats.Stale.Add(1)
	return true
}
