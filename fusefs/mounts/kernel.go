// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package mounts

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// kernelDir holds the procfs and the sysfs that the links of the kernel's
// tree lead to. They are mounts of their own, with podproc as their source:
// so a container that has bound one of their files can be told from one whose
// user has bound the node's /proc/meminfo.
const kernelDir = ".kernel"

// kernelTypes are the file systems in kernelDir, by the directory that they
// have there and in the node's root.
var kernelTypes = map[string]string{"proc": "proc", "sys": "sysfs"}

// kernelPath returns the path of the kernel's own file, without the leading
// slash, that m shows if it was bound through the tree of Kernel.
func (m Info) kernelPath(source string) (string, bool) {
	if m.Source != source || m.Root == "/" {
		return "", false
	}
	for dir, typ := range kernelTypes {
		if m.Type == typ {
			return dir + m.Root, true
		}
	}
	return "", false
}

// Kernel mounts what lies under the file system and shows while it is away: a
// read-only tree with a link to the kernel's own file for each of the paths,
// which are relative to the node's root. A container that starts meanwhile
// gets the file that it would have without podproc, and no container runtime
// can make a directory where a file is expected. Dead podproc mounts at the
// directory are detached first. A tree that is there already and has the
// links stays.
func (p Point) Kernel(paths []string) error {
	source, err := p.source()
	if err != nil {
		return err
	}
	return inside(p.Namespace, func(t *thread) error {
		dir, err := t.prepare(p.Dir)
		if err != nil {
			return err
		}
		old, err := t.kernelTree(dir)
		if err != nil {
			return err
		}
		if old {
			if complete(dir, paths) {
				return nil
			}
			if err := unix.Unmount(dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
				return fmt.Errorf("detach old tree of links at %s: %w", dir, err)
			}
		}
		if err := plant(source, dir, paths); err != nil {
			_ = unix.Unmount(dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
			return err
		}
		return nil
	})
}

// Remove detaches everything of podproc's at the directory, also what Kernel
// has made, and removes the directory if it is empty. Containers of pods that
// name a file below it cannot start, or start again, from then on.
func (p Point) Remove() error {
	if err := p.Unmount(); err != nil {
		return err
	}
	return inside(p.Namespace, func(t *thread) error {
		dir, err := resolve(p.Dir)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if old, err := t.kernelTree(dir); err != nil || !old {
			return err
		}
		if err := unix.Unmount(dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			return fmt.Errorf("detach tree of links at %s: %w", dir, err)
		}
		_ = os.Remove(dir)
		return nil
	})
}

// kernelTree tells whether the top mount at dir is of Kernel's making.
func (t *thread) kernelTree(dir string) (bool, error) {
	all, err := t.mounts()
	if err != nil {
		return false, err
	}
	at := stack(all, dir)
	if len(at) == 0 {
		return false, nil
	}
	top := at[len(at)-1]
	return top.Type == "tmpfs" && strings.HasPrefix(top.Source, sourcePrefix), nil
}

// link is where the link for path leads to.
func link(path string) string {
	return strings.Repeat("../", strings.Count(path, "/")) + kernelDir + "/" + path
}

// complete tells whether the tree at dir has all the links.
func complete(dir string, paths []string) bool {
	for _, path := range paths {
		if to, err := os.Readlink(filepath.Join(dir, path)); err != nil || to != link(path) {
			return false
		}
	}
	return true
}

// plant mounts the tree at dir.
func plant(source, dir string, paths []string) error {
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	const options = "size=64k,nr_inodes=256,mode=755"
	if err := unix.Mount(source, dir, "tmpfs", flags, options); err != nil {
		return fmt.Errorf("mount tree of links at %s: %w", dir, err)
	}
	for name, typ := range kernelTypes {
		at := filepath.Join(dir, kernelDir, name)
		if err := os.MkdirAll(at, 0o755); err != nil {
			return fmt.Errorf("make tree of links: %w", err)
		}
		if err := unix.Mount(source, at, typ, flags|unix.MS_RDONLY, ""); err != nil {
			return fmt.Errorf("mount %s at %s: %w", typ, at, err)
		}
	}
	for _, path := range paths {
		at := filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			return fmt.Errorf("make tree of links: %w", err)
		}
		if err := os.Symlink(link(path), at); err != nil {
			return fmt.Errorf("make tree of links: %w", err)
		}
	}
	if err := unix.Mount(source, dir, "tmpfs", flags|unix.MS_RDONLY|unix.MS_REMOUNT, options); err != nil {
		return fmt.Errorf("make tree of links read-only: %w", err)
	}
	return nil
}
