// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

// Build writes bin/podproc-ARCH.tar, podproc's image for each architecture, as
// `docker load` and `ctr images import` take it.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/podproc/podproc/test/deploy"
	"github.com/podproc/podproc/test/image"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	root, err := deploy.Root()
	if err != nil {
		return err
	}
	version, err := image.Version(root)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "podproc-image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := image.Compile(ctx, root, dir, version, image.Arches...); err != nil {
		return err
	}
	for _, arch := range image.Arches {
		file := image.File(root, arch)
		if err := image.Archive(ctx, root, dir, version, arch, file); err != nil {
			return err
		}
		fmt.Println(file)
	}
	return nil
}
