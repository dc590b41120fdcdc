// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"strings"
	"testing"
)

// layouts are the cgroup paths that runtimes and init systems make, with "|"
// where the boundary is and without where there is none.
var layouts = map[string]string{
	"root":                       "/",
	"system service":             "/system.slice/sshd.service",
	"user session":               "/user.slice/user-1000.slice/session-2.scope",
	"containerd cgroupfs":        "/kubepods/burstable/pod" + pod + "/" + hexA + "|",
	"containerd cgroupfs, init":  "/kubepods/pod" + pod + "/" + hexA + "|/init.scope",
	"containerd systemd":         "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod8c1f.slice/cri-containerd-" + hexA + ".scope|",
	"containerd, names mixed up": "/system.slice/containerd.service/kubepods-burstable-pod8c1f.slice:cri-containerd:" + hexA + "|",
	"CRI-O systemd":              "/kubepods.slice/kubepods-pod8c1f.slice/crio-" + hexA + ".scope|",
	"CRI-O crun":                 "/kubepods.slice/kubepods-pod8c1f.slice/crio-" + hexA + ".scope/container|/app",
	"CRI-O cgroupfs":             "/kubepods/besteffort/pod" + pod + "/crio-" + hexA + "|",
	"CRI-O conmon":               "/kubepods.slice/kubepods-pod8c1f.slice/crio-conmon-" + hexA + ".scope",
	"Docker cgroupfs":            "/docker/" + hexA + "|",
	"Docker systemd":             "/system.slice/docker-" + hexA + ".scope|",
	"Docker, systemd inside":     "/docker/" + hexA + "|/system.slice/nginx.service",
	"cri-dockerd":                "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod8c1f.slice/docker-" + hexA + ".scope|",
	"Docker in Docker":           "/docker/" + hexA + "/docker/" + hexB + "|",
	"Docker in Docker, dockerd":  "/docker/" + hexA + "|/init",
	"Podman":                     "/machine.slice/libpod-" + hexA + ".scope|",
	"Podman crun":                "/machine.slice/libpod-" + hexA + ".scope/container|",
	"Podman rootless":            "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" + hexA + ".scope/container|/init.scope",
	"Podman cgroupfs":            "/libpod_parent/libpod-" + hexA + "|",
	"Podman payload":             "/system.slice/web.service/libpod-payload-" + hexA + "|",
	"Podman conmon":              "/machine.slice/libpod-conmon-" + hexA + ".scope",
	"conmon alone":               "/libpod_parent/conmon-" + hexA,
	"nerdctl":                    "/system.slice/nerdctl-" + hexA + ".scope|",
	"nerdctl cgroupfs":           "/default/" + hexA + "|",
	"kind":                       "/system.slice/docker-" + hexB + ".scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod8c1f.slice/cri-containerd-" + hexA + ".scope|",
	"kind, kubelet itself":       "/system.slice/docker-" + hexB + ".scope|/kubelet.slice/kubelet.service",
	"podproc run":                "/podproc-1a2b.scope|",
	"podproc run, deeper":        "/user.slice/podproc-1a2b.scope|/x/container",
	"podproc without id":         "/podproc-.scope",
	"63 digits":                  "/docker/" + hexA[1:],
	"65 digits":                  "/docker/0" + hexA,
	"no hex":                     "/docker/g" + hexA[1:],
	"word without separator":     "/pod" + hexA,
	"separator without word":     "/-" + hexA,
	"container not below scope":  "/docker/" + hexA + "|/container",
	"container below no scope":   "/a/container",
	"slice of digits":            "/" + hexA + ".slice",
}

func TestContainer(t *testing.T) {
	for name, layout := range layouts {
		t.Run(name, func(t *testing.T) {
			want, rest, found := strings.Cut(layout, "|")
			path := want + rest
			n, ok := container(path)
			if ok != found || found && path[:n] != want {
				t.Errorf("container(%s) = %s, %v; want %s, %v", path, path[:n], ok, want, found)
			}
		})
	}
}

func TestNodeWide(t *testing.T) {
	for path, want := range map[string]string{
		"/":                           "/",
		"/docker/" + hexA:             "/",
		"/kubepods":                   "/kubepods",
		"/kubepods/burstable/podX/1":  "/kubepods",
		"/kubepods.slice/a/b":         "/kubepods.slice",
		"/kubepods-burstable.slice/a": "/",
		"/kubepodsx/a":                "/",
		"/foo/kubepods/pod/1":         "/foo/kubepods",
		"/kubelet/kubepods/pod/1":     "/kubelet/kubepods",
		"/kubelet.slice/kubelet-kubepods.slice/p":     "/kubelet.slice/kubelet-kubepods.slice",
		"/kubepods/podX/1/kubelet/kubepods/podY/2":    "/kubepods/podX/1/kubelet/kubepods",
		"/kubepods.slice/kubepods-burstable.slice/p2": "/kubepods.slice",
	} {
		if got := path[:nodeWide(path)]; got != want {
			t.Errorf("nodeWide(%s) = %s, want %s", path, got, want)
		}
	}
}

func TestContains(t *testing.T) {
	for _, tt := range []struct {
		cgroup, path string
		want         bool
	}{
		{"/", "/", true},
		{"/", "/a", true},
		{"/a", "/a", true},
		{"/a", "/a/b", true},
		{"/a", "/ab", false},
		{"/a/b", "/a", false},
	} {
		if got := contains(tt.cgroup, tt.path); got != tt.want {
			t.Errorf("contains(%s, %s) = %v", tt.cgroup, tt.path, got)
		}
	}
}

func TestCheckPath(t *testing.T) {
	for path, want := range map[string]string{
		"/":          "",
		"/a/b c:d":   "",
		"":           `cgroup path "" does not begin with /`,
		"a":          `cgroup path "a" does not begin with /`,
		"/a//b":      `cgroup path "/a//b" is not clean`,
		"/a/":        `cgroup path "/a/" is not clean`,
		"/a/./b":     `cgroup path "/a/./b" is not clean`,
		"/../../foo": ErrNamespaced.Error() + `: "/../../foo"`,
		"/a\nb":      `cgroup path "/a\nb" has a control character`,
	} {
		got := ""
		if err := checkPath(path); err != nil {
			got = err.Error()
			if errors.Is(err, ErrNamespaced) != strings.Contains(path, "..") {
				t.Errorf("checkPath(%q) = %v", path, err)
			}
		}
		if got != want {
			t.Errorf("checkPath(%q) = %s, want %s", path, got, want)
		}
	}
}

func FuzzContainer(f *testing.F) {
	for _, layout := range layouts {
		f.Add(strings.Replace(layout, "|", "", 1))
	}
	f.Fuzz(func(t *testing.T, path string) {
		if checkPath(path) != nil {
			t.Skip()
		}
		n, ok := container(path)
		switch {
		case !ok && n != 0:
			t.Fatalf("container(%q) = %d without one", path, n)
		case !ok:
			return
		case !contains(path[:n], path):
			t.Fatalf("container(%q) = %q, no ancestor", path, path[:n])
		}
		if m, ok := container(path[:n]); !ok || m != n {
			t.Fatalf("container(%q) = %q, but of that %d, %v", path, path[:n], m, ok)
		}
		if m, _ := container(path + "/x"); m != n {
			t.Fatalf("a child moves the boundary of %q from %d to %d", path, n, m)
		}
		if wide := nodeWide(path); !contains(path[:wide], path) {
			t.Fatalf("nodeWide(%q) = %d", path, wide)
		}
	})
}
