// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/podproc/podproc/cmd/internal/command"
	"github.com/podproc/podproc/webhook/inject"
)

// options are the flags.
type options struct {
	bind       string
	port       int
	health     string
	metrics    string
	kubeconfig string
	delay      time.Duration
	level      slog.Level
	version    bool

	namespace     string
	service       string
	configuration string
	certificates  string
	secret        string
	certDir       string
	caLife        time.Duration
	leafLife      time.Duration

	inject inject.Config
}

const help = `podproc-webhook [flags]

Answers the API server: gives pods that ask for it podproc's mounts.
`

// parse reads the flags. Each is there because clusters differ in it; what does
// not differ is no flag.
func parse(args []string, stdout io.Writer) (*options, error) {
	o := &options{}
	f := flag.NewFlagSet("podproc-webhook", flag.ContinueOnError)
	f.StringVar(&o.bind, "bind", "", "`address` to answer the API server on (default all; with hostNetwork, the node's)")
	f.IntVar(&o.port, "port", 10250, "`port` to answer the API server on; private clusters let the API server reach nodes on some only, 10250 nearly everywhere")
	f.StringVar(&o.health, "health-addr", ":8081", "`address` of /healthz and /readyz")
	f.StringVar(&o.metrics, "metrics-addr", ":9118", "`address` of /metrics")
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "`file` that says how to reach the API server (default: as in a pod)")
	f.DurationVar(&o.delay, "shutdown-delay", 10*time.Second, "how long to go on answering after SIGTERM, until the cluster has stopped sending new connections")
	f.TextVar(&o.level, "log-level", slog.LevelInfo, "debug, info, warn or error")
	f.BoolVar(&o.version, "version", false, "print the version and exit")

	f.StringVar(&o.namespace, "namespace", "podproc", "`namespace` of podproc")
	f.StringVar(&o.service, "service", "podproc-webhook", "`name` of the Service in front, for the certificate")
	f.StringVar(&o.configuration, "webhook-configuration", "podproc", "`name` of the MutatingWebhookConfiguration")
	f.StringVar(&o.certificates, "certificates", "builtin", "where the serving certificate comes from: builtin or files")
	f.StringVar(&o.secret, "ca-secret", "podproc-webhook-ca", "`name` of the Secret for the CA, with --certificates=builtin")
	f.DurationVar(&o.caLife, "ca-life", 365*24*time.Hour, "how long a CA is valid, with --certificates=builtin; it is renewed at two thirds")
	f.DurationVar(&o.leafLife, "certificate-life", 7*24*time.Hour, "how long a serving certificate is valid, with --certificates=builtin; it is renewed at two thirds")
	f.StringVar(&o.certDir, "cert-dir", "/certs", "`directory` of tls.crt and tls.key, with --certificates=files")

	f.StringVar(&o.inject.Root, "mount-dir", inject.DefaultRoot, "`directory` on the nodes where podproc-node mounts its file system")
	files := f.String("files", strings.Join(inject.DefaultFiles(), ","), "`files` that a pod gets which names none itself")
	keys := f.String("inject-keys", "", "further annotation `keys` that ask for injection like "+inject.InjectKey)
	classes := f.String("skip-runtime-classes", strings.Join(inject.DefaultSkipRuntimeClasses(), ","), "`patterns` of runtime classes whose pods are not injected")
	nodes := f.String("skip-nodes", strings.Join(inject.DefaultSkipNodes(), ","), "`key=pattern` of virtual nodes whose pods are not injected")
	f.StringVar(&o.inject.PodSecurityDefault, "pod-security-default", "privileged", "Pod Security `level` that the API server enforces where a namespace has no label")
	f.BoolVar(&o.inject.UserNamespaces, "user-namespaces", false, "inject pods with hostUsers: false too: every node has Linux 6.12 or newer")
	if err := command.Parse(f, args, help, stdout); err != nil {
		return nil, err
	}
	o.inject.Files, o.inject.Keys = list(*files), list(*keys)
	o.inject.SkipRuntimeClasses, o.inject.SkipNodes = list(*classes), list(*nodes)
	return o, o.check(f.Args())
}

func (o *options) check(rest []string) error {
	switch {
	case len(rest) > 0:
		return command.Usagef("unexpected argument %q: there are flags only", rest[0])
	case o.certificates != "builtin" && o.certificates != "files":
		return command.Usagef("--certificates=%s: want builtin or files", o.certificates)
	case o.port < 0 || o.port > 65535:
		return command.Usagef("--port=%d: want a port number", o.port)
	case o.delay < 0:
		return command.Usagef("--shutdown-delay=%s: want no less than 0", o.delay)
	case o.namespace == "" || o.service == "" || o.configuration == "":
		return command.Usagef("--namespace, --service and --webhook-configuration must not be empty")
	}
	return nil
}
