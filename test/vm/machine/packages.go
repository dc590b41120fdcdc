// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// unneeded are packages that others depend on for their installation only.
var unneeded = map[string]bool{
	"adduser": true, "debconf": true, "dpkg": true, "init-system-helpers": true,
	"install-info": true, "perl-base": true, "perl": true, "python3-pkg-resources": true,
}

// left out of the image: what no program of a test opens.
var leftOut = []string{
	"/usr/share/doc", "/usr/share/man", "/usr/share/locale", "/usr/share/info", "/usr/share/lintian", "/usr/share/bug",
	"/usr/share/i18n", "/usr/share/bash-completion", "/usr/share/icons", "/usr/share/applications", "/usr/share/pixmaps",
	"/usr/lib/x86_64-linux-gnu/gconv", "/usr/lib/node_modules", "/usr/include", "/usr/share/nodejs",
	"/etc/init.d", "/etc/cron.d", "/etc/apt", "/lib/systemd", "/usr/lib/systemd", "/proc", "/sys", "/dev", "/run", "/tmp",
}

// debian is dpkg's knowledge of this machine.
type debian struct {
	packages map[string]*debianPackage
	provides map[string][]string
}

type debianPackage struct {
	version string
	depends [][]string // each met by one of its alternatives
}

func readDebian(ctx context.Context) (*debian, error) {
	out, err := output(ctx, "", "dpkg-query", "-W", "-f",
		"${db:Status-Status}\t${Package}\t${Version}\t${Pre-Depends}, ${Depends}\t${Provides}\n")
	if err != nil {
		return nil, err
	}
	return parseDebian(out), nil
}

func parseDebian(out string) *debian {
	d := &debian{packages: make(map[string]*debianPackage), provides: make(map[string][]string)}
	for line := range strings.Lines(out) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) != 5 || f[0] != "installed" {
			continue
		}
		p := &debianPackage{version: f[2]}
		for _, one := range strings.Split(f[3], ",") {
			var alternatives []string
			for _, a := range strings.Split(one, "|") {
				if name := relationName(a); name != "" {
					alternatives = append(alternatives, name)
				}
			}
			p.depends = append(p.depends, alternatives)
		}
		d.packages[f[1]] = p
		for _, v := range strings.Split(f[4], ",") {
			if name := relationName(v); name != "" {
				d.provides[name] = append(d.provides[name], f[1])
			}
		}
	}
	return d
}

// relationName takes "libc6" from " libc6:any (>= 2.34)".
func relationName(relation string) string {
	name, _, _ := strings.Cut(strings.TrimSpace(relation), " ")
	name, _, _ = strings.Cut(name, ":")
	return name
}

// closure returns the packages and all that they depend on, sorted.
func (d *debian) closure(names []string) ([]string, error) {
	seen := make(map[string]bool)
	var add func(name string)
	add = func(name string) {
		p, ok := d.packages[name]
		if !ok || seen[name] || unneeded[name] {
			return
		}
		seen[name] = true
		for _, alternatives := range p.depends {
			for _, a := range alternatives {
				add(a)
				for _, provider := range d.provides[a] {
					add(provider)
				}
			}
		}
	}
	for _, name := range names {
		if d.packages[name] == nil {
			return nil, fmt.Errorf("package %s is not installed; run make deps", name)
		}
		add(name)
	}
	all := make([]string, 0, len(seen))
	for name := range seen {
		all = append(all, name)
	}
	slices.Sort(all)
	return all, nil
}

// packageFiles lists the files of the packages, with what their installation
// made beside them: alternatives (java, awk), compiled Python.
func packageFiles(ctx context.Context, packages []string) ([]string, error) {
	out, err := output(ctx, "", "dpkg-query", append([]string{"-L"}, packages...)...)
	if err != nil {
		return nil, err
	}
	files := make(map[string]bool)
	for path := range strings.Lines(out) {
		path = strings.TrimSuffix(path, "\n")
		if !strings.HasPrefix(path, "/") || path == "/." || isLeftOut(path) {
			continue
		}
		files[path] = true
		if strings.HasSuffix(path, ".py") {
			base := strings.TrimSuffix(filepath.Base(path), ".py")
			compiled, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "__pycache__", base+".cpython-*.pyc"))
			for _, c := range compiled {
				files[c] = true
			}
		}
		if filepath.Base(path) == "libjvm.so" {
			archives, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "*.jsa"))
			for _, a := range archives {
				files[a] = true
			}
		}
	}
	if err := addAlternatives(files); err != nil {
		return nil, err
	}
	list := make([]string, 0, len(files))
	for path := range files {
		list = append(list, path)
	}
	slices.Sort(list)
	return list, nil
}

// addAlternatives adds /usr/bin/awk -> /etc/alternatives/awk -> /usr/bin/mawk
// where mawk is there.
func addAlternatives(files map[string]bool) error {
	for _, dir := range []string{"/usr/bin", "/usr/sbin"} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			link := filepath.Join(dir, e.Name())
			middle, err := os.Readlink(link)
			if err != nil || !strings.HasPrefix(middle, "/etc/alternatives/") {
				continue
			}
			if target, err := os.Readlink(middle); err == nil && files[target] {
				files[link], files[middle] = true, true
			}
		}
	}
	return nil
}

func isLeftOut(path string) bool {
	return slices.ContainsFunc(leftOut, func(dir string) bool {
		return path == dir || strings.HasPrefix(path, dir+"/")
	})
}
