// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"fmt"
	"strings"
)

// container returns the length of the part of path up to and including the
// deepest component that names a container, and whether there is one:
//
//	<64 hex>                             containerd, Docker (cgroupfs driver)
//	<word>-<64 hex>.scope                cri-containerd, crio, docker, libpod, nerdctl (systemd driver)
//	<word>-<64 hex>                      Podman, CRI-O (cgroupfs driver)
//	<slice>:<word>:<64 hex>              containerd with systemd's names and the cgroupfs driver
//	<any of these ending in .scope>/container   crun, CRI-O
//	podproc-<id>.scope                   podproc run
//
// A name with "conmon" before the digits is the container's monitor, which
// runs outside of it.
func container(path string) (n int, ok bool) {
	scope := false
	for start := 1; start <= len(path); {
		end := len(path)
		if i := strings.IndexByte(path[start:], '/'); i >= 0 {
			end = start + i
		}
		name := path[start:end]
		switch {
		case namesContainer(name):
			n, ok = end, true
			scope = strings.HasSuffix(name, ".scope")
		case scope && name == "container":
			n, scope = end, false
		default:
			scope = false
		}
		start = end + 1
	}
	return n, ok
}

func namesContainer(name string) bool {
	base, scope := strings.CutSuffix(name, ".scope")
	if id, ok := strings.CutPrefix(base, "podproc-"); ok && scope && id != "" {
		return true
	}
	if len(base) < 64 {
		return false
	}
	word, id := base[:len(base)-64], base[len(base)-64:]
	for i := range len(id) {
		if c := id[i]; !('0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F') {
			return false
		}
	}
	if word == "" {
		return true
	}
	word, sep := word[:len(word)-1], word[len(word)-1]
	return word != "" && (sep == '-' || sep == ':') && word != "conmon" && !strings.HasSuffix(word, "-conmon")
}

// nodeWide returns the length of the part of path that every container of the
// node shares: up to and including the deepest kubepods or kubepods.slice,
// also below the kubelet's own root (/kubelet/kubepods of kind,
// kubelet-kubepods.slice with the systemd driver); 1, the root, without one.
func nodeWide(path string) int {
	n := 1
	for start := 1; start < len(path); {
		end := len(path)
		if i := strings.IndexByte(path[start:], '/'); i >= 0 {
			end = start + i
		}
		name := path[start:end]
		if name == "kubepods" || name == "kubepods.slice" || strings.HasSuffix(name, "-kubepods.slice") {
			n = end
		}
		start = end + 1
	}
	return n
}

// contains tells whether cgroup is path or an ancestor of it.
func contains(cgroup, path string) bool {
	rest, ok := strings.CutPrefix(path, cgroup)
	return ok && (cgroup == "/" || rest == "" || rest[0] == '/')
}

// parent returns the path of the cgroup above, and whether there is one.
func parent(path string) (string, bool) {
	i := strings.LastIndexByte(path, '/')
	switch {
	case path == "/":
		return "", false
	case i == 0:
		return "/", true
	}
	return path[:i], true
}

// checkPath refuses what is not a path from the root of a hierarchy.
func checkPath(path string) error {
	if path == "" || path[0] != '/' {
		return fmt.Errorf("cgroup path %.200q does not begin with /", path)
	}
	if path == "/" {
		return nil
	}
	for name := range strings.SplitSeq(path[1:], "/") {
		switch name {
		case "..":
			return fmt.Errorf("%w: %.200q", ErrNamespaced, path)
		case "", ".":
			return fmt.Errorf("cgroup path %.200q is not clean", path)
		}
	}
	if strings.ContainsAny(path, "\x00\n") {
		return fmt.Errorf("cgroup path %.200q has a control character", path)
	}
	return nil
}
