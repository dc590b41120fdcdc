// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// etc is what a program expects of a Debian machine beside its own files.
var etc = map[string]string{
	"passwd":        "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\nwww-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
	"group":         "root:x:0:\ndaemon:x:1:\ntty:x:5:\nwww-data:x:33:\nnogroup:x:65534:\n",
	"hosts":         "127.0.0.1 localhost vm\n::1 localhost\n",
	"hostname":      "vm\n",
	"nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}

// Rootfs lays out in root what Debian packages need to run, with what they
// depend on: the root of a container.
func Rootfs(ctx context.Context, root string, packages []string) error {
	host, err := readDebian(ctx)
	if err != nil {
		return err
	}
	all, err := host.closure(packages)
	if err != nil {
		return err
	}
	return Image{}.fill(ctx, root, all, nil, "")
}

// fill lays out the system disk in root.
func (im Image) fill(ctx context.Context, root string, packages, modules []string, init string) error {
	for _, dir := range []string{"usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "etc", "proc", "sys", "dev", "run", "tmp", "root", "payload", "mnt", "var/tmp", "var/log", "var/lib"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return err
		}
	}
	for _, dir := range []string{"bin", "sbin", "lib", "lib64"} {
		if err := os.Symlink("usr/"+dir, filepath.Join(root, dir)); err != nil {
			return err
		}
	}
	for _, dir := range []string{"tmp", "var/tmp"} {
		if err := os.Chmod(filepath.Join(root, dir), 0o777|fs.ModeSticky); err != nil {
			return err
		}
	}
	for name, text := range etc {
		if err := os.WriteFile(filepath.Join(root, "etc", name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	files := map[string]string{"/usr/sbin/init": init, "/etc/os-release": "/usr/lib/os-release"}
	for i, m := range modules {
		files[moduleFile(i, m)] = m
	}
	if len(packages) > 0 {
		list, err := packageFiles(ctx, packages)
		if err != nil {
			return err
		}
		for _, path := range list {
			files[path] = path
		}
	}
	for guest, host := range files {
		if err := put(root, guest, host); err != nil {
			return err
		}
	}
	for guest, host := range im.Files {
		if err := putTree(root, guest, host); err != nil {
			return err
		}
	}
	_, err := output(ctx, "", "ldconfig", "-r", root)
	return err
}

func putTree(root, guest, host string) error {
	return filepath.WalkDir(host, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return put(root, filepath.Join(guest, strings.TrimPrefix(path, host)), path)
	})
}

// put copies one file, symlink or empty directory. A file that a package lists
// and that is not there any more is passed over.
func put(root, guest, host string) error {
	info, err := os.Lstat(host)
	if os.IsNotExist(err) {
		return nil
	} else if err != nil {
		return err
	}
	dst := filepath.Join(root, usrMerged(guest))
	existing, err := os.Lstat(dst)
	if info.IsDir() || err == nil && existing.IsDir() { // of /bin -> usr/bin only the directory
		return os.MkdirAll(dst, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(dst), 0o755); err != nil {
		return err
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		target, err := os.Readlink(host)
		if err != nil {
			return err
		}
		_ = os.Remove(dst)
		return os.Symlink(target, dst)
	}
	return copyFile(dst, host, info)
}

// usrMerged turns /bin/ls into /usr/bin/ls: older packages list the former.
func usrMerged(path string) string {
	for _, dir := range []string{"/bin", "/sbin", "/lib", "/lib64"} {
		if path == dir || strings.HasPrefix(path, dir+"/") {
			return "/usr" + path
		}
	}
	return path
}
