// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

// Command cert-manager is cert-manager in one binary: controller, cainjector
// and webhook, chosen by the name it is called by (or by its first argument when it is
// called cert-manager).
//
// All that they do is done by cert-manager's own packages. Its commands are modules
// of their own that are not published, so this stands in for them: with the
// issuers that podproc's manifests use (self-signed and CA) and without leader
// election, metrics and profiling.
//
// It is a Go module of its own, so that none of it is in podproc's go.mod; and its
// path is below cert-manager's, as some of those packages are internal.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	logf "github.com/cert-manager/cert-manager/pkg/logs"
	"github.com/go-logr/logr"
	"github.com/spf13/pflag"
	logsapi "k8s.io/component-base/logs/api/v1"
	ctrl "sigs.k8s.io/controller-runtime"
)

var components = map[string]func(ctx context.Context, args []string) error{
	"cert-manager-controller": runController,
	"cert-manager-cainjector": runCAInjector,
	"cert-manager-webhook":    runWebhook,
}

func main() {
	name := filepath.Base(os.Args[0])
	if name == "cert-manager" && len(os.Args) > 1 {
		os.Args = os.Args[1:]
		name = os.Args[0]
	}
	run := components[name]
	if run == nil {
		fmt.Fprintln(os.Stderr, "usage: cert-manager cert-manager-controller|cert-manager-cainjector|cert-manager-webhook ...")
		os.Exit(2)
	}
	logf.InitLogs()
	ctrl.SetLogger(logf.Log)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(logr.NewContext(ctx, logf.Log.WithName(name)), os.Args[1:])
	logf.FlushLogs()
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

// kubeconfig parses the flags of components that have few.
func kubeconfig(name string, args []string) (string, error) {
	flags := pflag.NewFlagSet(name, pflag.ContinueOnError)
	path := flags.String("kubeconfig", "", "`file` that says how to reach the API server (default: as in a pod)")
	logging := logsapi.NewLoggingConfiguration()
	logf.AddFlags(logging, flags)
	if err := flags.Parse(args); err != nil {
		return "", err
	}
	return *path, logf.ValidateAndApply(logging)
}
