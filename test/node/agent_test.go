// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// request is what a test asks of the agent in a container. One field is set,
// beside ID, which the answer has too: programs run at the same time.
type request struct {
	ID    int
	Run   []string // run a program
	UID   uint32   // as this user
	Read  string   // read a file
	Start []string // start a helper in the background; its pid inside
	Alloc int      // allocate bytes of memory, of the kind Kind
	Kind  string
	File  string // map this file
	Free  bool   // free all of it
}

type answer struct {
	ID     int
	Cgroup string // the agent's /proc/self/cgroup, in the first answer
	Out    string
	Stderr string
	Code   int
	PID    int
	Error  string
}

// agent does what it is asked for on standard input, until that ends.
func agent([]string) error {
	cgroup, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return err
	}
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	if err := out.Encode(answer{Cgroup: string(cgroup)}); err != nil {
		return err
	}
	var mu sync.Mutex
	for {
		var r request
		if in.Decode(&r) != nil {
			return nil
		}
		do := func() {
			a, err := r.do()
			if err != nil {
				a.Error = err.Error()
			}
			a.ID = r.ID
			mu.Lock()
			defer mu.Unlock()
			_ = out.Encode(a)
		}
		if r.Run != nil {
			go do()
		} else {
			do()
		}
	}
}

var allocated [][]byte

func (r *request) do() (a answer, err error) {
	switch {
	case r.Run != nil:
		return r.run()
	case r.Start != nil:
		cmd := helper(r.Start...)
		cmd.Stderr = os.Stderr
		if err = cmd.Start(); err == nil {
			a.PID = cmd.Process.Pid
			go cmd.Wait()
		}
	case r.Read != "":
		var b []byte
		b, err = os.ReadFile(r.Read)
		a.Out = string(b)
	case r.Alloc > 0:
		err = r.alloc()
	case r.Free:
		for _, m := range allocated {
			err = errors.Join(err, unix.Munmap(m))
		}
		allocated = nil
	}
	return a, err
}

func (r *request) run() (a answer, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, r.Run[0], r.Run[1:]...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "COLUMNS=120", "LINES=40", "TERM=dumb")
	cmd.WaitDelay = time.Second
	if r.UID != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: r.UID, Gid: r.UID}}
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	if exit := new(exec.ExitError); errors.As(err, &exit) && exit.Exited() {
		err = nil
	}
	if cmd.ProcessState != nil {
		a.Code = cmd.ProcessState.ExitCode()
	}
	a.Out, a.Stderr = stdout.String(), stderr.String()
	if ctx.Err() != nil {
		err = fmt.Errorf("%v does not end", r.Run)
	}
	return a, err
}

// alloc touches memory of some kind.
func (r *request) alloc() error {
	const protection = unix.PROT_READ | unix.PROT_WRITE
	switch r.Kind {
	case "anon", "huge":
		// Whole huge pages need room to be aligned.
		m, err := unix.Mmap(-1, 0, r.Alloc+2<<20, protection, unix.MAP_PRIVATE|unix.MAP_ANON)
		if err != nil {
			return err
		}
		allocated = append(allocated, m)
		advice := unix.MADV_NOHUGEPAGE
		if r.Kind == "huge" {
			advice = unix.MADV_HUGEPAGE
		}
		if err := unix.Madvise(m, advice); err != nil {
			return fmt.Errorf("madvise: %w", err)
		}
		start := int(-uintptr(unsafe.Pointer(&m[0])) & (2<<20 - 1))
		touch(m[start:start+r.Alloc], true)
		if r.Kind == "huge" {
			// Where memory was in pieces when it was touched.
			_ = unix.Madvise(m[start:start+r.Alloc], 25) // MADV_COLLAPSE, Linux 6.1
		}
	case "mapped":
		f, err := os.Open(r.File)
		if err != nil {
			return err
		}
		defer f.Close()
		m, err := unix.Mmap(int(f.Fd()), 0, r.Alloc, unix.PROT_READ, unix.MAP_SHARED)
		if err != nil {
			return err
		}
		allocated = append(allocated, m)
		touch(m, false)
	case "shm": // locked System V shared memory, which is unevictable but not anonymous
		id, err := unix.SysvShmGet(0, r.Alloc, 0o600|unix.IPC_CREAT)
		if err != nil {
			return fmt.Errorf("shmget: %w", err)
		}
		m, err := unix.SysvShmAttach(id, 0, 0)
		if err != nil {
			return fmt.Errorf("shmat: %w", err)
		}
		const shmLock = 11
		_, err1 := unix.SysvShmCtl(id, shmLock, nil)
		touch(m, true)
		_, err2 := unix.SysvShmCtl(id, unix.IPC_RMID, nil) // once it is detached, with the agent
		return errors.Join(err1, err2)
	default:
		return fmt.Errorf("unknown kind %q", r.Kind)
	}
	return nil
}

var sink byte

func touch(m []byte, write bool) {
	for i := 0; i < len(m); i += 4096 {
		if write {
			m[i] = 1
		} else {
			sink += m[i]
		}
	}
}

// burn keeps one CPU busy for as long as its parent lives.
func burn([]string) error {
	parent := os.Getppid()
	for end := time.Now(); ; {
		if now := time.Now(); now.After(end) {
			if os.Getppid() != parent {
				return nil
			}
			end = now.Add(time.Second)
		}
	}
}

// helper is a command that runs a helper.
func helper(args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args[1:]...)
	cmd.Env = append(os.Environ(), "PODPROC_HELPER="+args[0], "GOMAXPROCS=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}
