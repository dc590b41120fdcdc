// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

// Package variant builds versions of podproc-node that are not there yet, for
// tests of what happens when one follows the other.
package variant

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Next is newer, and has a file more: proc/version. Options is newer, and
// mounts with other FUSE options.
const (
	Next    = "podproc-node-next"
	Options = "podproc-node-options"
)

// changes: in file, from becomes to.
var changes = map[string]struct{ file, from, to string }{
	Next: {
		"fusefs/node.go",
		"\t{2, \"proc\", nil},\n",
		"\t{2, \"proc\", nil},\n\t{63, \"proc/version\", &procfile.File{Path: \"proc/version\"}},\n",
	},
	Options: {"fusefs/device/device.go", "maxWrite = 64 << 10", "maxWrite = 128 << 10"},
}

// All are the names of all variants.
var All = []string{Next, Options}

// Build builds one from the module at root; the program is dir/name.
func Build(ctx context.Context, root, name, dir string) error {
	change := changes[name]
	path := filepath.Join(root, change.file)
	source, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	text := strings.Replace(string(source), change.from, change.to, 1)
	if text == string(source) {
		return fmt.Errorf("build %s: %s has no %q", name, path, change.from)
	}
	work, err := os.MkdirTemp("", name)
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	changed, overlay := filepath.Join(work, "changed.go"), filepath.Join(work, "overlay.json")
	if err := os.WriteFile(changed, []byte(text), 0o644); err != nil {
		return err
	}
	list, err := json.Marshal(map[string]map[string]string{"Replace": {path: changed}})
	if err != nil {
		return err
	}
	if err := os.WriteFile(overlay, list, 0o644); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-overlay", overlay, "-ldflags", "-s -w -X main.version=v99.0.0", "-o", filepath.Join(dir, name), "./cmd/podproc-node")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w: %s", name, err, out)
	}
	return nil
}
