// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/podproc/podproc/cmd/internal/command"
	"github.com/podproc/podproc/webhook/inject"
)

const injectHelp = `podproc inject [flags] [-f FILE] [FILE...]

Decides about manifests as podproc's webhook does when they are created, and
prints them as the API server would store them: a pod with its mounts, a
Deployment (StatefulSet, DaemonSet, ReplicaSet, Job, CronJob) with the
annotations that are carried to its pod template. The mounts of a workload's
pods come when the pods are created; --explain tells what they will be.
Other objects, and documents in which nothing changes, are printed as they are.

What only the cluster knows is taken from flags: labels of a namespace (those
of a Namespace in the same files count too), and what the webhook was told.

Examples:
  podproc inject -f pod.yaml
  podproc inject --explain -f deployment.yaml --namespace-label podproc.io/inject=true
  helm template . | podproc inject --explain -n shop -f -

Exit status: 0, also if nothing is injected; 1 if a file or an object cannot be
read; 2 for wrong usage.
`

// injectOptions are the flags of inject. Those that the webhook has too have
// the same names.
type injectOptions struct {
	files     []string
	explain   bool
	namespace string
	labels    map[string]string
	unasked   []string // namespaces that the API server does not ask about
	config    inject.Config
}

func parseInject(args []string, stdout io.Writer) (*injectOptions, error) {
	o := &injectOptions{labels: make(map[string]string)}
	f := flag.NewFlagSet("podproc inject", flag.ContinueOnError)
	f.Func("f", "`FILE` of manifests, YAML or JSON; - for standard input; may be repeated", func(s string) error {
		o.files = append(o.files, s)
		return nil
	})
	f.BoolVar(&o.explain, "explain", false, "print a line per container instead: what it gets, or why it gets nothing")
	f.StringVar(&o.namespace, "namespace", "default", "`NAMESPACE` of objects that name none")
	f.StringVar(&o.namespace, "n", "default", "short for --namespace")
	f.Func("namespace-label", "label `KEY=VALUE` of the objects' namespaces; may be repeated", func(s string) error {
		key, value, ok := strings.Cut(s, "=")
		if !ok || key == "" {
			return errors.New("want KEY=VALUE")
		}
		o.labels[key] = value
		return nil
	})
	unasked := f.String("excluded-namespaces", "kube-system,podproc", "`LIST` of the namespaces that podproc was installed to leave out")
	f.StringVar(&o.config.Root, "mount-dir", inject.DefaultRoot, "`DIR` on the nodes where podproc-node mounts its file system")
	files := f.String("files", strings.Join(inject.DefaultFiles(), ","), "`LIST` of the files that a pod gets which names none itself")
	keys := f.String("inject-keys", "", "`LIST` of further annotations that ask for injection like "+inject.InjectKey)
	classes := f.String("skip-runtime-classes", strings.Join(inject.DefaultSkipRuntimeClasses(), ","), "`LIST` of patterns of runtime classes whose pods are not injected")
	nodes := f.String("skip-nodes", strings.Join(inject.DefaultSkipNodes(), ","), "`LIST` of key=pattern of virtual nodes whose pods are not injected")
	f.StringVar(&o.config.PodSecurityDefault, "pod-security-default", "privileged", "Pod Security `LEVEL` that the API server enforces where a namespace has no label")
	f.BoolVar(&o.config.UserNamespaces, "user-namespaces", false, "inject pods with hostUsers: false too: every node has Linux 6.12 or newer")
	if err := command.Parse(f, args, injectHelp, stdout); err != nil {
		return nil, err
	}
	o.files = append(o.files, f.Args()...)
	if len(o.files) == 0 {
		return nil, command.Usagef("no file to inject; say podproc inject -f FILE, or -f - for standard input")
	}
	o.unasked = commaList(*unasked)
	o.config.Files, o.config.Keys = commaList(*files), commaList(*keys)
	o.config.SkipRuntimeClasses, o.config.SkipNodes = commaList(*classes), commaList(*nodes)
	return o, nil
}

// commaList splits a flag's value; an empty one is an empty list, not nil.
func commaList(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}

