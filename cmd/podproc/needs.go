// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

func root(machine) finding {
	if os.Geteuid() != 0 {
		return finding{fail, "not root", "run podproc as root (sudo podproc check)"}
	}
	return finding{ok, "root", ""}
}

// kernel tells what older kernels lack. Each need is that of a system call or
// an option of FUSE; the versions are those that brought it.
func kernel(m machine) finding {
	release := read(m.proc + "/sys/kernel/osrelease")
	var major, minor int
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err != nil {
		return finding{note, fmt.Sprintf("version %q cannot be read", release), "podproc needs Linux 5.2 or later"}
	}
	before := func(a, b int) bool { return major < a || major == a && minor < b }
	switch what := "Linux " + release; {
	case before(5, 2):
		return finding{fail, what + " cannot attach mounts (open_tree, move_mount: 5.2)", "update the kernel; podproc-node serve alone works from 4.18 on, podproc run and the repair of running containers do not"}
	case before(6, 5):
		return finding{note, what + " cannot mount beneath a mount (6.5)", "nothing to do; a container whose files are repaired after the loss of both daemons shows its last numbers for a moment, and pods with hostUsers: false cannot be injected (6.12)"}
	case before(6, 9):
		return finding{note, what + " cannot send FUSE requests again (6.9)", "nothing to do; podproc finds them in shared memory, but pods with hostUsers: false cannot be injected (6.12)"}
	case before(6, 12):
		return finding{note, what + " cannot ID-map FUSE mounts (6.12)", "nothing to do; pods with hostUsers: false cannot be injected"}
	default:
		return finding{ok, what, ""}
	}
}

func cgroupMode(m machine) finding {
	dir := m.sys + "/fs/cgroup"
	switch {
	case exists(dir + "/cgroup.controllers"):
		return finding{ok, "v2", ""}
	case exists(dir + "/unified/cgroup.controllers"):
		return finding{ok, "hybrid: v1 with v2 beside it in unified", ""}
	case len(v1Controllers(m)) > 0:
		return finding{ok, "v1", ""}
	}
	return finding{fail, "no cgroup hierarchy at " + dir, "mount one: mount -t cgroup2 none " + dir}
}

// cgroupControllers looks for what the files need. Without cpuset the CPUs are
// those of the quota alone.
func cgroupControllers(m machine) finding {
	have, wanted := v1Controllers(m), []string{"memory", "cpu", "cpuacct", "cpuset"}
	if text := read(m.sys + "/fs/cgroup/cgroup.controllers"); text != "" {
		have, wanted = strings.Fields(text), []string{"memory", "cpu", "cpuset"}
	}
	var missing []string
	for _, c := range wanted {
		if !slices.Contains(have, c) {
			missing = append(missing, c)
		}
	}
	switch {
	case slices.Equal(missing, []string{"cpuset"}):
		return finding{note, "cpuset is missing", "containers that are bound to CPUs see those of their quota only; do not boot with cgroup_disable=cpuset"}
	case len(missing) > 0:
		return finding{fail, strings.Join(missing, ", ") + " missing", "do not boot with cgroup_disable; on Raspberry Pi boot with cgroup_enable=memory"}
	}
	return finding{ok, strings.Join(wanted, ", "), ""}
}

func v1Controllers(m machine) (have []string) {
	for _, c := range controllers {
		if exists(m.sys + "/fs/cgroup/" + c + "/cgroup.procs") {
			have = append(have, c)
		}
	}
	return have
}

// The inodes of the first namespaces are constants of the kernel.
const (
	initialCgroupNamespace = "cgroup:[4026531835]"
	initialPIDNamespace    = "pid:[4026531836]"
)

func cgroupNamespace(m machine) finding {
	own, err := os.Readlink(m.proc + "/self/ns/cgroup")
	switch {
	case err != nil:
		return finding{fail, "cannot be read", err.Error()}
	case own != initialCgroupNamespace:
		return finding{note, "not the initial one", "fine if this is a node in a container (kind); else run podproc on the node itself, or privileged and with hostPID"}
	}
	return finding{ok, "the initial one", ""}
}

