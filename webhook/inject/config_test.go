// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"path"
	"slices"
	"strings"
	"testing"
)

func TestConfig(t *testing.T) {
	tests := []struct {
		name string
		c    Config
		want string // in the error; empty for none
	}{
		{"zero", Config{}, ""},
		{"empty-lists", Config{Files: []string{}, SkipRuntimeClasses: []string{}, SkipNodes: []string{}}, ""},
		{"unknown-file", Config{Files: []string{"vmstat"}}, `"vmstat" is not one of meminfo`},
		{"files-on-request", Config{Files: []string{"meminfo", "loadavg", "uptime", "diskstats"}}, ""},
		{"file-refused-by-runtimes", Config{Files: []string{"pressure/io"}}, "runtimes refuse"},
		{"relative-root", Config{Root: "run/podproc"}, "clean absolute path"},
		{"unclean-root", Config{Root: "/run/../etc"}, "clean absolute path"},
		{"root-of-all", Config{Root: "/"}, "clean absolute path"},
		{"bad-key", Config{Keys: []string{"a b"}}, `key "a b"`},
		{"own-key", Config{Keys: []string{"podproc.io/files"}}, "meaning of its own"},
		{"same-key", Config{Keys: []string{InjectKey, LegacyKey}}, ""},
		{"bad-pattern", Config{SkipRuntimeClasses: []string{"[a"}}, "runtime class"},
		{"bad-node-pattern", Config{SkipNodes: []string{"type=[a"}}, "node to skip"},
		{"bad-node-key", Config{SkipNodes: []string{"=x"}}, "node to skip"},
		{"bad-level", Config{PodSecurityDefault: "high"}, "Pod Security"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := New(tt.c)
			switch {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("error %v does not say %q", err, tt.want)
			}
		})
	}
}

// runc starts no container with a mount below /proc that is not in this list
// (libcontainer/rootfs_linux.go, checkProcMount, since 1.0).
var runcAllows = []string{
	"/proc/cpuinfo", "/proc/diskstats", "/proc/meminfo", "/proc/stat", "/proc/swaps", "/proc/uptime", "/proc/loadavg",
	"/proc/slabinfo", "/proc/sys/kernel/ns_last_pid", "/proc/sys/crypto/fips_enabled",
}

func TestFileTable(t *testing.T) {
	names, volumes := make(map[string]bool), make(map[string]bool)
	for _, f := range files {
		if names[f.name] || f.volume != "" && volumes[f.volume] {
			t.Errorf("%s is there twice", f.name)
		}
		names[f.name], volumes[f.volume] = true, true
		if f.refuse == notAllowed {
			continue
		}
		if strings.HasPrefix(f.mount, "/proc/") && !slices.Contains(runcAllows, f.mount) {
			t.Errorf("%s: runc refuses %s", f.name, f.mount)
		}
		if f.mount != "/"+f.node || path.Clean(f.mount) != f.mount || !strings.HasPrefix(f.volume, "podproc-") {
			t.Errorf("%s: mount %s, node %s, volume %s", f.name, f.mount, f.node, f.volume)
		}
		if f.initial && f.refuse != "" {
			t.Errorf("%s is a default and can not be mounted", f.name)
		}
	}
	if want := []string{"meminfo", "cpuinfo", "stat", "swaps", "cpu/online"}; !slices.Equal(DefaultFiles(), want) {
		t.Errorf("default files %v, want %v", DefaultFiles(), want)
	}
}

func TestKindOf(t *testing.T) {
	tests := []struct {
		group, kind, subresource string
		want                     Kind
	}{
		{"", "Pod", "", Pod},
		{"", "Pod", "ephemeralcontainers", EphemeralContainers},
		{"", "Pod", "status", ""},
		{"", "Service", "", ""},
		{"apps", "Pod", "", ""},
		{"apps", "Deployment", "", Deployment},
		{"apps", "Deployment", "scale", ""},
		{"apps", "StatefulSet", "", StatefulSet},
		{"apps", "DaemonSet", "", DaemonSet},
		{"apps", "ReplicaSet", "", ReplicaSet},
		{"apps", "ControllerRevision", "", ""},
		{"extensions", "Deployment", "", Deployment},
		{"extensions", "Ingress", "", ""},
		{"batch", "Job", "", Job},
		{"batch", "CronJob", "", CronJob},
		{"", "ReplicationController", "", ""},
		{"", "EphemeralContainers", "", ""},
	}
	for _, tt := range tests {
		got, ok := KindOf(tt.group, tt.kind, tt.subresource)
		if got != tt.want || ok != (tt.want != "") {
			t.Errorf("KindOf(%q, %q, %q) = %q, %v", tt.group, tt.kind, tt.subresource, got, ok)
		}
	}
}

func TestCovers(t *testing.T) {
	tests := []struct {
		mount string
		want  bool
	}{
		{"/proc/meminfo", true}, {"/proc", true}, {"/", true},
		{"/proc/mem", false}, {"/proc/meminfo2", false}, {"/pro", false}, {"/sys", false}, {"/proc/meminfo/x", false},
	}
	for _, tt := range tests {
		if got := covers(tt.mount, "/proc/meminfo"); got != tt.want {
			t.Errorf("covers(%q) = %v", tt.mount, got)
		}
	}
}

// A Config handed back is complete.
func TestConfigDefaults(t *testing.T) {
	c := injector(t, Config{}).Config()
	if c.Root != DefaultRoot || len(c.Files) != 5 || len(c.SkipNodes) == 0 || len(c.SkipRuntimeClasses) == 0 || c.PodSecurityDefault != "privileged" {
		t.Errorf("defaults are %+v", c)
	}
}
