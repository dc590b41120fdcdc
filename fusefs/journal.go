// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package fusefs

import (
	"encoding"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/podproc/podproc/fusefs/cgroup"
	"github.com/podproc/podproc/fusefs/procfile"
)

// The state that crosses to a successor, as records. Each is a kind, then
// numbers as uvarints and strings after their length. A record says all there
// is to know of its subject, so that the last one of each is enough.
const (
	kindOwner    = 'o' // inode, boundary: the inode has found its container
	kindHint     = 'h' // inode, boundary: the container has looked up the inode
	kindForget   = 'f' // inode: the kernel has dropped it
	kindCounters = 'c' // boundary, then the counters of /proc/stat
	kindLoad     = 'l' // boundary, when it was last read, then the load average
	kindGone     = 'g' // boundary: nothing is known of it any more
)

// recordInode is a record of kindOwner or kindHint.
func recordInode(kind byte, id uint64, c *container) []byte {
	return appendString(binary.AppendUvarint([]byte{kind}, id), c.name)
}

func recordForget(id uint64) []byte {
	return binary.AppendUvarint([]byte{kindForget}, id)
}

func recordGone(c *container) []byte {
	return appendString([]byte{kindGone}, c.name)
}

func appendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// Lasting tells whether a record is of use when the connection is gone: what
// is about inodes is not.
func Lasting(record []byte) bool {
	return len(record) > 0 && record[0] != kindOwner && record[0] != kindHint && record[0] != kindForget
}

// Apply takes over a record of another process. Records of cgroups that are
// gone by now, and of kinds that this version does not know, are passed over.
func (fs *FS) Apply(record []byte) error {
	if len(record) == 0 {
		return errors.New("apply record: it is empty")
	}
	r := reader{rest: record[1:]}
	var err error
	switch record[0] {
	case kindOwner:
		err = fs.applyInode(r.uvarint(), r.string(), &r, fs.own)
	case kindHint:
		err = fs.applyInode(r.uvarint(), r.string(), &r, func(i *inode, c *container) { i.seenBy(c) })
	case kindForget:
		fs.applyForget(r.uvarint())
	case kindCounters:
		err = fs.applyCounters(r.string(), &r)
	case kindLoad:
		err = fs.applyLoad(r.string(), r.uvarint(), &r)
	case kindGone:
		err = fs.applyGone(r.string(), &r)
	}
	if err = errors.Join(err, r.err); err != nil && !errors.Is(err, cgroup.ErrGone) {
		return fmt.Errorf("apply record %q: %w", record, err)
	}
	return nil
}

// applyInode has an inode that has no owner yet come to a container.
func (fs *FS) applyInode(id uint64, boundary string, r *reader, come func(*inode, *container)) error {
	n, number := fs.table.node(id)
	if r.err != nil || number == 0 {
		return nil // a file that this version does not know
	}
	b, err := fs.cgroups.Reopen(boundary)
	if err != nil {
		return err
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	i := fs.inodeLocked(n, id)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.inherited = true
	if i.owner == nil {
		come(i, fs.containerLocked(b))
	}
	return nil
}

func (fs *FS) applyForget(id uint64) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if i := fs.inodes[id]; i != nil {
		fs.remove(i)
	}
}

// applyGone forgets a container. Its cgroups need not exist any more: mostly
// that is why it is gone.
func (fs *FS) applyGone(boundary string, r *reader) error {
	if r.err != nil {
		return nil
	}
	b, err := fs.cgroups.Parse(boundary)
	if err != nil {
		return err
	}
	if c := fs.known(b); c != nil {
		fs.forget(c, true)
	}
	return nil
}

func (fs *FS) applyCounters(boundary string, r *reader) error {
	k := new(procfile.Counters)
	c, err := fs.applyTo(boundary, r, k)
	if c == nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counters = k
	return nil
}

// applyTo reads the rest of a record into value, and returns the container
// whose it is; nil with an error, and if the record is damaged.
func (fs *FS) applyTo(boundary string, r *reader, value encoding.BinaryUnmarshaler) (*container, error) {
	if r.err != nil {
		return nil, nil // which Apply tells
	}
	b, err := fs.cgroups.Reopen(boundary)
	if err != nil {
		return nil, err
	}
	if err := value.UnmarshalBinary(r.rest); err != nil {
		return nil, err
	}
	return fs.container(b), nil
}

// Records yields the whole state, for a successor that has just joined.
// Changes go to the journal meanwhile; set it first.
func (fs *FS) Records(yield func(record []byte)) {
	fs.mu.Lock()
	containers := make([]*container, 0, len(fs.containers))
	for _, c := range fs.containers {
		containers = append(containers, c)
	}
	inodes := make([]*inode, 0, len(fs.inodes))
	for _, i := range fs.inodes {
		inodes = append(inodes, i)
	}
	fs.mu.Unlock()
	for _, c := range containers {
		c.mu.Lock()
		if c.counters != nil {
			if r, err := c.appendCounters(nil); err == nil {
				yield(r)
			}
		}
		if c.load != nil {
			yield(c.appendLoad(nil))
		}
		c.mu.Unlock()
	}
	for _, i := range inodes {
		i.mu.Lock()
		switch {
		case i.owner != nil:
			yield(recordInode(kindOwner, i.id, i.owner))
		case i.hint != nil:
			yield(recordInode(kindHint, i.id, i.hint))
		}
		i.mu.Unlock()
	}
}

// reader takes a record apart; the first fault stays in err.
type reader struct {
	rest []byte
	err  error
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.rest, r.err = nil, errors.New("it is cut off")
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *reader) string() string {
	n := r.uvarint()
	if n > uint64(len(r.rest)) {
		r.rest, r.err = nil, errors.New("it is cut off")
		return ""
	}
	s := string(r.rest[:n])
	r.rest = r.rest[n:]
	return s
}
