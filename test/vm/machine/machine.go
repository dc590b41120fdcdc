// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

// Package machine boots a small virtual machine with Debian's own kernel and
// cgroup v2, in QEMU without KVM, and runs commands in it. It takes
// programs from this machine's Debian packages, keeps what it builds in a cache
// directory, writes nothing elsewhere, and lets no virtual machine outlive Run.
package machine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/podproc/podproc/test/vm/wire"
)

// Machine is a virtual machine to be; zero values are defaults.
type Machine struct {
	Image   Image
	Cache   string            // directory for kernel and images
	Payload map[string]string // path under /payload -> file or directory here
	Disks   []Disk            // further disks
	Cgroup  string            // wire.V2
	Swap    int64             // bytes
	Memory  int               // MiB; 2048
	CPUs    int               // 2
	// Prefix goes before QEMU's command line (nsenter ...), QEMU after it (a
	// network device).
	Prefix, QEMU []string
}

// Disk is an ext4 disk (see MakeDisk) and where it is mounted. What the guest
// writes to it is thrown away.
type Disk struct{ Path, Dir string }

// Run boots the machine, runs the jobs, hands every event to tell, and returns
// once the machine is off. An error means that the machine did not do its task;
// what the jobs themselves made of it is in the events.
func (m Machine) Run(ctx context.Context, jobs []wire.Job, tell func(wire.Event)) error {
	dir, err := os.MkdirTemp("", "podproc-vm-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	boot, args, err := m.prepare(ctx, dir, wire.Task{Jobs: jobs})
	if err != nil {
		return err
	}
	defer boot.close()
	for _, limit := range bootLimits {
		err = m.boot(ctx, dir, args, limit, jobs, tell)
		if !errors.Is(err, errHangs) {
			return err
		}
	}
	return err
}

// bootLimits: without KVM one boot in many dozens hangs, with both CPUs busy,
// before the kernel has said a word; the machine is then switched off and on. A boot takes four seconds, and ten times as long beside others.
var bootLimits = []time.Duration{2 * time.Minute, 4 * time.Minute, 8 * time.Minute}

var errHangs = errors.New("it is not up in time")

// boot is one attempt of Run.
func (m Machine) boot(ctx context.Context, dir string, args []string, limit time.Duration, jobs []wire.Job, tell func(wire.Event)) error {
	listener, err := net.Listen("unix", filepath.Join(dir, "events"))
	if err != nil {
		return err
	}
	defer listener.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	hangs := time.AfterFunc(limit, func() { cancel(errHangs) })
	defer hangs.Stop()
	console := filepath.Join(dir, "console")
	cmd := exec.CommandContext(ctx, args[0], append(args[1:len(args):len(args)], "-serial", "file:"+console)...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	done := make(chan int, 1)
	go func() {
		done <- follow(listener, func(ev wire.Event) {
			if ev.Up {
				hangs.Stop()
			}
			tell(ev)
		})
	}()
	err = runQEMU(cmd)
	listener.Close()
	if finished := <-done; finished == len(jobs) && ctx.Err() == nil {
		return nil
	} else if ctx.Err() != nil {
		err = fmt.Errorf("ended after %d of %d jobs: %w", finished, len(jobs), context.Cause(ctx))
	} else {
		err = fmt.Errorf("went off after %d of %d jobs (%v)", finished, len(jobs), err)
	}
	text, _ := os.ReadFile(console)
	return fmt.Errorf("virtual machine %w\n%s\nits console:\n%s", err, said.String(), tail(text, 16<<10))
}

// Shell boots the machine with its console on this process's terminal.
func (m Machine) Shell(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "podproc-vm-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	boot, args, err := m.prepare(ctx, dir, wire.Task{Shell: true})
	if err != nil {
		return err
	}
	defer boot.close()
	cmd := exec.CommandContext(ctx, args[0], append(args[1:], "-serial", "stdio")...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return runQEMU(cmd)
}

// runQEMU lets QEMU die with this process, even if that is killed.
func runQEMU(cmd *exec.Cmd) error {
	runtime.LockOSThread() // Pdeathsig is sent when the parent's thread ends
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = 5 * time.Second
	return cmd.Run()
}

// prepare writes the disks, which the caller closes, and returns QEMU's command
// line but for its console.
func (m Machine) prepare(ctx context.Context, dir string, task wire.Task) (boot *disks, args []string, err error) {
	if runtime.GOARCH != "amd64" {
		return nil, nil, fmt.Errorf("the virtual machine is an amd64 one, this machine is %s", runtime.GOARCH)
	}
	if err := os.MkdirAll(m.Cache, 0o755); err != nil {
		return nil, nil, err
	}
	init := filepath.Join(dir, "init")
	if err := buildInit(ctx, init); err != nil {
		return nil, nil, err
	}
	built, err := m.Image.build(ctx, m.Cache, init)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			built.close()
		}
	}()
	drives := []string{built.root, filepath.Join(dir, "payload.img")}
	next := func() string { return fmt.Sprintf("/dev/vd%c", 'a'+len(drives)) }
	for _, d := range m.Disks {
		task.Mounts = append(task.Mounts, wire.Mount{Device: next(), Dir: d.Dir})
		drives = append(drives, d.Path)
	}
	if m.Swap > 0 {
		task.Swap = next()
		drives = append(drives, filepath.Join(dir, "swap.img"))
		if err := makeSwap(ctx, drives[len(drives)-1], m.Swap); err != nil {
			return nil, nil, err
		}
	}
	if err := m.makePayload(ctx, dir, task); err != nil {
		return nil, nil, err
	}
	return built, m.commandLine(built, drives, filepath.Join(dir, "events"), task.Shell), nil
}

// commandLine: TCG with the CPU type that does not hang ("max" did, in two of
// eight boots), one thread per CPU, and time-keeping that needs no device.
func (m Machine) commandLine(boot *disks, drives []string, events string, shell bool) []string {
	args := append([]string{}, m.Prefix...)
	args = append(args, "qemu-system-x86_64", "-machine", "q35", "-accel", "tcg,thread=multi,tb-size=1024", "-cpu", "Nehalem",
		"-smp", fmt.Sprint(or(m.CPUs, 2)), "-m", fmt.Sprint(or(m.Memory, 2048)),
		"-nodefaults", "-display", "none", "-no-reboot", "-device", "virtio-rng-pci",
		"-kernel", boot.kernel, "-initrd", boot.initrd,
		"-append", "console=ttyS0 quiet panic=-1 nokaslr mitigations=off psi=1 rdinit=/init "+wire.CgroupEnv+"="+m.Cgroup)
	for _, d := range drives {
		args = append(args, "-drive", "if=virtio,format=raw,cache=unsafe,snapshot=on,file="+d)
	}
	if !shell {
		args = append(args, "-chardev", "socket,id=events,path="+events, "-device", "virtio-serial-pci",
			"-device", "virtserialport,chardev=events,name="+wire.Port)
	}
	return append(args, m.QEMU...)
}

// makePayload makes the disk of the payload and, beside it, the task.
func (m Machine) makePayload(ctx context.Context, dir string, task wire.Task) error {
	stage := filepath.Join(dir, "payload")
	if err := os.Mkdir(stage, 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(stage)
	for guest, host := range m.Payload {
		if err := putTree(stage, guest, host); err != nil {
			return err
		}
	}
	data, err := json.Marshal(task)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(stage, filepath.Base(wire.TaskFile)), data, 0o644); err != nil {
		return err
	}
	return MakeDisk(ctx, filepath.Join(dir, "payload.img"), stage, 64<<20)
}

func makeSwap(ctx context.Context, path string, size int64) error {
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return err
	}
	if err := os.Truncate(path, size); err != nil {
		return err
	}
	_, err := output(ctx, "", "mkswap", path)
	return err
}

// buildInit compiles the guest's first process: the same for every commit that
// does not change it, as it is a part of the image.
func buildInit(ctx context.Context, path string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", path, "github.com/podproc/podproc/test/vm/init")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build init: %w\n%s", err, out)
	}
	return nil
}

// follow hands on the events of the one guest that connects, and returns how
// many jobs ended.
func follow(listener net.Listener, tell func(wire.Event)) (finished int) {
	conn, err := listener.Accept()
	if err != nil {
		return 0
	}
	defer conn.Close()
	for d := json.NewDecoder(conn); ; {
		var ev wire.Event
		if err := d.Decode(&ev); errors.Is(err, io.EOF) {
			return finished
		} else if err != nil { // QEMU was killed in the middle of a line
			return finished
		}
		if ev.Done {
			finished++
		}
		tell(ev)
	}
}

func or(n, standard int) int {
	if n == 0 {
		return standard
	}
	return n
}

// tail returns the last n bytes, from the start of a line.
func tail(text []byte, n int) string {
	if len(text) > n {
		text = text[len(text)-n:]
		if i := bytes.IndexByte(text, '\n'); i >= 0 {
			text = text[i+1:]
		}
	}
	return strings.TrimSpace(string(text))
}
