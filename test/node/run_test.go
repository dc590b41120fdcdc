// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestExitStatus: podproc run exits as CMD does, and says what went wrong
// before.
func TestExitStatus(t *testing.T) {
	tests := []struct {
		name   string
		args   []string
		code   int
		stderr string
	}{
		{"success", []string{"run", "--", "true"}, 0, ""},
		{"status", []string{"run", "--", "sh", "-c", "exit 7"}, 7, ""},
		{"signal", []string{"run", "--", "sh", "-c", "kill -9 $$"}, 137, ""},
		{"no such command", []string{"run", "--", "podproc-no-such-command"}, 127, "podproc run: execute podproc-no-such-command: executable file not found in $PATH\n"},
		{"not executable", []string{"run", "--", "/etc/passwd"}, 126, "podproc run: execute /etc/passwd: permission denied\n"},
		{"no command", []string{"run"}, 2, "podproc: no command to run; say podproc run [flags] -- CMD [ARG...]\n"},
		{"unknown flag", []string{"run", "--mem", "1", "--", "true"}, 2, "podproc: flag provided but not defined: -mem; see podproc run --help\n"},
		{"bad memory", []string{"run", "--memory", "256MB", "--", "true"}, 2, `podproc: invalid value "256MB" for flag -memory: write it as Kubernetes does: 256Mi, 1.5Gi, 500M; see podproc run --help` + "\n"},
		{"bad cpus", []string{"run", "--cpus", "one", "--", "true"}, 2, `podproc: invalid value "one" for flag -cpus: write it as Kubernetes does: 2, 1.5, 500m; see podproc run --help` + "\n"},
		{"bad cpuset", []string{"run", "--cpuset", "1-0", "--", "true"}, 2, "podproc: --cpuset 1-0: write a list of CPUs: 0-1, 0,2\n"},
		{"no parent", []string{"run", "--cgroup-parent", "/podproc-no-such-parent", "--", "true"}, 125, "podproc: there is no cgroup /podproc-no-such-parent: make it, or leave --cgroup-parent out\n"},
		{"unknown command", []string{"walk"}, 2, "podproc: unknown command \"walk\"; see podproc --help\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cmd := exec.Command(podproc, tt.args...)
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			out, err := cmd.Output()
			if cmd.ProcessState == nil {
				t.Fatal(err)
			}
			if code := cmd.ProcessState.ExitCode(); code != tt.code || stderr.String() != tt.stderr || len(out) > 0 {
				t.Errorf("podproc %q: exit status %d, %q, %q, want %d, %q", tt.args, code, out, &stderr, tt.code, tt.stderr)
			}
		})
	}
}

func TestHelp(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"run", "--help"}, {"check", "--help"}} {
		out, err := exec.Command(podproc, args...).Output()
		if err != nil || !strings.Contains(string(out), "Examples:") {
			t.Errorf("podproc %q: %v: %s", args, err, out)
		}
	}
	if out, err := exec.Command(podproc, "--version").Output(); err != nil || !strings.HasPrefix(string(out), "podproc ") {
		t.Errorf("podproc --version: %v: %s", err, out)
	}
}

// TestCheck: this machine has what podproc needs, and each line says so.
func TestCheck(t *testing.T) {
	out, err := exec.Command(podproc, "check").Output()
	if err != nil {
		t.Errorf("podproc check: %v:\n%s", err, out)
	}
	for _, need := range []string{"root", "kernel", "cgroups", "controllers", "FUSE", "namespaces", "swap accounting", "PSI", "SELinux", "AppArmor", "trial"} {
		if !strings.Contains(string(out), " "+need+" ") {
			t.Errorf("podproc check says nothing of %s:\n%s", need, out)
		}
	}
	if !strings.HasSuffix(string(out), "ok    trial             a container of 64 MiB and one CPU sees just that\n") {
		t.Errorf("podproc check ends with\n%s", out)
	}
}

func TestStandardInput(t *testing.T) {
	want := strings.Repeat("all that comes in goes out\n", 100_000)
	cmd := exec.Command(podproc, "run", "--memory", "64Mi", "--", "cat")
	cmd.Stdin = strings.NewReader(want)
	out, err := cmd.Output()
	if err != nil || string(out) != want {
		t.Errorf("podproc run -- cat: %v, %d of %d bytes", err, len(out), len(want))
	}
}

// counting counts the signal that it is named, until it is told to end, and
// reads meanwhile.
const counting = `n=0; trap 'n=$((n+1)); echo got $n' %s; trap 'exit 9' USR2; echo ready; while :; do read -r l < /proc/meminfo; sleep 0.02; done`

