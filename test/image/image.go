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

// Archive builds the image of one architecture from the binaries that Compile
// left in dir, and writes it to file, as `docker save` and `ctr images import`
// know it.
func Archive(ctx context.Context, root, dir, version, arch, file string) error {
	return archive(ctx, dir, Repository+":"+version, file,
		"--platform=linux/"+arch, "--build-arg=VERSION="+version, "--file="+filepath.Join(root, "deploy", "Dockerfile"))
}

// Plain makes an image of what is in dir and further lines of a Dockerfile.
func Plain(ctx context.Context, dir, name, file string, lines ...string) error {
	dockerfile, err := os.CreateTemp("", "Dockerfile-")
	if err != nil {
		return err
	}
	defer os.Remove(dockerfile.Name())
	defer dockerfile.Close()
	if _, err := dockerfile.WriteString("FROM scratch\nCOPY . /\n" + strings.Join(lines, "\n")); err != nil {
		return err
	}
	return archive(ctx, dir, name, file, "--file="+dockerfile.Name())
}

// archive runs buildah. Nothing is pulled, nothing is run, and nothing is left:
// its storage is a temporary directory.
func archive(ctx context.Context, dir, name, file string, args ...string) error {
	storage, err := os.MkdirTemp("", "podproc-image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(storage)
	if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err // buildah adds to an archive that is there
	}
	// --timestamp 0: of the files, and the image's own date.
	build := append([]string{"build", "--isolation=chroot", "--timestamp=0", "--tag=" + name}, args...)
	for _, step := range [][]string{append(build, dir), {"push", name, "docker-archive:" + file + ":" + name}} {
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
