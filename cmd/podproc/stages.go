// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A container is made by three processes of this program:
//
//	podproc run    serves the files, passes signals in and the exit status out
//	podproc-init   pid 1 of the container: waits for the others and passes
//	               signals to CMD, for which pid 1 would be no good place (the
//	               kernel withholds signals from it that it does not handle).
//	               It is killed with podproc run, and the kernel then kills all
//	               that is in its pid namespace. It stays out of the cgroup.
//	podproc-enter  enters the cgroup, puts the files over the kernel's and
//	               becomes CMD. Its path lookups come from inside of the
//	               cgroup, as those of a container runtime do.
//
// and podproc-reap, which removes the cgroup when podproc run was killed.
const (
	initName  = "podproc-init"
	enterName = "podproc-enter"
	reapName  = "podproc-reap"
)

// container is what the inner stages are told.
type container struct {
	Cgroups []string // directories to enter
	FS      string   // where podproc's tree is in this mount namespace
	Detach  bool     // the tree is this container's alone: detach it once the files are bound
	Files   []string // paths from its root, and from / in the container
}

// controlFD is the socket between podproc run and podproc-init. Each packet
// has a kind and a payload.
const controlFD = 3

const (
	packetReady   = 'r' // init -> run: the namespaces are made
	packetStart   = 's' // run -> init: a container as JSON; make it
	packetSignal  = 'k' // run -> init: a signal number for CMD
	packetStopped = 't' // init -> run: CMD has stopped
)

// newControl returns both ends of a control socket.
func newControl() (run, init *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make control socket: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "control"), os.NewFile(uintptr(fds[1]), "control"), nil
}

func send(f *os.File, kind byte, payload []byte) error {
	_, err := f.Write(append([]byte{kind}, payload...))
	return err
}

// receive returns kind 0 when the other side is gone.
func receive(f *os.File) (kind byte, payload []byte, err error) {
	buf := make([]byte, 1<<16)
	n, err := f.Read(buf)
	if n == 0 {
		return 0, nil, err
	}
	return buf[0], buf[1:n], nil
}

// initStage is podproc-init. Its exit status is CMD's.
func initStage(command []string) error {
	unix.CloseOnExec(controlFD)
	control := os.NewFile(controlFD, "control")
	name(initName)
	// What is mounted here must not be seen outside; what is unmounted
	// outside need not stay here.
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return setup("separate mounts from the machine's", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return setup("mount the container's /proc", err)
	}
	// Now, while /proc/self/exe is there: podproc run puts its tree over /proc.
	pid, config, err := startEnter(command)
	if err != nil {
		return setup("start the container's second stage", err)
	}
	if err := send(control, packetReady, nil); err != nil {
		return setup("report to podproc run", err)
	}
	kind, payload, _ := receive(control)
	if kind != packetStart {
		return exitStatus(125) // podproc run is gone, or says why itself
	}
	if _, err := config.Write(payload); err != nil {
		return setup("configure the container's second stage", err)
	}
	config.Close()
	go relay(control, pid)
	return exitStatus(reap(pid, func() { _ = send(control, packetStopped, nil) }))
}

// name is what ps and top show; the kernel would call us "exe".
func name(s string) {
	if b, err := unix.BytePtrFromString(s); err == nil {
		_ = unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(b)), 0, 0, 0)
	}
}

func setup(what string, err error) error {
	return exitError{125, fmt.Errorf("%s: %w", what, err)}
}

// startEnter starts podproc-enter, which waits for its configuration, and
// returns its pid, which will be CMD's.
func startEnter(command []string) (pid int, config *os.File, err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return 0, nil, err
	}
	defer r.Close()
	p, err := os.StartProcess("/proc/self/exe", append([]string{enterName}, command...), &os.ProcAttr{
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr, r},
	})
	if err != nil {
		w.Close()
		return 0, nil, err
	}
	return p.Pid, w, nil
}

// reap waits for all that becomes a child of pid 1, until CMD ends, and
// returns what a shell would say of that.
func reap(cmd int, stopped func()) int {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WUNTRACED, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 125 // no child: cannot be
		case pid != cmd:
		case status.Exited():
			return status.ExitStatus()
		case status.Signaled():
			return 128 + int(status.Signal())
		case status.Stopped():
			stopped()
		}
	}
}

// enterStage is podproc-enter. It returns only if CMD cannot be executed.
func enterStage(command []string) error {
	const configFD = 3
	unix.CloseOnExec(configFD)
	var c container
	if err := json.NewDecoder(os.NewFile(configFD, "config")).Decode(&c); err != nil {
		return setup("read the container's configuration", err)
	}
	if err := join(c.Cgroups); err != nil {
		return setup("make the container", err)
	}
	if err := bind(&c); err != nil {
		return setup("put the container's files in place", err)
	}
	path, err := exec.LookPath(command[0])
	if errors.Is(err, exec.ErrDot) {
		err = nil // a PATH with "." is the caller's choice
	}
	if err == nil {
		err = unix.Exec(path, command, os.Environ())
	}
	code := 126
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, exec.ErrNotFound) {
		code = 127
	}
	return exitError{code, fmt.Errorf("execute %s: %w", command[0], bare(err))}
}

// bare is err without the name that the message has already.
func bare(err error) error {
	var e *exec.Error
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}

// bind puts the files over the kernel's. All are found before the first is
// put in place: the tree may lie under /proc itself.
func bind(c *container) error {
	var trees []int
	for _, name := range c.Files {
		fd, err := unix.OpenTree(unix.AT_FDCWD, filepath.Join(c.FS, name), unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		if err != nil {
			return fmt.Errorf("find %s in %s: %w", name, c.FS, err)
		}
		trees = append(trees, fd)
	}
	if c.Detach {
		if err := unix.Unmount(c.FS, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			return fmt.Errorf("detach the tree: %w", err)
		}
	}
	for i, name := range c.Files {
		target := "/" + name
		if err := unix.MoveMount(trees[i], "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			return fmt.Errorf("mount over %s: %w", target, err)
		}
		const flags = unix.MS_BIND | unix.MS_REMOUNT | unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
		if err := unix.Mount("", target, "", flags, ""); err != nil {
			return fmt.Errorf("make %s read-only: %w", target, err)
		}
		unix.Close(trees[i])
	}
	return nil
}

// reapStage is podproc-reap: it waits until podproc run is gone, which closes
// the pipe, and removes the cgroups that are its arguments.
func reapStage(dirs []string) error {
	name(reapName)
	var b [1]byte
	for {
		if _, err := unix.Read(controlFD, b[:]); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	s := scope{dirs: dirs}
	if !s.remove(time.Minute) {
		return fmt.Errorf("remove cgroups %s: something still runs there", strconv.Quote(dirs[0]))
	}
	return nil
}
