// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"bufio"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Image says what is on the VM's system disk. Its zero value is a Debian
// without a single program.
type Image struct {
	// Packages are Debian packages; they and what they depend on are copied
	// from this machine, where they are installed.
	Packages []string
	// Files are further files, directories and symlinks: guest path -> host path.
	Files map[string]string
	// Modules of the kernel, loaded at boot with what they depend on; those
	// that every VM needs come by themselves.
	Modules []string
}

// The disks, the port to the host, randomness; the disk's come before all others.
var (
	diskModules   = []string{"virtio_pci", "virtio_blk"}
	systemModules = []string{"virtio_console", "virtio_rng", "fuse", "overlay"}
)

// disks are the files that QEMU boots from.
type disks struct {
	kernel, initrd, root string
	held                 *os.File // root, locked: see hold
}

// build makes the disks in cache, or finds them there: they are kept under a
// hash of everything that is on them. Close the disks after use.
func (im Image) build(ctx context.Context, cache, init string) (*disks, error) {
	unlock, err := lockCache(ctx, cache)
	if err != nil {
		return nil, err
	}
	defer unlock()
	k, err := fetchKernel(ctx, cache)
	if err != nil {
		return nil, err
	}
	host, err := readDebian(ctx)
	if err != nil {
		return nil, err
	}
	packages, err := host.closure(im.Packages)
	if err != nil {
		return nil, err
	}
	early, err := k.loadOrder(diskModules)
	if err != nil {
		return nil, err
	}
	modules, err := k.loadOrder(append(append(diskModules, systemModules...), im.Modules...))
	if err != nil {
		return nil, err
	}
	key, err := im.key(host, packages, append(modules, k.Image), init)
	if err != nil {
		return nil, err
	}
	d := &disks{kernel: k.Image, initrd: filepath.Join(cache, key+".initrd"), root: filepath.Join(cache, key+".img")}
	if exist(d.initrd, d.root) {
		return d, d.hold()
	}
	if err := prune(cache); err != nil {
		return nil, err
	}
	if err := writeInitrd(d.initrd, early, init); err != nil {
		return nil, fmt.Errorf("build initramfs: %w", err)
	}
	stage, err := os.MkdirTemp(cache, "root-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(stage)
	if err := im.fill(ctx, stage, packages, modules, init); err != nil {
		return nil, fmt.Errorf("build image: %w", err)
	}
	if err := MakeDisk(ctx, d.root, stage, 1<<30); err != nil {
		return nil, err
	}
	return d, d.hold()
}

// key hashes the versions of packages, the time stamps of files and init itself.
func (im Image) key(host *debian, packages, files []string, init string) (string, error) {
	h := sha256.New()
	program, err := os.ReadFile(init)
	if err != nil {
		return "", err
	}
	h.Write(program)
	for _, p := range packages {
		fmt.Fprintln(h, p, host.packages[p].version)
	}
	stat := func(root string) error {
		return filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := e.Info()
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(h, path, info.Size(), info.Mode(), info.ModTime().UnixNano())
			return err
		})
	}
	for _, guest := range slices.Sorted(maps.Keys(im.Files)) {
		fmt.Fprintln(h, guest)
		files = append(files, im.Files[guest])
	}
	for _, path := range files {
		if err := stat(path); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:8]), nil
}

func writeInitrd(path string, modules []string, init string) error {
	return atomically(path, func(f *os.File) error {
		zip, err := gzip.NewWriterLevel(f, gzip.BestSpeed)
		if err != nil {
			return err
		}
		buffer := bufio.NewWriter(zip)
		c := &cpio{w: buffer}
		for _, dir := range []string{"dev", "mnt", "lib", "lib/modules", "lib/modules/boot"} {
			if err := c.dir(dir); err != nil {
				return err
			}
		}
		for i, m := range modules {
			if err := c.file(moduleFile(i, m)[1:], m); err != nil {
				return err
			}
		}
		if err := c.file("init", init); err != nil {
			return err
		}
		if err := c.close(); err != nil {
			return err
		}
		if err := buffer.Flush(); err != nil {
			return err
		}
		return zip.Close()
	})
}

// MakeDisk makes an ext4 disk of what is in dir, with free bytes to spare.
func MakeDisk(ctx context.Context, path, dir string, free int64) error {
	size := free
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		size += info.Size() + 8<<10 // and its inode, its directory entry, its last block
		return nil
	})
	if err != nil {
		return err
	}
	return atomically(path, func(f *os.File) error {
		_, err := output(ctx, "", "mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-E", "root_owner=0:0",
			"-d", dir, f.Name(), fmt.Sprintf("%dk", size>>10))
		return err
	})
}

// atomically writes path by way of a temporary file: a build that is killed, or
// another that runs beside it, leaves no half one.
func atomically(path string, write func(*os.File) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+"-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if err := write(f); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func copyFile(dst, src string, info fs.FileInfo) error {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if e := out.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	if err := os.Chmod(dst, info.Mode()); err != nil {
		return err
	}
	return os.Chtimes(dst, info.ModTime(), info.ModTime()) // compiled Python is checked by it
}

func moduleFile(i int, host string) string {
	return fmt.Sprintf("/lib/modules/boot/%02d-%s.ko", i, strings.TrimSuffix(filepath.Base(host), ".ko"))
}
