// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

// Package layers holds the repository to its own rules: who imports whom, what
// the privileged process links, what lies where, and how files begin.
package layers

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	root   = "../.."
	module = "github.com/podproc/podproc/"
)

// rule says which of our own packages those below prefix may import: those
// below one of imports.
type rule struct {
	prefix  string
	imports []string
}

// rules: the first that fits a package holds for it.
var rules = []rule{
	{"fusefs/view", nil},
	{"fusefs/procfile", []string{"fusefs/view"}},
	{"fusefs/cgroup", []string{"fusefs/view"}},
	{"fusefs/device", nil},
	{"fusefs/mounts", nil},
	{"fusefs/takeover", []string{"fusefs/device", "fusefs/mounts", "fusefs/procfile", "fusefs/cgroup", "fusefs/view"}},
	{"fusefs", []string{"fusefs"}},
	{"webhook/inject", nil},
	{"webhook", []string{"webhook"}},
	{"certs", []string{"certs"}},
	{"cmd/podproc-node", []string{"fusefs", "cmd/podproc-node", "cmd/internal"}},
	{"cmd/podproc-webhook", []string{"webhook", "certs", "cmd/podproc-webhook", "cmd/internal"}},
	{"cmd/podproc", []string{"fusefs", "webhook/inject", "cmd/podproc", "cmd/internal"}},
	{"deploy", []string{"deploy"}},
	{"test", []string{""}},
	{"", nil},
}

// pure packages do no I/O: they import nothing below doesIO.
var (
	pure   = []string{"fusefs/view", "fusefs/procfile", "webhook/inject"}
	doesIO = []string{"os", "io/ioutil", "net", "syscall", "log", "unsafe", "embed", "golang.org/x/sys", "k8s.io/client-go",
		"sigs.k8s.io/controller-runtime", "github.com/hanwen/go-fuse/v2", "github.com/prometheus/client_golang"}
)

// forbidden links: the privileged process stays small.
var forbidden = map[string][]string{
	"cmd/podproc-node": {"k8s.io/", "sigs.k8s.io/", "github.com/cert-manager/"},
}

// topLevel are the entries that the repository may have.
var topLevel = []string{
	".ci", ".gitignore", "LICENSE", "Makefile", "README.md", "certs", "cmd", "deploy", "fusefs",
	"go.mod", "go.sum", "test", "webhook",
}

// long files, and why they are not two.
var long = map[string]string{}

const maxLines = 400

type goPackage struct {
	ImportPath    string
	Imports, Deps []string
}

func packages(t *testing.T, args ...string) []goPackage {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-e", "-json=ImportPath,Imports,Deps"}, args...)...)
	cmd.Dir, cmd.Stderr = root, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var list []goPackage
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return list
		} else if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
}

func below(name, prefix string) bool {
	return prefix == "" || name == prefix || strings.HasPrefix(name, strings.TrimSuffix(prefix, "/")+"/")
}

func TestDirectionOfImports(t *testing.T) {
	for _, p := range packages(t, "./...") {
		name := strings.TrimPrefix(p.ImportPath, module)
		r := rules[slices.IndexFunc(rules, func(r rule) bool { return below(name, r.prefix) })]
		for _, imported := range p.Imports {
			own, ok := strings.CutPrefix(imported, module)
			if ok && !slices.ContainsFunc(r.imports, func(prefix string) bool { return below(own, prefix) }) {
				t.Errorf("%s imports %s; of this repository it may import only %q", name, own, r.imports)
			}
		}
	}
}

func TestPurePackagesDoNoIO(t *testing.T) {
	for _, p := range packages(t, "./...") {
		name := strings.TrimPrefix(p.ImportPath, module)
		if !slices.Contains(pure, name) {
			continue
		}
		for _, imported := range p.Imports {
			if slices.ContainsFunc(doesIO, func(prefix string) bool { return below(imported, prefix) }) {
				t.Errorf("%s imports %s, and does no I/O", name, imported)
			}
		}
	}
}

func TestLinks(t *testing.T) {
	for command, prefixes := range forbidden {
		for _, p := range packages(t, "./"+command) {
			for _, dep := range p.Deps {
				if slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(dep, prefix) }) {
					t.Errorf("%s links %s", command, dep)
				}
			}
		}
	}
}

// tracked lists the files that git knows.
func tracked(t *testing.T) []string {
	t.Helper()
	cmd := exec.Command("git", "ls-files", "-z", "--cached")
	cmd.Dir, cmd.Stderr = root, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	files := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
	return slices.DeleteFunc(files, func(name string) bool { // removed, not yet committed
		_, err := os.Lstat(filepath.Join(root, name))
		return err != nil
	})
}

func TestTopLevel(t *testing.T) {
	for _, name := range tracked(t) {
		if top, _, _ := strings.Cut(name, "/"); !slices.Contains(topLevel, top) {
			t.Errorf("%s: %s has no place at the top level", name, top)
		}
	}
}

// TestNames: a file whose name the module's zip may not hold makes the whole
// module unusable. That is why cgroup trees are kept as txtar.
func TestNames(t *testing.T) {
	for _, name := range tracked(t) {
		if strings.ContainsAny(name, ":\\\"'*<>?`|\n") {
			t.Errorf("%q: a module's file names have none of these characters", name)
		}
	}
}

func TestFiles(t *testing.T) {
	header := []string{"Copyright The podproc Authors.", "SPDX-License-Identifier: Apache-2.0"}
	for _, name := range tracked(t) {
		comment := map[string]string{".go": "// ", ".sh": "# "}[filepath.Ext(name)]
		if filepath.Base(name) == "Makefile" || strings.HasPrefix(filepath.Base(name), "Dockerfile") || name == ".ci/run" {
			comment = "# "
		}
		if comment == "" {
			continue
		}
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Error(err)
			continue
		}
		lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
		first := slices.IndexFunc(lines, func(l string) bool { return !strings.HasPrefix(l, "#!") })
		if first < 0 || len(lines) < first+2 || lines[first] != comment+header[0] || lines[first+1] != comment+header[1] {
			t.Errorf("%s does not begin with %q", name, header)
		}
		if len(lines) > maxLines && long[name] == "" {
			t.Errorf("%s has %d lines; split it, or give a reason for more than %d", name, len(lines), maxLines)
		}
	}
	for name := range long {
		if _, err := os.Stat(filepath.Join(root, name)); err != nil {
			t.Errorf("a reason to be long for a file that is not there: %v", err)
		}
	}
}
