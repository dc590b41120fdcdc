// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package fusefs

import (
	"os/exec"
	"testing"
	"time"

	"github.com/podproc/podproc/fusefs/cgroup"
	"github.com/podproc/podproc/fusefs/mounts"
)

// Inodes that nobody has a use for are forgotten, by the kernel first and then
// here; what is mounted is not.
func TestCollectInodes(t *testing.T) {
	fs, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := Mount(fs, mounts.Point{Dir: t.TempDir() + "/fs"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Unmount()
	if out, err := exec.Command("sh", "-c", `for i in $(seq 50); do cat "$0/proc/meminfo" || exit; done`, s.At.Dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	// 50 readers on the node, in no container: nobody owns what they read.
	if n := fs.Inodes(); n != 50 {
		t.Fatalf("%d inodes after 50 reads, want 50", n)
	}
	fs.collectInodes(s.Conn.Drop)
	if n := fs.Inodes(); n != 50 {
		t.Fatalf("%d inodes of 50 are left at once: a container that is about to start could not be", n)
	}
	// As after a handler that ends when the kernel has forgotten its inode.
	meminfo := fs.table.byPath["proc/meminfo"]
	fs.inode(meminfo, meminfo.id()|numberMask)
	fs.mu.Lock()
	for _, i := range fs.inodes {
		i.mu.Lock()
		i.used = -time.Hour // a VM is younger than unclaimedAge
		i.mu.Unlock()
	}
	fs.mu.Unlock()
	fs.collectInodes(s.Conn.Drop)
	deadline := time.Now().Add(time.Minute)
	for fs.Inodes() > 0 {
		if time.Now().After(deadline) {
			t.Fatalf("%d inodes are left of 50 that nobody uses", fs.Inodes())
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// A reader that comes while its container is about to be forgotten keeps it.
// (Of 10,000 containers that came and went on a busy machine, a few got EIO.)
func TestForgetSparesWhatIsUsed(t *testing.T) {
	fs, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	var b cgroup.Boundary
	c := newContainer(b, nil)
	c.used.Store(int64(sinceBoot()))
	fs.containers[b] = c
	fs.forget(c, false)
	if fs.known(b) != c || c.gone.Load() {
		t.Error("a container was forgotten right after it was asked for")
	}
	c.used.Store(-int64(time.Hour))
	fs.forget(c, false)
	if fs.known(b) != nil {
		t.Error("a container that nobody asked for was not forgotten")
	}
}

// What a container has looked up stays its own, however long it waits with its
// first read: no other one that comes by may own it instead.
func TestLookedUpStays(t *testing.T) {
	fs, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer fs.Close()
	var b cgroup.Boundary
	c := newContainer(b, nil)
	fs.containers[b] = c
	meminfo := fs.table.byPath["proc/meminfo"]
	i := fs.inode(meminfo, meminfo.id()|1)
	i.seenBy(c)
	i.used = -time.Hour
	c.used.Store(-int64(time.Hour))
	fs.forget(c, false)
	if fs.known(b) != c || i.hint != c {
		t.Error("a container was forgotten that has looked up a file")
	}
	if i.unclaimedSince(0, false) || !i.unclaimedSince(0, true) {
		t.Error("what a container has looked up is to stay, but in a crowd")
	}
	fs.forget(c, true)
	if fs.known(b) != nil || i.hint != nil || c.inodes.Load() != 0 {
		t.Errorf("a container that is gone has left %d inodes, looked up by %v", c.inodes.Load(), i.hint)
	}
}
