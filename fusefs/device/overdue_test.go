// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package device_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/podproc/podproc/fusefs/device"
)

// ignorant is a late file system that knows nothing of what is in the file.
type ignorant struct {
	*oneFile
	asked chan bool
}

func (i *ignorant) Read(<-chan struct{}, *fuse.ReadIn, []byte) (fuse.ReadResult, fuse.Status) {
	select {
	case i.asked <- true:
	default:
	}
	return nil, fuse.EAGAIN
}

// A slow read is better than none, where nothing is known yet; but it ends.
func TestNothingKnownAtTheDeadline(t *testing.T) {
	late := &ignorant{newFile("fresh\n", nil), make(chan bool, 1)}
	hang := make(chan bool)
	_, dir := mount(t, device.Config{
		FS:   newFile("fresh\n", func() { <-hang }),
		Late: late,
		// Ten times this are enough for a test that is held up.
		Deadline: 500 * time.Millisecond,
	})
	go func() {
		<-late.asked // the deadline has passed
		hang <- true
	}()
	if got, err := cat(dir + "/f"); err != nil || got != "fresh\n" {
		t.Errorf("read %q, %v; want the answer that came late", got, err)
	}
}

func TestNothingKnownAtAll(t *testing.T) {
	hang := make(chan bool)
	_, dir := mount(t, device.Config{
		FS:       newFile("fresh\n", func() { <-hang }),
		Late:     &ignorant{newFile("fresh\n", nil), make(chan bool, 1)},
		Deadline: 20 * time.Millisecond,
	})
	defer close(hang)
	if got, err := cat(dir + "/f"); err == nil || !strings.Contains(got, "Input/output error") {
		t.Errorf("read %q, %v; want EIO in the end", got, err)
	}
}

// counter is a file system that counts the LOOKUPs of its file.
type counter struct {
	*oneFile
	lookups *atomic.Int64
	wait    func() // called by each LOOKUP
}

func (c counter) Lookup(cancel <-chan struct{}, in *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	if c.wait != nil {
		c.wait()
	}
	c.lookups.Add(1)
	return c.oneFile.Lookup(cancel, in, name, out)
}

func (c counter) Forget(_, lookups uint64) { c.lookups.Add(-int64(lookups)) }

// Of a LOOKUP that is answered late, and then once more, the kernel counts
// one. (On a machine that was starved, inodes were never forgotten.)
func TestLookupTwice(t *testing.T) {
	var lookups atomic.Int64
	hang, done := make(chan bool), make(chan bool)
	fs := counter{newFile("text\n", nil), &lookups, nil}
	slow := fs
	slow.wait = func() { <-hang }
	c, dir := mount(t, device.Config{FS: slow, Late: fs, Deadline: 20 * time.Millisecond})
	if got, err := cat(dir + "/f"); err != nil || got != "text\n" {
		t.Fatalf("read %q, %v", got, err)
	}
	if n := lookups.Load(); n != 1 {
		t.Fatalf("%d LOOKUPs are counted before the slow answer, want 1", n)
	}
	before := c.Served()
	close(hang)
	go func() {
		for c.Served() == before || lookups.Load() != 1 {
			time.Sleep(time.Millisecond)
		}
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(patience):
		t.Errorf("%d LOOKUPs are counted, want the one that the kernel knows", lookups.Load())
	}
}
