// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestPrune: what was used last stays, and what is in use; so does what is no
// image.
func TestPrune(t *testing.T) {
	cache := t.TempDir()
	file := func(name string, age time.Duration) string {
		path := filepath.Join(cache, name)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		when := time.Now().Add(-age)
		if err := os.Chtimes(path, when, when); err != nil {
			t.Fatal(err)
		}
		return path
	}
	var images []*disks
	for i := range 7 { // 0 is the newest
		key := fmt.Sprintf("%016x", 0xabc-i)
		images = append(images, &disks{
			root:   file(key+".img", time.Duration(i+1)*time.Hour),
			initrd: file(key+".initrd", 48*time.Hour),
		})
	}
	file("lock", 48*time.Hour)
	file("0000000000000001.img-123", 48*time.Hour)
	file("0000000000000001.img-456", time.Minute)
	if err := os.Mkdir(filepath.Join(cache, "kernel"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(cache, "root-1", "usr"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(filepath.Join(cache, "root-1"), time.Time{}, time.Now().Add(-48*time.Hour)); err != nil {
		t.Fatal(err)
	}
	// Image 5 is in use by somebody whose touch of it was long ago; image 6
	// has just been used.
	if err := images[5].hold(); err != nil {
		t.Fatal(err)
	}
	defer images[5].close()
	old := time.Now().Add(-30 * time.Hour)
	if err := os.Chtimes(images[5].root, old, old); err != nil {
		t.Fatal(err)
	}
	if err := images[6].hold(); err != nil {
		t.Fatal(err)
	}
	images[6].close()

	if err := prune(cache); err != nil {
		t.Fatal(err)
	}
	var got []int
	for i, d := range images {
		root, initrd := exist(d.root), exist(d.initrd)
		if root != initrd {
			t.Errorf("of image %d half is left", i)
		}
		if root {
			got = append(got, i)
		}
	}
	if diff := cmp.Diff([]int{0, 1, 5, 6}, got); diff != "" {
		t.Errorf("images left (-want +got):\n%s", diff)
	}
	for name, want := range map[string]bool{"lock": true, "kernel": true, "root-1": false, "0000000000000001.img-123": false, "0000000000000001.img-456": true} {
		if exist(filepath.Join(cache, name)) != want {
			t.Errorf("%s is left: %v, want %v", name, !want, want)
		}
	}
}

// TestLockCache: one at a time, and nobody waits for longer than he wants to.
func TestLockCache(t *testing.T) {
	cache := t.TempDir()
	unlock, err := lockCache(t.Context(), cache)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := lockCache(ctx, cache); err == nil {
		t.Fatal("two have locked the cache")
	}
	unlock()
	if unlock, err = lockCache(t.Context(), cache); err != nil {
		t.Fatal(err)
	}
	unlock()
}
