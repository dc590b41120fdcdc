// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

// Up starts the test cluster and leaves it running for a person, with podproc's
// image on its nodes.
//
//	go run ./test/cluster/up          node1 (this machine's cgroups) and node2 (a VM, cgroup v2)
//	go run ./test/cluster/up -vm=false
//	go run ./test/cluster/up -down
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/podproc/podproc/test/cluster/nodes"
	"github.com/podproc/podproc/test/deploy"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "up:", err)
		os.Exit(1)
	}
}

func run() error {
	down := flag.Bool("down", false, "end the cluster")
	vm := flag.Bool("vm", true, "with node2")
	keep := flag.Bool("keep", false, "stay, and be the cluster's parent")
	flag.Parse()
	root, err := deploy.Root()
	if err != nil {
		return err
	}
	dir := filepath.Join(root, ".cache", "cluster", "up")
	switch {
	case *down:
		return end(dir)
	case *keep:
		return stay(nodes.Options{Root: root, Dir: dir, VM: *vm, Log: os.Stdout})
	}
	return detach(root, dir, *vm)
}

func pidFile(dir string) string { return dir + ".pid" }

// stay brings the cluster up, says so, and keeps it until SIGTERM.
func stay(o nodes.Options) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE)
	c, err := nodes.Up(ctx, o)
	if err != nil {
		return err
	}
	fmt.Println(done)
	<-ctx.Done()
	return c.Down()
}

const done = "the cluster is up"

// detach starts this program again, as the parent of the cluster, and follows
// what it says until the cluster is there.
func detach(root, dir string, vm bool) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	if _, err := running(dir); err == nil {
		return errors.New("a cluster is up already; make cluster-down ends it")
	}
	log, err := os.Create(dir + ".log")
	if err != nil {
		return err
	}
	defer log.Close()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	// go run removes the program when this process ends.
	keeper := filepath.Join(filepath.Dir(dir), "keeper")
	if err := replace(self, keeper); err != nil {
		return err
	}
	cmd := exec.Command(keeper, "-keep", "-vm="+strconv.FormatBool(vm))
	cmd.Dir, cmd.Stdout, cmd.Stderr = root, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	if err := os.WriteFile(pidFile(dir), []byte(strconv.Itoa(cmd.Process.Pid)), 0o644); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	if err := follow(log.Name(), ended); err != nil {
		return err
	}
	fmt.Printf(`
  alias in=%s/in             # runs a command inside node1: in kubectl get nodes -o wide
  in kubectl apply -f %s/deploy/podproc.yaml
  in kubectl create deployment web --image=%s -- sleep infinity
  in kubectl set resources deployment web --limits=memory=256Mi,cpu=500m --requests=cpu=10m
  in kubectl annotate deployment web podproc.io/inject=true
  in kubectl exec deploy/web -- free -m

make cluster-down ends it.
`, dir, root, nodes.Tools)
	return nil
}

func replace(from, to string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.Remove(to); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.WriteFile(to, text, 0o755)
}

// follow prints the log until it says that the cluster is up.
func follow(name string, ended <-chan error) error {
	log, err := os.Open(name)
	if err != nil {
		return err
	}
	defer log.Close()
	var said strings.Builder
	for {
		text, err := io.ReadAll(log)
		if err != nil {
			return err
		}
		said.Write(text)
		fmt.Print(string(text))
		if strings.Contains(said.String(), done) {
			return nil
		}
		select {
		case err := <-ended:
			text, _ := io.ReadAll(log)
			return fmt.Errorf("the cluster did not come up: %w\n%s", err, text)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// running returns the process that keeps the cluster.
func running(dir string) (*os.Process, error) {
	text, err := os.ReadFile(pidFile(dir))
	if err != nil {
		return nil, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return nil, err
	}
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return nil, err
	}
	if filepath.Base(strings.TrimSuffix(exe, " (deleted)")) != "keeper" {
		return nil, errors.New("another process has its number")
	}
	return os.FindProcess(pid)
}

func end(dir string) error {
	process, err := running(dir)
	if err != nil {
		fmt.Println("no cluster is up")
		return nil
	}
	if err := process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	for limit := time.Now().Add(time.Minute); time.Now().Before(limit); time.Sleep(100 * time.Millisecond) {
		if _, err := running(dir); err != nil {
			return os.Remove(pidFile(dir))
		}
	}
	return errors.New("the cluster did not end within a minute")
}
