// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/podproc/podproc/test/image"
)

var machines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

// TestImage builds the image twice, from two builds of the binaries, and looks
// inside. The long form builds that of each architecture: the webhook's packages
// for another one may take minutes.
func TestImage(t *testing.T) {
	arches := []string{runtime.GOARCH}
	if os.Getenv("PODPROC_SOAK") == "1" {
		arches = image.Arches
	}
	root, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	version, err := image.Version(root)
	if err != nil {
		t.Fatal(err)
	}
	var first, second = t.TempDir(), t.TempDir()
	for _, dir := range []string{first, second} {
		if err := image.Compile(t.Context(), root, dir, version, arches...); err != nil {
			t.Fatal(err)
		}
	}
	for _, arch := range arches {
		one, two := archive(t, root, first, version, arch), archive(t, root, second, version, arch)
		if sha256.Sum256(one) != sha256.Sum256(two) {
			t.Errorf("%s: two builds of one tree differ", arch)
		}
		in := unpack(t, one)
		if diff := cmp.Diff(config{Architecture: arch, OS: "linux", Created: "1970-01-01T00:00:00Z", Config: in.config.Config}, in.config); diff != "" {
			t.Errorf("%s: configuration (-want +got):\n%s", arch, diff)
		}
		if in.config.Config.User != "65532:65532" || in.config.Config.Labels["org.opencontainers.image.version"] != version {
			t.Errorf("%s: user %q, labels %v", arch, in.config.Config.User, in.config.Config.Labels)
		}
		if want := []string{image.Repository + ":" + version}; !slices.Equal(in.tags, want) {
			t.Errorf("%s: tags %q, want %q", arch, in.tags, want)
		}
		var names []string
		for name, text := range in.files {
			names = append(names, name)
			program, err := elf.NewFile(bytes.NewReader(text))
			if err != nil {
				t.Fatalf("%s: %s: %v", arch, name, err)
			}
			if libraries, _ := program.ImportedLibraries(); program.Machine != machines[arch] || len(libraries) > 0 {
				t.Errorf("%s: %s is for %v and links %v, want a static one", arch, name, program.Machine, libraries)
			}
			if arch == runtime.GOARCH {
				answersVersion(t, name, text, version)
			}
		}
		slices.Sort(names)
		if want := []string{"podproc", "podproc-node", "podproc-webhook"}; !slices.Equal(names, want) {
			t.Errorf("%s: holds %q, want %q and nothing else", arch, names, want)
		}
	}
}

// TestOtherArchitectures: what speaks to a kernel compiles for each that podproc
// is published for, and the image of each holds its own.
func TestOtherArchitectures(t *testing.T) {
	root, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, arch := range image.Arches {
		cmd := exec.Command("go", "build", "-o", filepath.Join(dir, arch)+"/", "./cmd/podproc-node")
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH="+arch)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", arch, err, out)
		}
	}
	for _, arch := range image.Arches {
		in := unpack(t, archive(t, root, dir, "0.0.0", arch))
		program, err := elf.NewFile(bytes.NewReader(in.files["podproc-node"]))
		if err != nil || program.Machine != machines[arch] || in.config.Architecture != arch {
			t.Errorf("the image for %s says that it is for %s, and podproc-node in it: %+v, %v", arch, in.config.Architecture, program, err)
		}
	}
}

func archive(t *testing.T, root, dir, version, arch string) []byte {
	t.Helper()
	file := filepath.Join(t.TempDir(), "image.tar")
	if err := image.Archive(context.Background(), root, dir, version, arch, file); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// answersVersion runs the program as it is in the image.
func answersVersion(t *testing.T, name string, program []byte, version string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, program, 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(file, "--version").CombinedOutput()
	if err != nil || !strings.Contains(string(out), version) {
		t.Errorf("%s --version: %v: %s, want %s in it", name, err, out, version)
	}
}

type config struct {
	Architecture, OS, Created string
	Config                    struct {
		User   string
		Env    []string
		Cmd    []string
		Labels map[string]string
	}
}

type contents struct {
	config config
	tags   []string
	files  map[string][]byte
}

// unpack reads a docker archive with one layer.
func unpack(t *testing.T, text []byte) contents {
	t.Helper()
	entries := untar(t, text, nil)
	var manifest []struct {
		Config           string
		RepoTags, Layers []string
	}
	if err := json.Unmarshal(entries["manifest.json"], &manifest); err != nil || len(manifest) != 1 || len(manifest[0].Layers) != 1 {
		t.Fatalf("manifest: %v: %s", err, entries["manifest.json"])
	}
	in := contents{tags: manifest[0].RepoTags}
	if err := json.Unmarshal(entries[manifest[0].Config], &in.config); err != nil {
		t.Fatal(err)
	}
	in.files = untar(t, entries[manifest[0].Layers[0]], func(h *tar.Header) {
		if h.Uid != 0 || h.Gid != 0 || h.Mode&0o777 != 0o755 {
			t.Errorf("%s has mode %o and owner %d:%d", h.Name, h.Mode, h.Uid, h.Gid)
		}
	})
	return in
}

func untar(t *testing.T, text []byte, each func(*tar.Header)) map[string][]byte {
	t.Helper()
	files := make(map[string][]byte)
	for r := tar.NewReader(bytes.NewReader(text)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if each != nil {
			each(h)
		}
		if files[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}
