// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// scopes lists the cgroups that podproc run has made and that are there now.
func scopes() (list []string) {
	for _, pattern := range []string{"/sys/fs/cgroup/podproc-r*.scope", "/sys/fs/cgroup/*/podproc-r*.scope"} {
		found, _ := filepath.Glob(pattern)
		list = append(list, found...)
	}
	return list
}

// marked lists the processes whose environment has the mark.
func marked(mark string) (list []string) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		environ, _ := os.ReadFile(dir + "/environ")
		if strings.Contains(string(environ), mark) {
			command, _ := os.ReadFile(dir + "/cmdline")
			list = append(list, filepath.Base(dir)+" "+strings.ReplaceAll(string(command), "\x00", " "))
		}
	}
	return list
}

// servers lists the servers of podproc's mounts in a mountinfo: the source of
// a mount is the name of its server.
func servers(mountinfo string) (list []string) {
	for line := range strings.Lines(mountinfo) {
		if _, rest, ok := strings.Cut(line, " - fuse.podproc "); ok {
			list = append(list, strings.Fields(rest)[0])
		}
	}
	return list
}

// mounted tells in which processes' namespaces there are mounts of servers.
func mounted() map[string]string {
	list := map[string]string{}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		text, _ := os.ReadFile(dir + "/mountinfo")
		for _, server := range servers(string(text)) {
			list[server] = dir
		}
	}
	return list
}

// killed is a "podproc run" that a test kills.
type killed struct {
	t      *testing.T
	cmd    *exec.Cmd
	mark   string
	scope  string
	server string // of its mounts; "" with --fs
}

// startKilled runs a script by podproc run and waits until it is running:
// until there is a file named by $READY.
func startKilled(t *testing.T, flags []string, script string) *killed {
	t.Helper()
	ready := filepath.Join(t.TempDir(), "ready")
	k := &killed{t: t, mark: fmt.Sprintf("PODPROC_TEST_MARK=%d-%d", os.Getpid(), time.Now().UnixNano())}
	args := append(append([]string{"run"}, flags...), "--", "sh", "-c", "cat /proc/self/cgroup /proc/self/mountinfo > $READY.new; mv $READY.new $READY; "+script)
	k.cmd = exec.Command(podproc, args...)
	k.cmd.Env = append(os.Environ(), k.mark, "READY="+ready)
	k.cmd.Stdout, k.cmd.Stderr = os.Stdout, os.Stderr
	if err := k.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.cmd.Process.Kill() })
	eventually(t, "the container runs", func() bool {
		var status unix.Siginfo
		err := unix.Waitid(unix.P_PID, k.cmd.Process.Pid, &status, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		if err == nil && status.Signo != 0 {
			t.Fatalf("podproc run has ended: %v", k.cmd.Wait())
		}
		return exists(ready)
	})
	for line := range strings.Lines(read(t, ready)) {
		if i := strings.Index(line, "podproc-r"); i >= 0 && k.scope == "" && strings.HasSuffix(line, ".scope\n") {
			k.scope = strings.TrimSpace(line[i:])
		}
	}
	all := servers(read(t, ready))
	if k.scope == "" || len(all) == 0 {
		t.Fatalf("the container has no cgroup or no mounts: %s", read(t, ready))
	}
	if !slices.Contains(flags, "--fs") {
		k.server = all[len(all)-1]
	}
	return k
}

// left tells what is left of the container.
func (k *killed) left() (list []string) {
	for _, path := range scopes() {
		if filepath.Base(path) == k.scope {
			list = append(list, path)
		}
	}
	list = append(list, marked(k.mark)...)
	if where, ok := mounted()[k.server]; ok {
		list = append(list, "mount in the namespace of "+where)
	}
	return list
}

// gone waits until nothing is left, for which two seconds are promised.
func (k *killed) gone(w *stopwatch) {
	k.t.Helper()
	eventually(k.t, "nothing is left", func() bool {
		left := k.left()
		if len(left) > 0 && time.Since(w.start) > patience/2 {
			k.t.Fatalf("after %s there is left: %q", time.Since(w.start), left)
		}
		return len(left) == 0
	})
	w.promised("nothing is left", 2*time.Second)
}

// stopwatch measures what is promised within a time of a machine that is not
// busy with other things.
type stopwatch struct {
	t     *testing.T
	start time.Time
	busy  time.Duration // the machine, at the start
	stop  chan struct{}
	worst chan time.Duration
}

// startWatch starts one; promised ends it.
func startWatch(t *testing.T) *stopwatch {
	t.Helper()
	w := &stopwatch{t, time.Now(), hostBusy(t), make(chan struct{}), make(chan time.Duration, 1)}
	go func() {
		for most := time.Duration(0); ; {
			start := time.Now()
			select {
			case <-w.stop:
				w.worst <- most
				return
			case <-time.After(time.Millisecond):
				most = max(most, time.Since(start)-time.Millisecond)
			}
		}
	}()
	return w
}

