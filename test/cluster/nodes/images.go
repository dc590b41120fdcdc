// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package nodes

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/podproc/podproc/test/image"
	"github.com/podproc/podproc/test/vm/machine"
)

// Images that pods of the tests can have, beside podproc's own.
const (
	Tools = "local.test/tools:1" // free, top, vmstat, getconf, a shell; Python with psutil, Node, Java
	pause = "local.test/pause:1"
)

// toolPackages are the Debian packages in Tools.
var toolPackages = []string{
	"bash", "dash", "ncurses-base", "coreutils", "grep", "mawk", "sed", "libc-bin", "procps", "sysstat", "util-linux", "busybox-static",
	"python3", "python3-psutil", "nodejs", "openjdk-17-jre-headless",
}

// images builds what pods are made of: the archive of podproc, and the base,
// which is kept in the cache, as only a new version of a Debian package changes it.
func images(ctx context.Context, root, cache string) (own string, base []string, err error) {
	own = filepath.Join(cache, "podproc.tar")
	if err := image.Build(ctx, root, own); err != nil {
		return "", nil, err
	}
	tools, err := toolImage(ctx, cache)
	if err != nil {
		return "", nil, fmt.Errorf("image of tools: %w", err)
	}
	holder, err := pauseImage(ctx, root, cache)
	if err != nil {
		return "", nil, fmt.Errorf("image of pause: %w", err)
	}
	return own, []string{holder, tools}, nil
}

func toolImage(ctx context.Context, cache string) (string, error) {
	installed, err := exec.CommandContext(ctx, "dpkg-query", "-W").Output()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(append(installed, strings.Join(toolPackages, " ")...))
	file := filepath.Join(cache, fmt.Sprintf("tools-%x.tar", sum[:8]))
	if _, err := os.Stat(file); err == nil {
		return file, nil
	}
	dir, err := os.MkdirTemp("", "podproc-tools-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // it becomes the container's /
		return "", err
	}
	if err := machine.Rootfs(ctx, dir, toolPackages); err != nil {
		return "", err
	}
	return file, kept(file, func(part string) error { return image.Plain(ctx, dir, Tools, part) })
}

// kept makes a file of the cache whole or not at all, and removes its
// predecessors: those with the same name up to the dash.
func kept(file string, write func(part string) error) error {
	prefix, _, _ := strings.Cut(filepath.Base(file), "-")
	old, err := filepath.Glob(filepath.Join(filepath.Dir(file), prefix+"-*"))
	if err != nil {
		return err
	}
	for _, name := range old {
		if err := os.Remove(name); err != nil {
			return err
		}
	}
	if err := write(file + ".part"); err != nil {
		return err
	}
	return os.Rename(file+".part", file)
}

func pauseImage(ctx context.Context, root, cache string) (string, error) {
	dir, err := os.MkdirTemp("", "podproc-pause-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	if err := compile(ctx, root, "./test/cluster/nodes/pause", filepath.Join(dir, "pause")); err != nil {
		return "", err
	}
	file := filepath.Join(cache, "pause.tar")
	return file, image.Plain(ctx, dir, pause, file, `ENTRYPOINT ["/pause"]`)
}

// compile builds a static program of this repository.
func compile(ctx context.Context, root, pkg, out string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", out, pkg)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w: %s", pkg, err, text)
	}
	return nil
}