// runInject is the command inject.
func runInject(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	o, err := parseInject(args, stdout)
	if err != nil {
		return err
	}
	in, err := inject.New(o.config)
	if err != nil {
		return command.Usagef("%w", err)
	}
	var docs []document
	for _, name := range o.files {
		more, err := readFile(name, stdin)
		if err != nil {
			return err
		}
		docs = append(docs, more...)
	}
	d := &decider{in: in, o: o, namespaces: namespaceLabels(docs)}
	var failed []error
	for i := range docs {
		if err := ctx.Err(); err != nil {
			return err
		}
		results, err := d.document(&docs[i])
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", docs[i].where, err))
		}
		if o.explain {
			err = explain(stdout, results)
		} else {
			err = printDocument(stdout, stderr, &docs[i], i > 0, results)
		}
		if err != nil {
			return err
		}
	}
	return errors.Join(failed...)
}

func readFile(name string, stdin io.Reader) ([]document, error) {
	if name == "-" {
		return readDocuments("standard input", stdin)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readDocuments(name, f)
}

// decider decides on objects.
type decider struct {
	in         *inject.Injector
	o          *injectOptions
	namespaces map[string]map[string]string // labels of those in the files
}

// decided is the decision on one object.
type decided struct {
	name      string // Deployment/web
	namespace string
	asked     bool // the API server would ask podproc
	inject.Result
}

// decide decides on one object as on its creation; nil for what is none of
// podproc's kinds.
func (d *decider) decide(h *header, raw []byte) *decided {
	kind, ok := inject.KindOf(h.group(), h.Kind, "")
	if !ok {
		return nil
	}
	namespace := h.Metadata.Namespace
	if namespace == "" {
		namespace = d.o.namespace
	}
	labels := make(map[string]string)
	for _, from := range []map[string]string{d.namespaces[namespace], d.o.labels} {
		for key, value := range from {
			labels[key] = value
		}
	}
	r := &decided{name: h.Kind + "/" + h.name(), namespace: namespace, asked: !slices.Contains(d.o.unasked, namespace)}
	r.Result = d.in.Decide(inject.Request{
		Kind: kind, Operation: inject.Create, Object: raw,
		Namespace: &inject.Namespace{Name: namespace, Labels: labels},
	})
	return r
}

func printDocument(stdout, stderr io.Writer, doc *document, separate bool, results []*decided) error {
	for _, r := range results {
		for _, w := range r.Warnings {
			if r.asked {
				fmt.Fprintf(stderr, "Warning: %s: %s\n", r.name, w)
			}
		}
	}
	if separate {
		if _, err := io.WriteString(stdout, "---\n"); err != nil {
			return err
		}
	}
	_, err := stdout.Write(doc.text)
	return err
}

// explain prints a line per container, and one per warning.
func explain(w io.Writer, results []*decided) error {
	var b strings.Builder
	for _, r := range results {
		pod := &r.Result
		if r.Template != nil {
			pod = r.Template
		}
		for i := range pod.Containers {
			c := &pod.Containers[i]
			fmt.Fprintf(&b, "%s %s %s: %s\n", r.name, c.Role, c.Name, r.containerText(pod, c))
		}
		for _, warning := range r.Warnings {
			said := pod.Message != "" && strings.HasSuffix(warning, pod.Message)
			if r.asked && !said {
				fmt.Fprintf(&b, "%s: warning: %s\n", r.name, warning)
			}
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// containerText says what one container gets.
func (r *decided) containerText(pod *inject.Result, c *inject.Container) string {
	switch {
	case !r.asked:
		return fmt.Sprintf("not injected: podproc leaves the namespace %s out", r.namespace)
	case c.Reason != "" && c.Reason == pod.Reason:
		return "not injected: " + pod.Message
	case c.Reason != "":
		return "not injected: " + c.Reason.Text()
	}
	var mounted, left []string
	for _, f := range c.Files {
		if f.Reason == "" {
			mounted = append(mounted, f.Name)
			continue
		}
		left = append(left, fmt.Sprintf("not %s: %s", f.Name, f.Reason.Text()))
	}
	if len(mounted) > 0 {
		left = slices.Insert(left, 0, "injected: "+strings.Join(mounted, ", "))
	}
	return strings.Join(left, "; ")
}
