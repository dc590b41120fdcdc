// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// kernel is Debian's kernel, unpacked.
type kernel struct {
	Image   string // vmlinuz
	modules map[string]string
}

// fetchKernel unpacks the package that linux-image-cloud-amd64 depends on into
// dir, unless it is there already.
func fetchKernel(ctx context.Context, dir string) (*kernel, error) {
	unpacked := filepath.Join(dir, "kernel")
	if _, err := os.Stat(unpacked); errors.Is(err, fs.ErrNotExist) {
		if err := downloadKernel(ctx, dir, unpacked); err != nil {
			return nil, fmt.Errorf("fetch Debian's kernel: %w", err)
		}
	}
	images, err := filepath.Glob(filepath.Join(unpacked, "boot", "vmlinuz-*"))
	if err != nil || len(images) != 1 {
		return nil, fmt.Errorf("%d kernels in %s; remove it and try again", len(images), unpacked)
	}
	k := &kernel{Image: images[0], modules: make(map[string]string)}
	err = filepath.WalkDir(filepath.Join(unpacked, "lib", "modules"), func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".ko") {
			k.modules[moduleName(path)] = path
		}
		return err
	})
	return k, err
}

func downloadKernel(ctx context.Context, dir, unpacked string) error {
	tmp, err := os.MkdirTemp(dir, "kernel-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	var name string
	// Package lists may be missing or too old, apt busy by itself, and a
	// connection lost.
	for _, pause := range []time.Duration{0, 0, 20 * time.Second, time.Minute, 2 * time.Minute} {
		time.Sleep(pause)
		if name, err = kernelPackage(ctx); err == nil {
			_, err = output(ctx, tmp, "apt-get", "download", "-qq", "-o", "Acquire::Retries=5", name)
		}
		if err == nil {
			break
		}
		if _, updated := output(ctx, "", "apt-get", "update", "-qq", "-o", "Acquire::Retries=5"); updated != nil {
			err = errors.Join(err, updated)
		}
	}
	if err != nil {
		return err
	}
	packages, err := filepath.Glob(filepath.Join(tmp, "*.deb"))
	if err != nil || len(packages) != 1 {
		return fmt.Errorf("apt-get download %s left %d packages", name, len(packages))
	}
	if _, err := output(ctx, "", "dpkg-deb", "-x", packages[0], filepath.Join(tmp, "k")); err != nil {
		return err
	}
	return os.Rename(filepath.Join(tmp, "k"), unpacked)
}

// kernelPackage names the newest kernel, as its meta package does.
func kernelPackage(ctx context.Context) (string, error) {
	out, err := output(ctx, "", "apt-cache", "depends", "linux-image-cloud-amd64")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(out) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "Depends: "); ok {
			return name, nil
		}
	}
	return "", errors.New("apt knows no linux-image-cloud-amd64")
}

// loadOrder returns the files of the named modules, what each depends on before
// it. A name without a file is built into the kernel.
func (k *kernel) loadOrder(names []string) ([]string, error) {
	var files []string
	seen := make(map[string]bool)
	var add func(name string) error
	add = func(name string) error {
		file, ok := k.modules[name]
		if !ok || seen[name] {
			return nil
		}
		seen[name] = true
		depends, err := moduleDepends(file)
		if err != nil {
			return err
		}
		for _, d := range depends {
			if err := add(d); err != nil {
				return err
			}
		}
		files = append(files, file)
		return nil
	}
	for _, name := range names {
		if err := add(name); err != nil {
			return nil, err
		}
	}
	return files, nil
}

func moduleName(path string) string {
	return strings.ReplaceAll(strings.TrimSuffix(filepath.Base(path), ".ko"), "-", "_")
}

// moduleDepends reads "depends=a,b" from the module's own .modinfo.
func moduleDepends(file string) ([]string, error) {
	f, err := elf.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	section := f.Section(".modinfo")
	if section == nil {
		return nil, fmt.Errorf("%s: no .modinfo", file)
	}
	info, err := section.Data()
	if err != nil {
		return nil, err
	}
	for entry := range bytes.SplitSeq(info, []byte{0}) {
		if list, ok := bytes.CutPrefix(entry, []byte("depends=")); ok && len(list) > 0 {
			return strings.Split(strings.ReplaceAll(string(list), "-", "_"), ","), nil
		}
	}
	return nil, nil
}

// output runs a command and returns what it printed; its error says all it said.
func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, stderr.String())
	}
	return stdout.String(), nil
}
