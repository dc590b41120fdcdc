// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

// Command build makes the Kubernetes binaries for the cluster tests from the Go
// module proxy: one binary, bin/k8s/k8s, and a link to it for each name it
// answers to (etcd, kube-apiserver, kube-controller-manager, kube-scheduler,
// kubelet, kubectl).
//
//	go run ./test/cluster/build [-o DIR]
//
// The first build compiles about 2,700 packages: five minutes on two cores. Its
// result is kept in .cache/k8s under a name made of all that went into it, so
// that later builds are a copy even when Go's own build cache was emptied.
package main

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
)

// names are the components in the binary; each gets a link.
var names = []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl"}

// inputs decide what is built, apart from the Go toolchain and the flags.
var inputs = []string{"go.mod", "go.sum", "main.go"}

func main() {
	if err := run(os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		os.Exit(1)
	}
}

func run(args []string, stdout, stderr io.Writer) error {
	root, err := repository()
	if err != nil {
		return err
	}
	flags := flag.NewFlagSet("build", flag.ContinueOnError)
	flags.SetOutput(stderr)
	out := flags.String("o", filepath.Join(root, "bin", "k8s"), "`directory` to put the binary and its links in")
	if err := flags.Parse(args); err != nil {
		return err
	}
	module := filepath.Join(root, "test", "cluster", "k8s")
	version, err := kubernetesVersion(module)
	if err != nil {
		return err
	}
	build := buildArgs(version)
	sum, err := checksum(module, build)
	if err != nil {
		return err
	}
	cached := filepath.Join(root, ".cache", "k8s", sum)
	unlock, err := lock(filepath.Join(root, ".cache", "k8s"))
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := os.Stat(cached); errors.Is(err, os.ErrNotExist) {
		fmt.Fprintf(stdout, "building Kubernetes %s (minutes, the first time)\n", version)
		if err := compile(module, cached, build, stderr); err != nil {
			return err
		}
	}
	return install(cached, *out)
}

// repository is the directory of podproc's go.mod.
func repository() (string, error) {
	mod, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOMOD: %w", err)
	}
	return filepath.Dir(strings.TrimSpace(string(mod))), nil
}

func kubernetesVersion(module string) (string, error) {
	mod, err := os.ReadFile(filepath.Join(module, "go.mod"))
	if err != nil {
		return "", err
	}
	m := regexp.MustCompile(`(?m)^\s*k8s\.io/kubernetes (v\S+)$`).FindSubmatch(mod)
	if m == nil {
		return "", fmt.Errorf("no k8s.io/kubernetes in %s/go.mod", module)
	}
	return string(m[1]), nil
}

// buildArgs are the arguments of go build without the output. The versions are
// what the components report: client and server refuse features of a v0.0.0.
func buildArgs(version string) []string {
	part := strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3)
	ld := []string{"-s", "-w"}
	for _, p := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		ld = append(ld, "-X "+p+".gitVersion="+version, "-X "+p+".gitMajor="+part[0], "-X "+p+".gitMinor="+part[1], "-X "+p+".gitTreeState=clean")
	}
	// Without DWARF the build takes a sixth less time.
	return []string{"build", "-mod=readonly", "-buildvcs=false", "-trimpath", "-gcflags=all=-dwarf=false", "-ldflags", strings.Join(ld, " ")}
}

func checksum(module string, build []string) (string, error) {
	h := sha256.New()
	toolchain, err := exec.Command("go", "env", "GOVERSION", "GOOS", "GOARCH").Output()
	if err != nil {
		return "", fmt.Errorf("go env: %w", err)
	}
	fmt.Fprintf(h, "%s%q\n", toolchain, build)
	for _, name := range inputs {
		text, err := os.ReadFile(filepath.Join(module, name))
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%s %d\n%s", name, len(text), text)
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:12]), nil
}

// lock lets one build at a time into dir: the second then finds its result.
func lock(dir string) (unlock func() error, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return f.Close, nil
}

// compile builds beside the target and renames, so that a build that was ended
// leaves nothing that looks like a result.
func compile(module, target string, build []string, stderr io.Writer) error {
	part := fmt.Sprintf("%s.%d", target, os.Getpid())
	defer os.Remove(part)
	c := exec.Command("go", append(build, "-o", part, ".")...)
	c.Dir = module
	c.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	c.Stdout, c.Stderr = stderr, stderr
	if err := c.Run(); err != nil {
		return fmt.Errorf("build Kubernetes for %s: %w", cmp.Or(os.Getenv("GOARCH"), runtime.GOARCH), err)
	}
	return os.Rename(part, target)
}

// install puts the binary into dir by hard link (or copy, across file systems)
// and links the names to it.
func install(binary, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	target := filepath.Join(dir, "k8s")
	if !same(binary, target) {
		if err := os.Remove(target); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if err := os.Link(binary, target); err != nil {
			if err := copyFile(binary, target); err != nil {
				return err
			}
		}
	}
	for _, name := range names {
		link := filepath.Join(dir, name)
		if to, err := os.Readlink(link); err == nil && to == "k8s" {
			continue
		}
		if err := os.Remove(link); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if err := os.Symlink("k8s", link); err != nil {
			return err
		}
	}
	return nil
}

func same(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}

func copyFile(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(dst, src); err != nil {
		dst.Close()
		return err
	}
	return dst.Close()
}
