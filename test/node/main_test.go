// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

// Package node tests podproc on this machine's kernel: real mounts, real
// cgroups, and the programs that people use as judges. It needs root and the
// binaries in $PODPROC_BIN (default ../../bin: make build), and runs the same
// on cgroup v1, hybrid and v2, on this machine and in the VM of test/vm.
//
// A container here is what "podproc run --fs" makes, with an agent as its
// command: this test binary, which does inside what a test asks for.
//
// Other work may keep the machine busy at any time. So what depends on time is
// judged by the kernel's own accounting of the same moments, and what must
// merely happen is waited for.
//
// Nothing is skipped: a program that is missing is a failure, unless
// $PODPROC_ABSENT names it ("java,atop"). PODPROC_SOAK=1 runs the long forms.
package node

import (
	"bufio"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// freshness is how old what a reader sees may be.
const freshness = 100 * time.Millisecond

// patience is for things that must merely happen.
const patience = time.Minute

var (
	soak = os.Getenv("PODPROC_SOAK") != ""

	podproc     string // the binaries
	podprocNode string
	scratch     string // a directory that all containers see
	tree        string // what the server serves
	server      *process
)

// helpers are the processes that the test binary starts of itself, named by
// $PODPROC_HELPER.
var helpers = map[string]func(args []string) error{
	"agent":   agent,
	"burn":    burn,
	"hog":     hog,
	"load":    load,
	"readers": readers,
	"watch":   watch,
}

func init() { runtime.LockOSThread() }

func TestMain(m *testing.M) {
	if name := os.Getenv("PODPROC_HELPER"); name != "" {
		os.Unsetenv("PODPROC_HELPER")
		if err := helpers[name](os.Args[1:]); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	log.SetFlags(0)
	// Whoever started this may ignore signals (nohup, a shell's "&"); the
	// children are not to inherit that. A handler that does nothing is the
	// same for this process.
	for _, s := range []os.Signal{unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGTERM} {
		if signal.Ignored(s) {
			signal.Notify(make(chan os.Signal, 1), s)
		}
	}
	code, err := testMain(m)
	if err != nil {
		log.Fatal("test/node: ", err)
	}
	os.Exit(code)
}

func testMain(m *testing.M) (code int, err error) {
	if os.Geteuid() != 0 {
		return 1, fmt.Errorf("needs root")
	}
	bin := os.Getenv("PODPROC_BIN")
	if bin == "" {
		bin = "../../bin"
	}
	if bin, err = filepath.Abs(bin); err != nil {
		return 1, err
	}
	podproc, podprocNode = bin+"/podproc", bin+"/podproc-node"
	for _, path := range []string{podproc, podprocNode} {
		if _, err := os.Stat(path); err != nil {
			return 1, fmt.Errorf("%w: run make build, or say in PODPROC_BIN where the binaries are", err)
		}
	}
	if scratch, err = os.MkdirTemp("", "podproc-test-"); err != nil {
		return 1, err
	}
	defer os.RemoveAll(scratch)
	if err := os.Chmod(scratch, 0o755); err != nil { // also for readers that are not root
		return 1, err
	}
	tree = scratch + "/fs"
	if server, err = startServer(tree); err != nil {
		return 1, err
	}
	code = m.Run()
	server.signal(unix.SIGTERM)
	if err := server.wait(patience); err != nil {
		log.Printf("podproc-node: %v", err)
		code = max(code, 1)
	}
	for _, line := range server.lines() {
		if strings.Contains(line, "level=ERROR") || strings.Contains(line, "panic") {
			log.Printf("podproc-node said: %s", line)
			code = max(code, 1)
		}
	}
	return code, nil
}

// startServer starts podproc-node and waits until its files can be read.
func startServer(dir string, flags ...string) (*process, error) {
	p := &process{cmd: exec.Command(podprocNode, append([]string{"serve", "--mount", dir}, flags...)...)}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM} // should the tests be killed
	out, err := p.start()
	if err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if line != "ready\n" {
		p.signal(unix.SIGKILL)
		return nil, fmt.Errorf("podproc-node is not ready but says %q, %q (%v)", line, p.lines(), err)
	}
	return p, nil
}

// process is a child whose standard error is kept.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error

	mu   sync.Mutex
	text strings.Builder
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.Write(b)
}

func (p *process) lines() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Split(strings.TrimSpace(p.text.String()), "\n")
}

func (p *process) start() (io.Reader, error) {
	p.done = make(chan struct{})
	p.cmd.Stderr = p
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		state, err := p.cmd.Process.Wait()
		if err == nil && !state.Success() {
			err = fmt.Errorf("%s", state)
		}
		p.err = err
		close(p.done)
	}()
	return out, nil
}

func (p *process) signal(s unix.Signal) { _ = p.cmd.Process.Signal(s) }

func (p *process) wait(patience time.Duration) error {
	select {
	case <-p.done:
		return p.err
	case <-time.After(patience):
		p.signal(unix.SIGKILL)
		return fmt.Errorf("still runs after %s", patience)
	}
}

// absent tells whether $PODPROC_ABSENT names what is missing here.
func absent(name string) bool {
	return slices.Contains(strings.Split(os.Getenv("PODPROC_ABSENT"), ","), name)
}

// need makes sure that the program is here, and skips the test only if it has
// been said that it is not.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, name := range programs {
		_, err := exec.LookPath(name)
		if err != nil && absent(name) {
			t.Skipf("PODPROC_ABSENT says that there is no %s here", name)
		}
		if err != nil {
			t.Fatalf("%v: install it (make deps), or name it in PODPROC_ABSENT", err)
		}
	}
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %s", what, patience)
		}
	}
}
