// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

// Init is the VM's first process, twice: in the initramfs it loads the disk's
// driver and changes over to the disk; there it sets up what a Debian machine
// with systemd would have (cgroups with every controller enabled, a shared root,
// descriptors by the half million), does the task it finds and powers off.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/podproc/podproc/test/vm/wire"
	"golang.org/x/sys/unix"
)

const worker = "worker" // the argument of the second process, which does the work

func main() {
	if err := run(); err != nil {
		fmt.Println("init:", err) // to the console
	}
	if os.Getpid() == 1 {
		_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	}
}

func run() error {
	if len(os.Args) > 1 && os.Args[1] == worker {
		return work()
	}
	if _, err := os.Stat(wire.Payload); err != nil {
		return enterDisk()
	}
	if err := setUp(); err != nil {
		return err
	}
	return reap()
}

// enterDisk runs in the initramfs and ends by executing init from the disk.
func enterDisk() error {
	if err := mount("dev", "/dev", "devtmpfs", 0, ""); err != nil {
		return err
	}
	if err := loadModules(); err != nil {
		return err
	}
	if err := mount("/dev/vda", "/mnt", "ext4", unix.MS_NOATIME, ""); err != nil {
		return err
	}
	if err := mount("/dev", "/mnt/dev", "", unix.MS_MOVE, ""); err != nil {
		return err
	}
	if err := unix.Chdir("/mnt"); err != nil {
		return err
	}
	if err := mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return err
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	return unix.Exec("/sbin/init", []string{"/sbin/init"}, os.Environ())
}

func setUp() error {
	for _, m := range []struct {
		source, target, kind string
		flags                uintptr
		data                 string
	}{
		{"proc", "/proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"sysfs", "/sys", "sysfs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"devpts", "/dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "gid=5,mode=620,ptmxmode=666"},
		{"tmpfs", "/dev/shm", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, ""},
		{"tmpfs", "/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=755"},
		{"/dev/vdb", wire.Payload, "ext4", unix.MS_NOATIME, ""},
		{"", "/", "", unix.MS_REC | unix.MS_SHARED, ""},
	} {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return err
		}
		if err := mount(m.source, m.target, m.kind, m.flags, m.data); err != nil {
			return err
		}
	}
	for link, target := range map[string]string{"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"} {
		_ = os.Symlink(target, filepath.Join("/dev", link))
	}
	if err := loadModules(); err != nil {
		return err
	}
	if err := mount("fusectl", "/sys/fs/fuse/connections", "fusectl", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return err
	}
	if err := mountCgroups(); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte("vm")); err != nil {
		return err
	}
	if err := loopbackUp(); err != nil {
		return err
	}
	return unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1024, Max: 524288})
}

// reap starts the worker and waits for every orphan until the worker has ended.
func reap() error {
	cmd := exec.Command("/sbin/init", worker)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	for {
		pid, err := syscall.Wait4(-1, nil, 0, nil)
		if err != nil && err != syscall.EINTR {
			return err
		}
		if pid == cmd.Process.Pid {
			return nil
		}
	}
}

func work() error {
	data, err := os.ReadFile(wire.TaskFile)
	if err != nil {
		return err
	}
	var task wire.Task
	if err := json.Unmarshal(data, &task); err != nil {
		return err
	}
	for _, m := range task.Mounts {
		if err := os.MkdirAll(m.Dir, 0o755); err != nil {
			return err
		}
		if err := mount(m.Device, m.Dir, "ext4", unix.MS_NOATIME, ""); err != nil {
			return err
		}
	}
	if task.Swap != "" {
		if err := swapOn(task.Swap); err != nil {
			return err
		}
	}
	if task.Shell {
		return shell()
	}
	return runJobs(task.Jobs)
}

func mount(source, target, kind string, flags uintptr, data string) error {
	if err := unix.Mount(source, target, kind, flags, data); err != nil {
		return fmt.Errorf("mount %s: %w", target, err)
	}
	return nil
}