func pidNamespace(m machine) finding {
	own, err := os.Readlink(m.proc + "/self/ns/pid")
	switch {
	case err != nil:
		return finding{fail, "cannot be read", err.Error()}
	case own != initialPIDNamespace:
		return finding{note, "not the initial one", "only the processes of this one can be served; a pod needs hostPID: true"}
	}
	return finding{ok, "the initial one", ""}
}

func fuse(m machine) finding {
	const load = "load the kernel's module (modprobe fuse); a container must be privileged"
	file, err := os.OpenFile(m.dev+"/fuse", os.O_RDWR, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return finding{fail, "there is no /dev/fuse", load}
	case err != nil:
		return finding{fail, "/dev/fuse cannot be opened (" + bareErrno(err) + ")", load}
	}
	file.Close()
	for line := range strings.Lines(read(m.proc + "/filesystems")) {
		if strings.TrimSpace(strings.TrimPrefix(line, "nodev")) == "fuse" {
			return finding{ok, "/dev/fuse", ""}
		}
	}
	return finding{fail, "the kernel does not know the file system fuse", load}
}

// namespaces makes a process in namespaces of its own.
func namespaces(machine) finding {
	cmd := &exec.Cmd{
		Path: "/proc/self/exe", Args: []string{"podproc", "--version"},
		SysProcAttr: &unix.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID},
	}
	if err := cmd.Run(); err != nil {
		return finding{fail, "mount and pid namespaces cannot be made (" + bareErrno(err) + ")", "run as root with CAP_SYS_ADMIN; a container must be privileged"}
	}
	return finding{ok, "mount and pid namespaces can be made", ""}
}

func swapAccounting(m machine) finding {
	swap := strings.Contains(read(m.proc+"/swaps"), "\n") // below the header
	switch accounted := swapAccounted(m); {
	case !accounted && swap:
		return finding{note, "the kernel does not count swap of containers", "boot with swapaccount=1, else containers see the machine's swap"}
	case !accounted:
		return finding{ok, "off, and there is no swap", ""}
	case !swap:
		return finding{ok, "on, but there is no swap", ""}
	}
	return finding{ok, "on", ""}
}

func swapAccounted(m machine) bool {
	if exists(m.sys + "/fs/cgroup/memory/memory.memsw.limit_in_bytes") {
		return true
	}
	// On v2 the root has no such file; each cgroup below it has.
	found, _ := filepath.Glob(m.sys + "/fs/cgroup/*/memory.swap.max")
	return len(found) > 0 || exists(m.sys+"/fs/cgroup/cgroup.controllers") && !strings.Contains(read(m.proc+"/cmdline"), "swapaccount=0")
}

func psi(m machine) finding {
	file := m.proc + "/pressure/cpu"
	switch _, err := os.ReadFile(file); {
	case errors.Is(err, fs.ErrNotExist):
		return finding{note, "the kernel has none", "only the pressure files need it (CONFIG_PSI)"}
	case err != nil:
		return finding{note, "switched off (" + bareErrno(err) + ")", "only the pressure files need it; boot with psi=1"}
	}
	return finding{ok, "on", ""}
}

func selinux(m machine) finding {
	switch read(m.sys + "/fs/selinux/enforce") {
	case "1":
		return finding{note, "enforcing", "containers must be allowed to read fusefs_t, as they are by default; if one is refused, ausearch -m avc shows it"}
	case "0":
		return finding{ok, "permissive", ""}
	}
	return finding{ok, "not in use", ""}
}

// apparmor: the profiles of containerd, CRI-O and Docker let containers read
// all of /proc and refuse writes, which podproc does, too.
func apparmor(m machine) finding {
	if strings.HasPrefix(read(m.sys+"/module/apparmor/parameters/enabled"), "Y") {
		return finding{ok, "in use; the profiles of container runtimes allow what podproc needs", ""}
	}
	return finding{ok, "not in use", ""}
}

// read returns what a small file of the kernel says; "" if it is not there.
func read(path string) string {
	b, _ := os.ReadFile(path)
	return strings.TrimSuffix(string(b), "\n")
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func bareErrno(err error) string {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	return err.Error()
}