// late ends w, and returns by how much a sleeper was woken up late at most.
func (w *stopwatch) late() time.Duration {
	close(w.stop)
	return <-w.worst
}

// promised judges that what has come to pass was promised within a time.
func (w *stopwatch) promised(what string, within time.Duration) {
	w.t.Helper()
	took, busy, late := time.Since(w.start), hostBusy(w.t)-w.busy, w.late()
	w.t.Logf("%s after %s (processes woken up to %s late)", what, took.Round(time.Millisecond), late.Round(time.Millisecond))
	if took > within+10*late && busy < took/2 {
		w.t.Errorf("%s after %s, promised are %s", what, took, within)
	}
}

// hostBusy is how long the machine's CPUs have been busy, on average.
func hostBusy(t *testing.T) time.Duration {
	t.Helper()
	var v [8]int64
	if _, err := fmt.Sscanf(read(t, "/proc/stat"), "cpu %d %d %d %d %d %d %d %d", &v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &v[6], &v[7]); err != nil {
		t.Fatal(err)
	}
	return time.Duration(v[0]+v[1]+v[2]+v[5]+v[6]+v[7]) * 10 * time.Millisecond / time.Duration(hostCPUs(t))
}

// TestKill: when podproc run is killed, so is what it runs, whatever that
// does, and neither process nor mount nor cgroup is left.
func TestKill(t *testing.T) {
	scripts := map[string]string{
		"waiting":          "sleep 1000",
		"ignoring signals": `trap "" TERM INT HUP QUIT PIPE; while :; do sleep 1000; done`,
		"forking":          `while :; do (setsid sleep 1000 &) ; (trap "" HUP TERM; sleep 1000 &); sleep 0.05; done`,
		"reading":          `while :; do cat /proc/meminfo /proc/stat > /dev/null; done`,
		"with cgroups of its own": `for d in /sys/fs/cgroup /sys/fs/cgroup/memory; do p=$d$(sed -n 's/^0:://p; s/.*:memory://p' /proc/self/cgroup | tail -1);
			case $p in *podproc-r*) [ -d $p ] && mkdir -p $p/a/b;; esac; done; sleep 1000`,
	}
	for i, name := range slices.Sorted(maps.Keys(scripts)) {
		for j, flags := range [][]string{{"--memory", "128Mi", "--cpus", "1"}, {"--fs", tree, "--memory", "128Mi"}} {
			if testing.Short() && (i+j)%2 == 1 {
				continue // in the VM processes take long to start
			}
			script := scripts[name]
			t.Run(fmt.Sprintf("%s %s", name, flags[0]), func(t *testing.T) {
				k := startKilled(t, flags, script)
				time.Sleep(200 * time.Millisecond)
				w := startWatch(t)
				if err := k.cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
				_ = k.cmd.Wait()
				k.gone(w)
			})
		}
	}
}

// TestEnd: when CMD ends, all else in the container does.
func TestEnd(t *testing.T) {
	k := startKilled(t, []string{"--memory", "128Mi"}, `(trap "" HUP TERM; setsid sleep 1000 &) ; sleep 0.2; exit 7`)
	_ = k.cmd.Wait()
	if code := k.cmd.ProcessState.ExitCode(); code != 7 {
		t.Errorf("exit status %d, want CMD's 7", code)
	}
	if left := k.left(); len(left) > 0 {
		t.Errorf("podproc run has ended and there is left: %q", left)
	}
}

// TestSweep: what is left when the helper is killed together with podproc run,
// the next one removes, and it leaves alone what is in use.
func TestSweep(t *testing.T) {
	k := startKilled(t, []string{"--memory", "128Mi"}, "sleep 1000")
	used := startKilled(t, []string{"--memory", "128Mi"}, "sleep 1000")
	// In a process group, so that both can be stopped before either acts.
	helper := 0
	eventually(t, "the helper is there", func() bool {
		for _, line := range marked(k.mark) {
			if pid, name, _ := strings.Cut(line, " "); strings.HasPrefix(name, "podproc-reap") {
				_, err := fmt.Sscan(pid, &helper)
				return err == nil
			}
		}
		return false
	})
	if err := unix.Kill(helper, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = k.cmd.Process.Kill()
	_ = k.cmd.Wait()
	eventually(t, "the processes are gone", func() bool { return len(marked(k.mark)) == 0 })
	if left := k.left(); len(left) == 0 {
		t.Fatal("nothing is left of a killed container without a helper: this test shows nothing")
	}
	eventually(t, "another podproc run removes what is left", func() bool {
		isolated(t, []string{"--memory", "64Mi"}, "true")
		return len(k.left()) == 0
	})
	if !slices.ContainsFunc(scopes(), func(path string) bool { return filepath.Base(path) == used.scope }) {
		t.Error("the cgroup of a container that runs was removed")
	}
	w := startWatch(t)
	_ = used.cmd.Process.Signal(syscall.SIGKILL)
	_ = used.cmd.Wait()
	used.gone(w)
}
