// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package fusefs

import (
	"bytes"
	"errors"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podproc/podproc/fusefs/cgroup"
)

// inode is one file as one mount shows it.
type inode struct {
	id   uint64
	node *node

	refreshing sync.Mutex // held while a snapshot is made: one at a time

	mu    sync.Mutex    // guards what follows; held for moments only
	owner *container    // nil: no container has read it yet
	hint  *container    // the last container that has looked it up, until there is an owner
	since time.Duration // since boot, when the owner came to be that
	used  time.Duration // since boot, when somebody who is not the owner last came
	// lookups is the kernel's count. It is not known of an inode that came
	// from another process, which then stays until its owner is gone.
	lookups   int64
	inherited bool
	snap      snapshot
}

// snapshot is what a file says from one moment on.
type snapshot struct {
	of    *container // whom it shows; nil: there is none yet
	text  []byte
	taken time.Duration // since boot, before the first kernel read of the container for it
	mtime time.Time     // new whenever the text is
}

// inode finds or makes the inode with id, which must be one of node n.
func (fs *FS) inode(n *node, id uint64) *inode {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.inodeLocked(n, id)
}

func (fs *FS) inodeLocked(n *node, id uint64) *inode {
	i := fs.inodes[id]
	if i == nil {
		number := id & numberMask
		i = &inode{id: id, node: n, used: sinceBoot(), inherited: number <= fs.first || number > fs.next.Load()}
		fs.inodes[id] = i
		if len(fs.inodes)-fs.owned > crowded {
			select {
			case fs.crowd <- struct{}{}:
			default:
			}
		}
	}
	return i
}

// remove takes i out of the table, and from whom it belonged to. Its caller
// holds mu.
func (fs *FS) remove(i *inode) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(fs.inodes, i.id)
	i.seenBy(nil)
	if i.owner != nil {
		fs.owned--
		i.owner.inodes.Add(-1)
		i.owner.used.Store(int64(sinceBoot()))
	}
}

// claim returns whom i shows to thread tid, and whether that is settled. It
// gives i an owner if it has none and settle is true.
//
// The owner is the container of tid, but for one case: where the runtime has
// looked the inode up from inside of a container, as runc does, that container
// is the owner, and not somebody who passes by before it has read anything.
// The container of tid it is all the same if it runs below that one: what has
// looked the inode up then is a runtime that is in a container itself (kind).
//
// A reader that is in no container sees itself and never becomes an owner: a
// process of the node that looks into a container must not take its files
// away.
func (fs *FS) claim(i *inode, tid uint32, settle bool) (c *container, settled bool, err error) {
	i.mu.Lock()
	c = i.owner
	if c == nil {
		i.used = sinceBoot()
	}
	i.mu.Unlock()
	if c != nil {
		return c, true, nil
	}
	if c, err = fs.viewer(tid); err != nil || !c.boundary.Container() {
		return c, false, err
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case i.owner != nil:
		return i.owner, true, nil
	case i.hint != nil && !c.boundary.Below(i.hint.boundary):
		c = i.hint
	}
	if !settle {
		return c, false, nil
	}
	fs.own(i, c)
	fs.Stats.Owned.Add(1)
	fs.record(recordInode(kindOwner, i.id, i.owner))
	return i.owner, true, nil
}

// own makes c, or what has come in its place since it was found, the owner of
// i, which has none. Its caller holds fs.mu and i.mu.
//
// What was read until then may be from the runtime's own look around: it mounts
// a container's files first, and sets its limits then.
func (fs *FS) own(i *inode, c *container) {
	i.seenBy(nil)
	i.owner = fs.containerLocked(c.boundary)
	i.owner.inodes.Add(1)
	fs.owned++
	i.since = sinceBoot()
	i.owner.since.Store(int64(i.since))
}

// seenBy makes c the last container that has looked i up; nil is none. A
// container is known as long as there is such an inode: it may read it much
// later. Its caller holds fs.mu and i.mu.
func (i *inode) seenBy(c *container) {
	if i.hint != nil {
		i.hint.inodes.Add(-1)
	}
	if i.hint = c; c != nil {
		c.inodes.Add(1)
	}
}

// hint remembers that thread tid has looked up i, if it is in a container.
func (fs *FS) hint(i *inode, tid uint32) {
	i.mu.Lock()
	known := i.owner != nil
	i.mu.Unlock()
	if known {
		return
	}
	if ownThread(tid) {
		return // that is the repair of somebody else's mount
	}
	c, err := fs.viewer(tid)
	if err != nil || !c.boundary.Container() {
		return
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	c = fs.containerLocked(c.boundary)
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.owner == nil && i.hint != c {
		i.seenBy(c)
		fs.record(recordInode(kindHint, i.id, c))
	}
}

// ownThread tells whether tid is a thread of this process.
func ownThread(tid uint32) bool {
	var st unix.Stat_t
	return unix.Stat("/proc/self/task/"+strconv.FormatUint(uint64(tid), 10), &st) == nil
}

// drop takes i from c, which is gone or unused, and tells whether c was its
// owner. Its caller holds fs.mu.
func (i *inode) drop(c *container) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.snap.of == c {
		i.snap = snapshot{mtime: i.snap.mtime}
	}
	if i.hint == c {
		i.seenBy(nil)
		i.used = sinceBoot()
	}
	if i.owner != c {
		return false
	}
	i.owner, i.used = nil, 0
	c.inodes.Add(-1)
	return true
}

