// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

// Command build makes binaries for the cluster tests from the Go module proxy.
//
//	go run ./test/cluster/build [-o DIR] [k8s | cert-manager]
//
// Kubernetes (k8s, the default) is one binary, bin/k8s/k8s, and a link to it for each
// name it answers to (etcd, kube-apiserver, kube-controller-manager,
// kube-scheduler, kubelet, kubectl); cert-manager is bin/cert-manager/cert-manager,
// with links for its controller, cainjector and webhook.
//
// The first build of Kubernetes compiles about 2,700 packages: five minutes on two
// cores; cert-manager's 1,300, a minute and a half. Results are kept in .cache
// under a name made of all that went into them, so that later builds are a copy
// even when Go's own build cache was emptied.
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
	"slices"
	"strings"
	"syscall"
)

// A product is one binary that answers to several names.
type product struct {
	name    string // of the binary, and of its directories in bin and .cache
	source  string // directory of its Go module, in test/cluster
	module  string // the one whose version is the product's
	names   []string
	version func(version string) (ldflags []string) // what it reports as its version
}

var products = []product{{
	name:    "k8s",
	source:  "k8s",
	module:  "k8s.io/kubernetes",
	names:   []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl"},
	version: kubernetesVersion,
}, {
	name:    "cert-manager",
	source:  "certmanager",
	module:  "github.com/cert-manager/cert-manager",
	names:   []string{"cert-manager-controller", "cert-manager-cainjector", "cert-manager-webhook"},
	version: certManagerVersion,
}}

// kubernetesVersion: client and server refuse features of a v0.0.0.
func kubernetesVersion(version string) (ldflags []string) {
	part := strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3)
	for _, p := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		ldflags = append(ldflags, "-X "+p+".gitVersion="+version, "-X "+p+".gitMajor="+part[0], "-X "+p+".gitMinor="+part[1], "-X "+p+".gitTreeState=clean")
	}
	return ldflags
}

func certManagerVersion(version string) (ldflags []string) {
	return []string{"-X github.com/cert-manager/cert-manager/pkg/util.AppVersion=" + version}
}

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
	out := flags.String("o", "", "`directory` to put the binary and its links in (default bin/NAME)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	name := cmp.Or(flags.Arg(0), "k8s")
	i := slices.IndexFunc(products, func(p product) bool { return p.name == name })
	if i < 0 || flags.NArg() > 1 {
		return fmt.Errorf("build %q: want k8s or cert-manager", flags.Args())
	}
	return products[i].make(root, cmp.Or(*out, filepath.Join(root, "bin", name)), stdout, stderr)
}

// make puts the product into dir; it compiles what is not in the cache.
func (p *product) make(root, dir string, stdout, stderr io.Writer) error {
	source := filepath.Join(root, "test", "cluster", p.source)
	version, err := versionOf(p.module, source)
	if err != nil {
		return err
	}
	build := p.buildArgs(version)
	sum, err := checksum(source, build)
	if err != nil {
		return err
	}
	cache := filepath.Join(root, ".cache", p.name)
	unlock, err := lock(cache)
	if err != nil {
		return err
	}
	defer unlock()
	cached := filepath.Join(cache, sum)
	if _, err := os.Stat(cached); errors.Is(err, os.ErrNotExist) {
		fmt.Fprintf(stdout, "building %s %s (minutes, the first time)\n", p.name, version)
		if err := compile(source, cached, build, stderr); err != nil {
			return fmt.Errorf("build %s: %w", p.name, err)
		}
	}
	return p.install(cached, dir)
}

// repository is the directory of podproc's go.mod.
func repository() (string, error) {
	mod, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOMOD: %w", err)
	}
	return filepath.Dir(strings.TrimSpace(string(mod))), nil
}

// versionOf returns the version of a module that the one in source requires.
func versionOf(module, source string) (string, error) {
	mod, err := os.ReadFile(filepath.Join(source, "go.mod"))
	if err != nil {
		return "", err
	}
	m := regexp.MustCompile(`(?m)^\s*` + regexp.QuoteMeta(module) + ` (v\S+)$`).FindSubmatch(mod)
	if m == nil {
		return "", fmt.Errorf("no %s in %s/go.mod", module, source)
	}
	return string(m[1]), nil
}

// buildArgs are the arguments of go build without the output.
func (p *product) buildArgs(version string) []string {
	ld := append([]string{"-s", "-w"}, p.version(version)...)
	// Without DWARF the build takes a sixth less time.
	return []string{"build", "-mod=readonly", "-buildvcs=false", "-trimpath", "-gcflags=all=-dwarf=false", "-ldflags", strings.Join(ld, " ")}
}

// checksum is over the files of the module in source and all else that decides
// what is built.
func checksum(source string, build []string) (string, error) {
	h := sha256.New()
	toolchain, err := exec.Command("go", "env", "GOVERSION", "GOOS", "GOARCH").Output()
	if err != nil {
		return "", fmt.Errorf("go env: %w", err)
	}
	fmt.Fprintf(h, "%s%q\n", toolchain, build)
	inputs, err := os.ReadDir(source)
	if err != nil {
		return "", err
	}
	for _, input := range inputs {
		name := input.Name()
		text, err := os.ReadFile(filepath.Join(source, name))
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
func compile(source, target string, build []string, stderr io.Writer) error {
	part := fmt.Sprintf("%s.%d", target, os.Getpid())
	defer os.Remove(part)
	c := exec.Command("go", append(build, "-o", part, ".")...)
	c.Dir = source
	c.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	c.Stdout, c.Stderr = stderr, stderr
	if err := c.Run(); err != nil {
		return fmt.Errorf("for %s: %w", cmp.Or(os.Getenv("GOARCH"), runtime.GOARCH), err)
	}
	return os.Rename(part, target)
}

// install puts the binary into dir by hard link (or copy, across file systems)
// and links the names to it.
func (p *product) install(binary, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	target := filepath.Join(dir, p.name)
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
	for _, name := range p.names {
		link := filepath.Join(dir, name)
		if to, err := os.Readlink(link); err == nil && to == p.name {
			continue
		}
		if err := os.Remove(link); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if err := os.Symlink(p.name, link); err != nil {
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
