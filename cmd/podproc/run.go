// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podproc/podproc/fusefs"
	"github.com/podproc/podproc/fusefs/mounts"
)

// runCommand is "podproc run".
func runCommand(_ context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	o, err := parseRun(args, stdout)
	if err != nil {
		return err
	}
	if err := ready(o); err != nil {
		return exitError{125, err}
	}
	status, err := start(o, stdin, stdout, stderr)
	switch {
	case err != nil:
		return exitError{125, err}
	case status != 0:
		return exitStatus(status)
	}
	return nil
}

// ready refuses what cannot work, before anything is made.
func ready(o *options) error {
	if os.Geteuid() != 0 {
		return errors.New("podproc run makes cgroups and mounts: run it as root (sudo podproc run ...)")
	}
	if o.fs == "" {
		if err := unix.Access("/dev/fuse", unix.R_OK|unix.W_OK); err != nil {
			return fmt.Errorf("/dev/fuse cannot be used (%w): load the kernel's fuse module (modprobe fuse), and see podproc check", err)
		}
		return nil
	}
	if _, err := os.Lstat(o.fs + "/proc"); err != nil {
		return fmt.Errorf("no podproc files at --fs %s (%w): start podproc-node serve --mount %[1]s, or leave --fs out", o.fs, err)
	}
	return nil
}

// start makes the container, waits for CMD and takes all away again.
func start(o *options, stdin io.Reader, stdout, stderr io.Writer) (status int, err error) {
	s, err := newScope(o.parent)
	if err != nil {
		return 0, err
	}
	// Before the cgroup, so that there is no moment at which it could be left.
	release, err := startReaper(s)
	if err != nil {
		return 0, err
	}
	defer release()
	if err := s.create(o); err != nil {
		return 0, err
	}
	defer s.remove(2 * time.Second)

	control, theirs, err := newControl()
	if err != nil {
		return 0, err
	}
	defer control.Close()
	signals := catch()
	cmd := &exec.Cmd{
		Path: "/proc/self/exe", Args: append([]string{initName}, o.command...),
		Stdin: stdin, Stdout: stdout, Stderr: stderr,
		ExtraFiles: []*os.File{theirs},
		SysProcAttr: &unix.SysProcAttr{
			Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID,
			Pdeathsig:  unix.SIGKILL,
		},
	}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("make pid and mount namespaces: %w", err)
	}
	theirs.Close()
	if err := furnish(o, s, control, cmd.Process.Pid); err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return 0, err
	}
	go forward(signals, control)
	go obey(control)
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code >= 0 {
		return code, nil
	}
	return 0, fmt.Errorf("the container's init was ended from outside: %s", cmd.ProcessState)
}

// furnish serves the files in the namespaces of init, whose pid is given, and
// lets it start CMD. If init has ended already, it has said why.
func furnish(o *options, s *scope, control *os.File, pid int) error {
	if kind, _, _ := receive(control); kind != packetReady {
		return nil
	}
	c := container{Cgroups: s.dirs, FS: o.fs, Files: o.files}
	if o.fs == "" {
		// Over the container's procfs, which is there in any case, until the
		// files are bound. The server needs no end: its mounts end with
		// init's namespace, and it with them or with this process.
		c.FS, c.Detach = "/proc", true
		if err := serve(mounts.Point{Namespace: fmt.Sprintf("/proc/%d/ns/mnt", pid), Dir: c.FS}); err != nil {
			return err
		}
	}
	config, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if err := send(control, packetStart, config); err != nil {
		return fmt.Errorf("start container: %w", err)
	}
	return nil
}

// serve serves the file system in this process.
func serve(at mounts.Point) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	fs, err := fusefs.New(fusefs.Config{Log: log})
	if err != nil {
		return err
	}
	_, err = fusefs.Mount(fs, at)
	return err
}

// startReaper starts the process that removes the cgroups of s should this one
// be killed. It lives in a session of its own, where no terminal reaches it.
func startReaper(s *scope) (release func(), err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make pipe: %w", err)
	}
	cmd := &exec.Cmd{
		Path: "/proc/self/exe", Args: append([]string{reapName}, s.dirs...), Dir: "/",
		ExtraFiles:  []*os.File{r},
		SysProcAttr: &unix.SysProcAttr{Setsid: true},
	}
	err = cmd.Start()
	r.Close()
	if err != nil {
		w.Close()
		return nil, fmt.Errorf("start helper: %w", err)
	}
	return func() {
		w.Close()
		_ = cmd.Wait()
	}, nil
}

// forward tells init of the signals that this process gets.
func forward(signals <-chan os.Signal, control *os.File) {
	for s := range signals {
		_ = send(control, packetSignal, []byte{byte(s.(unix.Signal))})
	}
}

// obey stops this process when CMD has stopped, so that a shell's job control
// works; the shell's "fg" wakes the whole process group.
func obey(control *os.File) {
	for {
		kind, _, err := receive(control)
		if kind == 0 || err != nil {
			return
		}
		if kind == packetStopped {
			_ = unix.Kill(unix.Getpid(), unix.SIGSTOP)
		}
	}
}
