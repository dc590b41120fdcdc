// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

// Package deploy renders what deploy/ checks in from the chart, and its tests
// hold chart, manifests, policies and image to what they promise.
package deploy

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
)

// A Manifest is a file of deploy/ that is rendered from deploy/chart.
type Manifest struct {
	File string   // below deploy/
	Set  []string // values, as helm's --set takes them
}

// Manifests are all of them.
var Manifests = []Manifest{
	{"podproc.yaml", []string{"namespace.create=true"}},
	{"podproc-cert-manager.yaml", []string{"namespace.create=true", "certificates.source=cert-manager"}},
}

const header = `# Copyright The podproc Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Rendered from deploy/chart by "make manifests". Do not edit.
`

// Root is the repository's directory, found from the current one.
func Root() (string, error) {
	dir, err := os.Getwd()
	for ; err == nil; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "deploy", "chart", "Chart.yaml")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			err = errors.New("not inside podproc's repository")
		}
	}
	return "", err
}

// Helm builds Helm from its Go module into bin/ and returns its path.
func Helm(root string) (string, error) {
	helm := filepath.Join(root, "bin", "helm")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", helm, "helm.sh/helm/v4/cmd/helm")
	cmd.Dir = filepath.Join(root, "test", "deploy", "helm")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build helm: %w: %s", err, out)
	}
	return helm, nil
}

// source is the comment that Helm writes before each document.
var source = regexp.MustCompile(`(?m)^# Source: .*\n`)

// blank is what the conditions of templates leave behind.
var blank = regexp.MustCompile(`\n{2,}`)

// Render returns what deploy/ should hold.
func (m Manifest) Render(root, helm string) ([]byte, error) {
	args := []string{"template", "podproc", filepath.Join(root, "deploy", "chart"), "--namespace=podproc"}
	for _, s := range m.Set {
		args = append(args, "--set="+s)
	}
	var stderr bytes.Buffer
	cmd := exec.Command(helm, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("helm template: %w: %s", err, &stderr)
	}
	out = source.ReplaceAll(out, nil)
	out = blank.ReplaceAll(out, []byte("\n"))
	return append([]byte(header), out...), nil
}
