// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

// Package cluster tests the webhook against a real control plane: what the API
// server, the Deployment controller, Pod Security admission and kubectl make of it.
//
// One control plane serves all tests of TestCluster. podproc is installed from
// deploy/podproc.yaml as it is checked in; its two replicas are processes beside it, with the
// arguments and the ServiceAccount of the Deployment, behind the Service's real
// cluster IP. TestCertManager has another, with deploy/podproc-cert-manager.yaml.
package cluster

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const repository = "../.."

// binaries are the programs under test, built by TestMain.
var binaries struct {
	k8s         string // directory
	certManager string // directory
	webhook     string
	podproc     string
}

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "podproc-cluster-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binaries.k8s = filepath.Join(dir, "k8s")
	binaries.certManager = filepath.Join(dir, "cert-manager")
	binaries.webhook = filepath.Join(dir, "podproc-webhook")
	binaries.podproc = filepath.Join(dir, "podproc")
	for _, args := range [][]string{
		{"run", "./test/cluster/build", "-o", binaries.k8s},
		{"run", "./test/cluster/build", "-o", binaries.certManager, "cert-manager"},
		{"build", "-o", binaries.webhook, "./cmd/podproc-webhook"},
		{"build", "-o", binaries.podproc, "./cmd/podproc"},
	} {
		cmd := exec.Command("go", args...)
		cmd.Dir, cmd.Env = repository, append(os.Environ(), "CGO_ENABLED=0")
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		if err := cmd.Run(); err != nil {
			fmt.Fprintf(os.Stderr, "go %s: %v\n", strings.Join(args, " "), err)
			return 1
		}
	}
	return m.Run()
}

// TestCluster runs everything. The tests within "installed" run while certificates
// change; those after it take the webhook away.
func TestCluster(t *testing.T) {
	e := newEnv(t, "podproc.yaml")
	e.install(t)
	t.Run("installed", func(t *testing.T) {
		for _, test := range []struct {
			name string
			run  func(*testing.T, *env)
		}{
			{"certificates", testCertificates},
			{"injection", testInjection},
			{"skips", testSkips},
			{"workloads", testWorkloads},
			{"reapply", testReapply},
			{"helm", testHelm},
			{"dry run", testDryRun},
			{"second webhook", testSecondWebhook},
			{"debug", testDebug},
			{"pod security", testPodSecurity},
			{"odd objects", testOddObjects},
			{"offline", testOffline},
			{"rights", testRights},
			{"files", testFiles},
			{"other replicas", testOtherReplicas},
			{"other manifests", testOtherManifests},
			{"kustomize", testKustomize},
			{"cert-manager", testCertManager},
		} {
			t.Run(test.name, func(t *testing.T) {
				t.Parallel()
				test.run(t, e)
			})
		}
	})
	t.Run("latency", func(t *testing.T) { testLatency(t, e) })
	t.Run("applied again", func(t *testing.T) { testAppliedAgain(t, e) })
	t.Run("faults", func(t *testing.T) { testFaults(t, e) })
	t.Run("down", func(t *testing.T) { testDown(t, e) })
	t.Run("match conditions", func(t *testing.T) { testMatchConditions(t, e) })
}

// patience is for what must merely happen, on a machine that does a lot besides.
const patience = 4 * time.Minute

// eventually waits until f returns nil.
func eventually(t *testing.T, what string, f func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		err := f(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not within %s: %v", what, patience, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}
