// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// kept is how many images the cache holds when one is added: those of the
// rings of tests, and some for who goes back and forth between two versions.
const kept = 4

// lockCache has one process at a time look into the cache, build and prune.
func lockCache(ctx context.Context, cache string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(cache, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			f.Close()
			return nil, fmt.Errorf("lock cache of images: %w", err)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("wait for who builds another image: %w", context.Cause(ctx))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// hold keeps the disks from being pruned until close, also when this process
// is killed, and notes that they were used.
func (d *disks) hold() error {
	f, err := os.Open(d.root)
	if err != nil {
		return err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_SH); err != nil {
		f.Close()
		return fmt.Errorf("lock image: %w", err)
	}
	d.held = f
	now := time.Now()
	return os.Chtimes(d.root, now, now)
}

func exist(files ...string) bool {
	for _, f := range files {
		if _, err := os.Stat(f); err != nil {
			return false
		}
	}
	return true
}

func (d *disks) close() { d.held.Close() }

// prune makes room for one image more: those that were used last stay, and
// those that a machine boots from now. What a build has left that was killed
// goes after a day. The cache is locked.
func prune(cache string) error {
	entries, err := os.ReadDir(cache)
	if err != nil {
		return err
	}
	used := make(map[string]time.Time) // by the name of the image
	for _, e := range entries {
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		name := e.Name()
		switch ext := filepath.Ext(name); {
		case ext == ".img":
			used[strings.TrimSuffix(name, ext)] = info.ModTime()
		case ext != ".initrd" && strings.Contains(name, "-") && time.Since(info.ModTime()) > 24*time.Hour:
			if err := os.RemoveAll(filepath.Join(cache, name)); err != nil {
				return err
			}
		}
	}
	names := make([]string, 0, len(used))
	for name := range used {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return used[b].Compare(used[a]) })
	for _, name := range names[min(kept-1, len(names)):] {
		if err := remove(filepath.Join(cache, name)); err != nil {
			return err
		}
	}
	return nil
}

// remove removes an image that nobody holds.
func remove(path string) error {
	f, err := os.Open(path + ".img")
	if err != nil {
		return err
	}
	defer f.Close()
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("lock image: %w", err)
	}
	if err := os.Remove(path + ".img"); err != nil {
		return err
	}
	if err := os.Remove(path + ".initrd"); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
