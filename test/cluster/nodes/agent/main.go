// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

// Agent makes a Kubernetes node of the namespaces, or the virtual machine, that
// it is started in.
//
//	agent init FILE    as the first process of new namespaces: set them up, run the node, reap orphans
//	agent run FILE     run the node that FILE describes (a Node as JSON)
//	agent store FILE   unpack images into a directory for containerd (a Store as JSON)
//
// Whatever ends is started again, as systemd would do on a real node. The agent
// ends when its standard input does: a cluster never outlives who started it.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "agent:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("agent init|run|store FILE, got %q", args)
	}
	text, err := os.ReadFile(args[1])
	if err != nil {
		return err
	}
	switch args[0] {
	case "init":
		return initialise(args[1])
	case "run":
		var node Node
		if err := json.Unmarshal(text, &node); err != nil {
			return err
		}
		go endWithInput()
		return node.run()
	case "store":
		var store Store
		if err := json.Unmarshal(text, &store); err != nil {
			return err
		}
		return store.make()
	}
	return fmt.Errorf("unknown command %q", args[0])
}

func endWithInput() {
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// initialise is process 1: it does nothing that could fail for want of memory,
// and waits for every orphan until the node's own process has ended. The kernel
// then ends all the others.
func initialise(file string) error {
	cmd := exec.Command("/proc/self/exe", "run", file)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := namespaces(); err != nil {
		return err
	}
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