// TestSignals: a signal to podproc run reaches CMD.
func TestSignals(t *testing.T) {
	for name, signal := range map[string]syscall.Signal{"TERM": unix.SIGTERM, "INT": unix.SIGINT, "HUP": unix.SIGHUP, "QUIT": unix.SIGQUIT, "USR1": unix.SIGUSR1, "WINCH": unix.SIGWINCH} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(podproc, "run", "--fs", tree, "--", "sh", "-c", fmt.Sprintf(counting, name))
			c := &conversation{t: t, cmd: cmd}
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			go c.listen(out)
			defer c.end()
			c.wait("ready\n")
			for i := range 3 {
				_ = cmd.Process.Signal(signal)
				c.wait(fmt.Sprintf("got %d\n", i+1))
			}
			_ = cmd.Process.Signal(unix.SIGUSR2)
			if code := c.end(); code != 9 {
				t.Errorf("exit status %d, want 9", code)
			}
		})
	}
	// What the caller ignores CMD ignores, as with nohup.
	signal.Ignore(unix.SIGHUP)
	k := startKilled(t, []string{"--fs", tree}, "exec sleep 1000")
	signal.Notify(make(chan os.Signal, 1), unix.SIGHUP)
	_ = k.cmd.Process.Signal(unix.SIGHUP)
	_ = k.cmd.Process.Signal(unix.SIGUSR2)
	_ = k.cmd.Wait()
	if code := k.cmd.ProcessState.ExitCode(); code != 128+int(unix.SIGUSR2) {
		t.Errorf("exit status %d after a SIGHUP that is ignored and SIGUSR2, want %d", code, 128+int(unix.SIGUSR2))
	}
	// CMD without a handler ends by the signal, pid 1 or not.
	k = startKilled(t, []string{"--fs", tree}, "exec sleep 1000")
	_ = k.cmd.Process.Signal(unix.SIGTERM)
	_ = k.cmd.Wait()
	if code := k.cmd.ProcessState.ExitCode(); code != 128+15 {
		t.Errorf("exit status %d after SIGTERM, want 143", code)
	}
}

// conversation is a process whose output a test waits for.
type conversation struct {
	t   *testing.T
	cmd *exec.Cmd
	process
}

func (c *conversation) listen(r io.Reader) {
	buf := make([]byte, 4096)
	for {
		n, err := r.Read(buf)
		c.Write(buf[:n])
		if err != nil {
			return
		}
	}
}

func (c *conversation) said() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.String()
}

func (c *conversation) wait(text string) {
	c.t.Helper()
	for end := time.Now().Add(patience); !strings.Contains(c.said(), text); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			_ = c.cmd.Process.Kill()
			c.t.Fatalf("does not say %q but %q", text, c.said())
		}
	}
}

func (c *conversation) end() int {
	if c.cmd.ProcessState == nil {
		timer := time.AfterFunc(patience, func() { _ = c.cmd.Process.Kill() })
		_ = c.cmd.Wait()
		timer.Stop()
	}
	return c.cmd.ProcessState.ExitCode()
}

// openTerminal returns both ends of a new terminal.
func openTerminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatalf("make a terminal: %v", err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close(); slave.Close() })
	return master, slave
}

// TestTerminal: CMD has the terminal, and what is typed there reaches it once.
func TestTerminal(t *testing.T) {
	master, slave := openTerminal(t)
	cmd := exec.Command(podproc, "run", "--fs", tree, "--", "sh", "-c", "test -t 0 && test -t 1 && tty && stty size; "+fmt.Sprintf(counting, "INT"))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 33, Col: 77}); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &conversation{t: t, cmd: cmd}
	go c.listen(master)
	defer c.end()
	c.wait("ready")
	if !strings.Contains(c.said(), "/dev/pts/") || !strings.Contains(c.said(), "33 77") {
		t.Errorf("CMD's terminal: %q", c.said())
	}
	if _, err := master.Write([]byte{3}); err != nil { // ^C
		t.Fatal(err)
	}
	c.wait("got 1")
	_ = cmd.Process.Signal(unix.SIGINT) // and one that is sent
	c.wait("got 2")
	_ = cmd.Process.Signal(unix.SIGUSR2)
	if code := c.end(); code != 9 {
		t.Errorf("exit status %d, want 9: %q", code, c.said())
	}
}

// TestJobControl: ^Z stops podproc run for its shell, and fg wakes CMD.
func TestJobControl(t *testing.T) {
	master, slave := openTerminal(t)
	// sh -m makes a job of each command; CMD is typed to by its name.
	script := fmt.Sprintf(`%s run --fs %s -- sh -c 'echo ready; read l; echo "read $l"; exit 9'; echo "stopped $?"; fg >/dev/null; echo "ended $?"`, podproc, tree)
	cmd := exec.Command("sh", "-m", "-c", script)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &conversation{t: t, cmd: cmd}
	go c.listen(master)
	defer c.end()
	for _, step := range []struct{ wait, typed string }{
		{"ready", "\x1a"},
		{"stopped 14", "a line\n"}, // 148, 128 + SIGTSTP, or 147
		{"ended 9", ""},
	} {
		c.wait(step.wait)
		if _, err := master.Write([]byte(step.typed)); err != nil {
			t.Fatal(err)
		}
	}
	if !strings.Contains(c.said(), "read a line") {
		t.Errorf("CMD was not woken, or has lost the terminal: %q", c.said())
	}
}
