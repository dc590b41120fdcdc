// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package fusefs

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/podproc/podproc/fusefs/cgroup"
)

// The kernel keeps an inode that nobody uses until it needs the memory, and
// so would we. So what is no use any more is dropped from the kernel's cache,
// and its FORGET ends it here.
const (
	collectEvery = 10 * time.Second
	// unclaimedAge is how long an inode that no container has read or looked up
	// stays at least. It is much longer than a container takes to start: the kernel
	// does not mount what was dropped.
	unclaimedAge = 10 * time.Minute
	// crowdedAge holds instead while there are more than crowded of them:
	// somebody on the node reads the tree in a loop.
	crowdedAge = 30 * time.Second
	crowded    = 4096
	// readerAge is how long the view of a reader that is in no container, or
	// of a container without mounts, is kept after it was last asked for.
	readerAge = time.Minute
)

// Run forgets what is gone, and samples load averages, until ctx ends. drop is Conn.Drop of the
// connection that is served.
func (fs *FS) Run(ctx context.Context, drop func(parent uint64, name string) error) {
	go fs.sampleLoads(ctx)
	tick := time.NewTicker(collectEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-fs.crowd:
		}
		fs.collectContainers()
		fs.collectInodes(drop)
	}
}

// collectContainers forgets containers whose cgroups are gone, and readers
// that have not read for a while.
func (fs *FS) collectContainers() {
	fs.mu.Lock()
	containers := make([]*container, 0, len(fs.containers))
	for _, c := range fs.containers {
		containers = append(containers, c)
	}
	fs.mu.Unlock()
	for _, c := range containers {
		_, err := fs.cgroups.Reopen(c.name)
		if gone := errors.Is(err, cgroup.ErrGone); gone || c.unused() {
			fs.forget(c, gone)
		}
	}
}

// unused tells whether c owns nothing, has looked nothing up that it may come
// to own, and was not asked for in a while.
func (c *container) unused() bool {
	return c.inodes.Load() == 0 && c.used.Load() < int64(sinceBoot()-readerAge)
}

// forget drops c, if it is gone or unused; a reader may have come since that
// was found. Inodes of a container that is gone find an owner again if somebody
// reads them: it lives on in another cgroup then.
func (fs *FS) forget(c *container, gone bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.containers[c.boundary] != c || !gone && !c.unused() {
		return
	}
	delete(fs.containers, c.boundary)
	for _, i := range fs.inodes {
		if i.drop(c) {
			fs.owned--
		}
	}
	fs.record(recordGone(c)) // before a record of who comes next
	go c.close()
}

// collectInodes drops inodes that have had no owner for long.
func (fs *FS) collectInodes(drop func(parent uint64, name string) error) {
	fs.mu.Lock()
	age, crowd := unclaimedAge, len(fs.inodes)-fs.owned > crowded
	if crowd {
		age = crowdedAge
	}
	old := sinceBoot() - age
	var unclaimed []*inode
	for _, i := range fs.inodes {
		if i.unclaimedSince(old, crowd) {
			unclaimed = append(unclaimed, i)
		}
	}
	fs.mu.Unlock()
	dir := fs.table.byPath[inodeDir].id()
	for _, i := range unclaimed {
		err := drop(dir, i.node.inodeName(i.id&numberMask))
		switch {
		case errors.Is(err, os.ErrNotExist):
			fs.lose(i, old, crowd)
		case err != nil:
			fs.log.Debug("inode stays in the kernel's cache", "error", err)
			return
		}
	}
}

// lose ends an inode of which no FORGET may come any more: a handler that took
// very long has found it again when the kernel had forgotten it. If it is in
// use all the same it is made anew at the next request.
func (fs *FS) lose(i *inode, old time.Duration, crowd bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.inodes[i.id] == i && i.unclaimedSince(old, crowd) {
		fs.remove(i)
	}
}
