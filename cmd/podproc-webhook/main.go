// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

// Command podproc-webhook is podproc's admission webhook: it gives pods that ask for
// it their mounts when they are created.
//
//	podproc-webhook [flags]
//
// It answers the API server over HTTPS on --port, and serves plain HTTP for the
// kubelet on --health-addr (/healthz, /readyz) and for Prometheus on --metrics-addr
// (/metrics). It is ready when it has read all namespaces and when the caBundle
// in the MutatingWebhookConfiguration verifies the certificate that it serves; /readyz
// says in words what is missing.
//
// Its certificate is its own (--certificates=builtin: the CA is in the Secret
// --ca-secret, which it fills and renews, and it writes the caBundle) or comes from
// files (--certificates=files: tls.crt and tls.key in --cert-dir, as cert-manager
// keeps them; then it writes nothing).
//
// It needs: get, list and watch of namespaces; create and patch of events; get,
// list, watch and patch of its MutatingWebhookConfiguration by name; get, list,
// watch, create, update and patch of its Secret by name (built-in certificates).
//
// On SIGTERM it is no longer ready, answers for --shutdown-delay more, and
// ends when what it has begun is answered. Give the pod a grace period of at least
// that and 10 s.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/podproc/podproc/certs"
	"github.com/podproc/podproc/cmd/internal/command"
	"github.com/podproc/podproc/cmd/internal/logging"
	"github.com/podproc/podproc/webhook"
	"github.com/podproc/podproc/webhook/inject"
)

var version = "dev" // set by -ldflags "-X main.version=..."

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	status := command.Status(err)
	if status != 0 {
		fmt.Fprintln(os.Stderr, "podproc-webhook:", err)
	}
	os.Exit(status)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parse(args, stdout)
	if err != nil {
		return err
	}
	if o.version {
		_, err := fmt.Fprintln(stdout, version)
		return err
	}
	injector, err := inject.New(o.inject)
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	log := logging.New(stderr, o.level)
	ctrllog.SetLogger(logr.FromSlogHandler(log.Handler()))
	klog.SetSlogLogger(log)

	config, err := clientcmd.BuildConfigFromFlags("", o.kubeconfig) // in the cluster's own way if empty
	if err != nil {
		return fmt.Errorf("find the API server: %w", err)
	}
	rest.AddUserAgent(config, "podproc-webhook/"+version)
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("make client: %w", err)
	}

	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	var provider *certs.Provider
	metrics := webhook.NewMetrics(registry, func() time.Time { return provider.NotAfter() })
	provider, err = newProvider(o, config, client, metrics, log)
	if err != nil {
		return fmt.Errorf("certificates: %w", err)
	}
	recorder := webhook.NewRecorder(client.CoreV1())
	defer recorder.Close()
	namespaces := webhook.NewNamespaces(client, log)
	server := &webhook.Server{
		Handler: &webhook.Handler{
			Injector:  injector,
			Namespace: namespaces.Get,
			Events:    recorder,
			Metrics:   metrics,
			Log:       log,
		},
		GetCertificate: provider.GetCertificate,
		Delay:          o.delay,
		Log:            log,
	}
	ready := &readiness{
		check: func() error {
			switch {
			case server.Draining():
				return errors.New("shutting down")
			case !namespaces.Ready():
				return errors.New("namespaces not read yet: the API server has not answered, or RBAC does not allow list and watch of namespaces")
			}
			return provider.Ready()
		},
		log: log,
	}
	log.Info("podproc-webhook", "version", version, "port", o.port, "certificates", o.certificates, "configuration", o.configuration)
	return serve(ctx, o, server, ready, registry, provider.Start, namespaces.Start)
}

// serve runs the listeners, and beside them what must go on until the last request is
// answered.
func serve(ctx context.Context, o *options, server *webhook.Server, ready http.Handler, registry *prometheus.Registry, beside ...func(context.Context) error) error {
	var listeners []net.Listener
	for _, addr := range []string{net.JoinHostPort(o.bind, strconv.Itoa(o.port)), o.health, o.metrics} {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return fmt.Errorf("listen: %w", err)
		}
		defer l.Close()
		listeners = append(listeners, l)
	}
	health, metrics := http.NewServeMux(), http.NewServeMux()
	health.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	health.Handle("/readyz", ready)
	metrics.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))

	group, background := errgroup.WithContext(context.WithoutCancel(ctx))
	background, stop := context.WithCancel(background)
	for _, f := range beside {
		group.Go(func() error { return f(background) })
	}
	for i, handler := range []http.Handler{health, metrics} {
		plain := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(server.Log.Handler(), slog.LevelWarn)}
		context.AfterFunc(background, func() { plain.Close() })
		group.Go(func() error {
			if err := plain.Serve(listeners[1+i]); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		})
	}
	group.Go(func() error {
		defer stop()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		context.AfterFunc(background, cancel) // if something else ended with an error
		return server.Serve(ctx, listeners[0])
	})
	return group.Wait()
}

func newProvider(o *options, config *rest.Config, client kubernetes.Interface, metrics *webhook.Metrics, log *slog.Logger) (*certs.Provider, error) {
	configuration := certs.NewConfiguration(client, o.configuration)
	name := o.service + "." + o.namespace + ".svc"
	if o.certificates == "files" {
		return certs.NewFiles(o.certDir, name, configuration, log), nil
	}
	return certs.NewBuiltin(certs.Builtin{
		Client:        client,
		REST:          config,
		Configuration: configuration,
		Namespace:     o.namespace,
		Secret:        o.secret,
		Name:          name,
		CALife:        o.caLife,
		LeafLife:      o.leafLife,
		Wrote:         metrics.BundleWritten,
		Log:           log,
	})
}

// list splits a flag's value at commas; "" is the empty list.
func list(s string) []string {
	out := []string{}
	for _, item := range strings.Split(s, ",") {
		if item = strings.TrimSpace(item); item != "" {
			out = append(out, item)
		}
	}
	return out
}
