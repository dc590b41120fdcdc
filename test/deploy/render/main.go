// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

// Render writes the manifests of deploy/ anew from deploy/chart.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/podproc/podproc/test/deploy"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "render:", err)
		os.Exit(1)
	}
}

func run() error {
	root, err := deploy.Root()
	if err != nil {
		return err
	}
	helm, err := deploy.Helm(root)
	if err != nil {
		return err
	}
	for _, m := range deploy.Manifests {
		text, err := m.Render(root, helm)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(root, "deploy", m.File), text, 0o644); err != nil {
			return err
		}
		fmt.Println("deploy/" + m.File)
	}
	return nil
}
