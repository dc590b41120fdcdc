// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/podproc/podproc/test/vm/wire"
	"golang.org/x/sys/unix"
)

const (
	cgroupRoot = "/sys/fs/cgroup"
	cgroupSafe = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
)

// mountCgroups lays out cgroups as systemd does in its three modes.
func mountCgroups() error {
	switch mode := os.Getenv(wire.CgroupEnv); mode {
	case "", wire.V2:
		return mountV2()
	case wire.V1, wire.Hybrid:
		return mountV1(mode == wire.Hybrid)
	default:
		return fmt.Errorf("no cgroup mode %q", mode)
	}
}

func mountV2() error {
	if err := mount("cgroup2", cgroupRoot, "cgroup2", cgroupSafe, "nsdelegate"); err != nil {
		return err
	}
	controllers, err := os.ReadFile(cgroupRoot + "/cgroup.controllers")
	if err != nil {
		return err
	}
	for _, c := range strings.Fields(string(controllers)) {
		if err := os.WriteFile(cgroupRoot+"/cgroup.subtree_control", []byte("+"+c), 0); err != nil {
			return fmt.Errorf("enable controller %s: %w", c, err)
		}
	}
	return nil
}

// mountV1 mounts a hierarchy a controller, but cpu and cpuacct together, with
// links for either name.
func mountV1(unified bool) error {
	if err := mount("tmpfs", cgroupRoot, "tmpfs", cgroupSafe, "mode=755"); err != nil {
		return err
	}
	hierarchies := map[string]string{"systemd": "none,name=systemd", "cpu,cpuacct": "cpu,cpuacct"}
	table, err := os.ReadFile("/proc/cgroups") // name, hierarchy, cgroups, enabled
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(table)) {
		f := strings.Fields(line)
		if len(f) == 4 && f[3] == "1" && f[0] != "cpu" && f[0] != "cpuacct" {
			hierarchies[f[0]] = f[0]
		}
	}
	if unified {
		hierarchies["unified"] = ""
	}
	for name, options := range hierarchies {
		dir, kind := cgroupRoot+"/"+name, "cgroup"
		if name == "unified" {
			kind = "cgroup2"
		}
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		if err := mount("cgroup", dir, kind, cgroupSafe, options); err != nil {
			return err
		}
	}
	for _, name := range []string{"cpu", "cpuacct"} {
		if err := os.Symlink("cpu,cpuacct", cgroupRoot+"/"+name); err != nil {
			return err
		}
	}
	return nil
}
