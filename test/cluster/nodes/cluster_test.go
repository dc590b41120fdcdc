// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package nodes

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/podproc/podproc/test/deploy"
)

// patience is for what must merely happen, on a machine that does much else.
const patience = 10 * time.Minute

// soak asks for the long forms.
var soak = os.Getenv("PODPROC_SOAK") != ""

// TestCluster goes through the life of an install, in order: each step needs
// what the one before left. The nodes go through theirs at the same time.
// PODPROC_SOAK=1 runs the long form: more on node2, which is slow, each event
// by itself, and Helm.
func TestCluster(t *testing.T) {
	root, err := deploy.Root()
	if err != nil {
		t.Fatal(err)
	}
	c := &fixture{Cluster: start(t, root), t: t}
	for _, step := range []struct {
		name string
		run  func(*fixture)
		long bool
	}{
		{"before", before, false},
		{"install", install, false},
		{"install again", installAgain, false},
		{"first use", firstUse, false},
		{"nodes", lives, false},
		{"waited", waited, false},
		{"steady", steady, false},
		{"killed", killed, false},
		{"uninstall", uninstall, false},
		{"boot without", bootedWithout, true},
		{"helm", helm, true},
	} {
		if step.long && !soak {
			continue
		}
		ok := t.Run(step.name, func(t *testing.T) {
			step.run(&fixture{c.Cluster, t})
		})
		if !ok {
			t.Logf("state of the cluster:\n%s", c.state())
			c.blame("node2")
			break
		}
	}
}

// lost says what has failed before podproc could: an emulated machine hangs now
// and then (see machine.Machine). Nothing else is a reason to try again.
var lost string

// blame notes that a node is not Ready after a failure.
func (c *fixture) blame(node string) {
	const ready = `jsonpath={.status.conditions[?(@.type=="Ready")].status}`
	if got := c.kubectl("get", "node", node, "-o", ready); got != "True" {
		lost = fmt.Sprintf("%s is not Ready (%s)", node, got)
	}
}

// TestMain runs all once more, in a process of its own, if a node was lost.
func TestMain(m *testing.M) {
	const again = "PODPROC_NODES_AGAIN"
	code := m.Run()
	if code != 0 && lost != "" && os.Getenv(again) == "" {
		fmt.Printf("=== %s: once more, with a new cluster\n", lost)
		cmd := exec.Command(os.Args[0], os.Args[1:]...)
		cmd.Env = append(os.Environ(), again+"=1")
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		code = 1
		if err := cmd.Run(); err == nil {
			code = 0
		}
	}
	os.Exit(code)
}

func start(t *testing.T, root string) *Cluster {
	t.Helper()
	dir := filepath.Join(root, ".cache", "cluster", "test") // what a killed run has left there is removed
	begin := time.Now()
	c, err := Up(t.Context(), Options{Root: root, Dir: dir, VM: true})
	if err != nil {
		lost = "the cluster has not come up"
		t.Fatal(err)
	}
	t.Logf("two nodes are Ready after %.0f s", time.Since(begin).Seconds())
	t.Cleanup(func() {
		if err := c.Down(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("logs are in %s", dir)
			return
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return c
}

// fixture is the cluster as one step sees it.
type fixture struct {
	*Cluster
	t *testing.T
}

func (c *fixture) ctx() context.Context {
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	c.t.Cleanup(cancel)
	return ctx
}

// kubectl must succeed.
func (c *fixture) kubectl(args ...string) string {
	c.t.Helper()
	return c.apply("", args...)
}

// apply runs kubectl with that input.
func (c *fixture) apply(stdin string, args ...string) string {
	c.t.Helper()
	for try := 0; ; try++ {
		out, err := c.Kubectl(c.ctx(), stdin, args...)
		if err == nil {
			return out
		}
		if try == 10 || args[0] == "debug" || !passing.MatchString(err.Error()) {
			c.t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
	}
}

// passing are errors on the way to a kubelet or API server that is short of CPU.
var passing = regexp.MustCompile(`TLS handshake timeout|i/o timeout|connection (refused|reset)|error dialing backend|unexpected EOF|etcdserver: |http2: |net/http: request canceled`)

// eventually waits until a condition holds; why tells what is missing.
func (c *fixture) eventually(what string, holds func() (ok bool, why string)) {
	c.t.Helper()
	end := time.Now().Add(patience)
	for {
		ok, why := holds()
		if ok {
			return
		}
		if time.Now().After(end) {
			c.t.Fatalf("%s: not within %v: %s", what, patience, why)
		}
		time.Sleep(500 * time.Millisecond) // kubectl takes CPU time
	}
}

// state is what a person would look at first.
func (c *fixture) state() string {
	var text strings.Builder
	for _, args := range [][]string{
		{"get", "nodes", "-o", "wide"},
		{"get", "pods", "-A", "-o", "wide"},
		{"get", "events", "-A", "--sort-by=.lastTimestamp"},
		{"logs", "-n", "podproc", "-l", "app.kubernetes.io/name=podproc", "--tail=40", "--prefix"},
	} {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		out, err := c.Kubectl(ctx, "", args...)
		cancel()
		fmt.Fprintf(&text, "$ kubectl %s\n%s", strings.Join(args, " "), tail(out, 6000))
		if err != nil {
			fmt.Fprintln(&text, err)
		}
	}
	return text.String()
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

// manifest is a file of deploy/.
func (c *fixture) manifest(name string) string { return filepath.Join(c.Root, "deploy", name) }

func (c *fixture) rollout(workload, namespace string) {
	c.t.Helper()
	c.kubectl("rollout", "status", workload, "-n", namespace, "--timeout="+patience.String())
}
