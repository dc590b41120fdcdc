// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

// Package image builds podproc's container image from this tree, offline, as
// deploy/Dockerfile says: the same tree gives the same bytes.
package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
)

// Repository is the image's name without its tag, the chart's default.
const Repository = "ghcr.io/podproc/podproc"

// Arches are the architectures that podproc is published for.
var Arches = []string{"amd64", "arm64"}

// binaries are what is in the image.
var binaries = []string{"podproc", "podproc-node", "podproc-webhook"}

// Version is the one version of chart, image and binaries.
func Version(root string) (string, error) {
	chart, err := os.ReadFile(filepath.Join(root, "deploy", "chart", "Chart.yaml"))
	if err != nil {
		return "", err
	}
	m := regexp.MustCompile(`(?m)^appVersion: (\S+)$`).FindSubmatch(chart)
	if m == nil {
		return "", errors.New("no appVersion in deploy/chart/Chart.yaml")
	}
	return string(m[1]), nil
}

// Compile builds the static binaries for the architectures into dir/ARCH.
func Compile(ctx context.Context, root, dir, version string, arches ...string) error {
	for _, arch := range arches {
		out := filepath.Join(dir, arch)
		if err := os.MkdirAll(out, 0o755); err != nil {
			return err
		}
		args := []string{"build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -X main.version=" + version, "-o", out + "/"}
		for _, name := range binaries {
			args = append(args, "./cmd/"+name)
		}
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build for %s: %w: %s", arch, err, out)
		}
	}
	return nil
}

// Archive builds the image of one architecture with buildah, from the binaries
// that Compile left in dir, and writes it to file, as `docker save` and `ctr
// images import` know it. Nothing is pulled, nothing is run, and nothing is
// left: buildah's storage is a temporary directory.
func Archive(ctx context.Context, root, dir, version, arch, file string) error {
	storage, err := os.MkdirTemp("", "podproc-image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(storage)
	name := Repository + ":" + version
	steps := [][]string{
		// --timestamp 0: file times and the image's own date.
		{"build", "--isolation=chroot", "--arch=" + arch, "--timestamp=0", "--build-arg=VERSION=" + version,
			"--tag=" + name, "--file=" + filepath.Join(root, "deploy", "Dockerfile"), dir},
		{"push", name, "docker-archive:" + file + ":" + name},
	}
	if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err // buildah adds to an archive that is there
	}
	for _, step := range steps {
		args := append([]string{"--root=" + storage + "/root", "--runroot=" + storage + "/run", "--storage-driver=vfs"}, step...)
		if out, err := exec.CommandContext(ctx, "buildah", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("buildah %s: %w: %s", step[0], err, bytes.TrimSpace(out))
		}
	}
	return nil
}

// Build compiles and archives for this machine's architecture.
func Build(ctx context.Context, root, file string) error {
	version, err := Version(root)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "podproc-image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := Compile(ctx, root, dir, version, runtime.GOARCH); err != nil {
		return err
	}
	return Archive(ctx, root, dir, version, runtime.GOARCH, file)
}

// File is where Build's image of an architecture usually goes.
func File(root, arch string) string {
	return filepath.Join(root, "bin", strings.ReplaceAll("podproc-ARCH.tar", "ARCH", arch))
}