// unclaimedSince tells whether i has no owner and was last looked up or read
// before the time old. One that a container has looked up stays for it, unless
// there is a crowd of them.
func (i *inode) unclaimedSince(old time.Duration, crowd bool) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.owner == nil && (i.hint == nil || crowd) && i.used < old
}

// show has the snapshot of i be what thread tid is to see, not older than bound
// (or the last one known), and returns with i.mu held, unless with an error.
func (fs *FS) show(i *inode, tid uint32, settle bool, bound time.Duration) (settled bool, err error) {
	for range 100 {
		var c *container
		if c, settled, err = fs.claim(i, tid, settle); err != nil {
			level := fs.log.Warn
			if errors.Is(err, cgroup.ErrNoProcess) {
				level = fs.log.Debug // nobody waits any more
			} else {
				fs.Stats.Errors.Add(1)
			}
			level("it is not known whose file this is; its reader gets an error", "file", i.node.path, "thread", tid, "error", err)
			return false, err
		}
		if !i.fresh(c, sinceBoot(), bound) {
			if err := fs.refresh(i, c); err != nil {
				return false, err
			}
		}
		i.mu.Lock()
		if i.snap.of == c {
			return settled, nil
		}
		i.mu.Unlock() // somebody else came between, or an owner
	}
	return false, errCrowd
}

var errCrowd = errors.New("too many containers look at a file that none of them has read")

// refresh makes a snapshot of i as c sees it, unless there is one younger
// than the freshness bound, or i has another owner by now.
//
// If none can be made, the last one of c stays: cgroup numbers that cannot be
// read are the last ones known, never somebody else's. What the kernel does not
// count is an error, every time.
func (fs *FS) refresh(i *inode, c *container) error {
	taken := sinceBoot()
	if i.fresh(c, taken, fs.config.Freshness) {
		return nil
	}
	if !i.refreshing.TryLock() {
		i.refreshing.Lock()
		taken = sinceBoot()
	}
	defer i.refreshing.Unlock()
	if i.fresh(c, taken, fs.config.Freshness) {
		return nil
	}
	buf := fs.buffers.Get().(*[]byte)
	defer fs.buffers.Put(buf)
	i.mu.Lock()
	look := i.owner == nil && c.boundary.Container()
	i.mu.Unlock()
	at := taken
	text, err := fs.render(i.node.file, c, look, &at, (*buf)[:0])
	*buf = text[:0]
	if err == nil && len(text) == 0 && !i.node.file.Empty {
		err = errEmpty
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.owner != nil && i.owner != c {
		return nil
	}
	s := &i.snap
	if errors.Is(err, cgroup.ErrNotCounted) {
		if s.of != nil || s.mtime.IsZero() {
			*s = snapshot{mtime: time.Now()}
		}
		fs.log.Debug("the kernel does not count this; its reader gets EOPNOTSUPP", "file", i.node.path, "container", c.name, "error", err)
		return err
	}
	if err != nil {
		if !i.shows(c) {
			fs.Stats.Errors.Add(1)
			fs.log.Error("file cannot be rendered; its reader gets EIO", "file", i.node.path, "container", c.name, "error", err)
			return err
		}
		fs.Stats.Stale.Add(1)
		level := fs.log.Warn
		if errors.Is(err, cgroup.ErrGone) {
			level = fs.log.Debug // its readers are about to go, too
		}
		level("file cannot be rendered; its reader gets the last snapshot", "file", i.node.path, "container", c.name, "age", taken-s.taken, "error", err)
		return nil
	}
	if s.of != c || !bytes.Equal(s.text, text) {
		mtime := time.Now()
		if !mtime.After(s.mtime) {
			mtime = s.mtime.Add(1)
		}
		s.of, s.text, s.mtime = c, append(s.text[:0], text...), mtime
	}
	s.taken = at
	return nil
}

var errEmpty = errors.New("nothing was rendered")

// fresh tells whether the snapshot shows c and is younger than bound now.
func (i *inode) fresh(c *container, now, bound time.Duration) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.shows(c) && now-i.snap.taken < bound
}

// shows tells whether the snapshot is of c, and not of the time before the
// owner was that. Its caller holds mu.
func (i *inode) shows(c *container) bool {
	return c != nil && i.snap.of == c && i.snap.taken > i.since
}
