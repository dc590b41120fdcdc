// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package device_test

import (
	"strings"
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
