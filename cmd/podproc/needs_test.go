// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestNeeds: what is said of machines that are made of files. A path with a
// target is a symlink.
func TestNeeds(t *testing.T) {
	type tree map[string]string
	v1 := tree{"sys/fs/cgroup/memory/cgroup.procs": "", "sys/fs/cgroup/cpu/cgroup.procs": "", "sys/fs/cgroup/cpuacct/cgroup.procs": ""}
	tests := []struct {
		name string
		need func(machine) finding
		tree tree
		want string // state, and parts of the text
	}{
		{"new kernel", kernel, tree{"proc/sys/kernel/osrelease": "6.18.44-cloud\n"}, "ok|Linux 6.18.44-cloud"},
		{"6.11", kernel, tree{"proc/sys/kernel/osrelease": "6.11.0\n"}, "note|cannot ID-map|hostUsers: false"},
		{"before RESEND", kernel, tree{"proc/sys/kernel/osrelease": "6.8.12\n"}, "note|cannot send FUSE requests again (6.9)"},
		{"before BENEATH", kernel, tree{"proc/sys/kernel/osrelease": "6.1.0-56\n"}, "note|cannot mount beneath a mount (6.5)"},
		{"before move_mount", kernel, tree{"proc/sys/kernel/osrelease": "4.18.0-553.el8\n"}, "FAIL|cannot attach mounts|update the kernel"},
		{"no version", kernel, tree{}, "note|cannot be read"},

		{"v2", cgroupMode, tree{"sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory"}, "ok|v2"},
		{"hybrid", cgroupMode, tree{"sys/fs/cgroup/unified/cgroup.controllers": "", "sys/fs/cgroup/memory/cgroup.procs": ""}, "ok|hybrid"},
		{"v1", cgroupMode, v1, "ok|v1"},
		{"no cgroups", cgroupMode, tree{"sys/fs/cgroup/README": ""}, "FAIL|mount -t cgroup2"},

		{"v2", cgroupControllers, tree{"sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory pids\n"}, "ok|memory, cpu, cpuset"},
		{"v2 without memory", cgroupControllers, tree{"sys/fs/cgroup/cgroup.controllers": "cpuset cpu io pids\n"}, "FAIL|memory missing|cgroup_enable=memory"},
		{"v1 without cpuset", cgroupControllers, v1, "note|cpuset is missing"},

		{"initial cgroup namespace", cgroupNamespace, tree{"proc/self/ns/cgroup": "-> cgroup:[4026531835]"}, "ok"},
		{"other cgroup namespace", cgroupNamespace, tree{"proc/self/ns/cgroup": "-> cgroup:[4026532000]"}, "note|kind|hostPID"},
		{"other pid namespace", pidNamespace, tree{"proc/self/ns/pid": "-> pid:[4026532000]"}, "note|hostPID: true"},

		{"no FUSE", fuse, tree{}, "FAIL|no /dev/fuse|modprobe fuse"},
		{"FUSE", fuse, tree{"dev/fuse": "", "proc/filesystems": "nodev\tproc\n\tfuseblk\nnodev\tfuse\n"}, "ok"},
		{"FUSE without a kernel", fuse, tree{"dev/fuse": "", "proc/filesystems": "nodev\tproc\n\tfuseblk\n"}, "FAIL|does not know"},

		{"no swap, not counted", swapAccounting, tree{"proc/swaps": "Filename\tType\n"}, "ok|off"},
		{"swap, not counted", swapAccounting, tree{"proc/swaps": "Filename\tType\n/swap file\n"}, "note|swapaccount=1"},
		{"swap, counted on v1", swapAccounting, tree{"proc/swaps": "Filename\tType\n/swap file\n", "sys/fs/cgroup/memory/memory.memsw.limit_in_bytes": "1"}, "ok|on"},
		{"swap, counted on v2", swapAccounting, tree{"proc/swaps": "Filename\tType\n/swap file\n", "sys/fs/cgroup/cgroup.controllers": "memory", "proc/cmdline": "quiet"}, "ok|on"},
		{"swap, switched off on v2", swapAccounting, tree{"proc/swaps": "Filename\tType\n/swap file\n", "sys/fs/cgroup/cgroup.controllers": "memory", "proc/cmdline": "swapaccount=0"}, "note"},

		{"PSI", psi, tree{"proc/pressure/cpu": "some avg10=0.00"}, "ok|on"},
		{"no PSI", psi, tree{}, "note|CONFIG_PSI"},
		{"SELinux", selinux, tree{"sys/fs/selinux/enforce": "1"}, "note|enforcing|fusefs_t"},
		{"SELinux permissive", selinux, tree{"sys/fs/selinux/enforce": "0"}, "ok|permissive"},
		{"no SELinux", selinux, tree{}, "ok|not in use"},
		{"AppArmor", apparmor, tree{"sys/module/apparmor/parameters/enabled": "Y\n"}, "ok|in use"},
		{"no AppArmor", apparmor, tree{}, "ok|not in use"},
	}
	for _, tt := range tests {
		dir := t.TempDir()
		for name, content := range tt.tree {
			path := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			err := error(nil)
			if target, ok := strings.CutPrefix(content, "-> "); ok {
				err = os.Symlink(target, path)
			} else {
				err = os.WriteFile(path, []byte(content), 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		f := tt.need(machine{dir + "/proc", dir + "/sys", dir + "/dev"})
		got := string(f.state) + " " + f.what + ": " + f.do
		for i, part := range strings.Split(tt.want, "|") {
			if i == 0 && string(f.state) != part || !strings.Contains(got, part) {
				t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
			}
		}
		if f.state != ok && f.do == "" {
			t.Errorf("%s: %q says not what to do", tt.name, got)
		}
	}
}
