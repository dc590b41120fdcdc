// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// testOffline: `podproc inject` gives exactly what the API server would store.
func testOffline(t *testing.T, e *env) {
	ns := e.namespace(t, "offline", map[string]string{injectKey: "true"})
	quiet := "automountServiceAccountToken: false" // else a volume gets a random name
	manifest := strings.Join([]string{
		"apiVersion: v1\nkind: Pod\nmetadata: {name: plain}\nspec: {" + podSpec(quiet) + "}\n",
		"apiVersion: v1\nkind: Pod\nmetadata: {name: some, annotations: {podproc.io/files: 'default,loadavg', podproc.io/exclude-containers: app}}\nspec: {" +
			podSpec(quiet+", initContainers: [{name: init, image: i}]") + "}\n",
		"apiVersion: v1\nkind: Pod\nmetadata: {name: host}\nspec: {" + podSpec(quiet+", hostPID: true") + "}\n",
		"apiVersion: v1\nkind: Pod\nmetadata: {name: 'no', annotations: {podproc.io/inject: 'false'}}\nspec: {" + podSpec(quiet) + "}\n",
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: other}\ndata: {a: b}\n",
		deployment("web", `initializer.kubernetes.io/lxcfs: "true"`, ""),
		"apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: cron, annotations: {" + yes + "}}\nspec: {schedule: '0 0 1 1 *', jobTemplate: {spec: {template: " + never(template("cron", "")) + "}}}\n",
	}, "\n---\n")

	cmd := exec.CommandContext(t.Context(), binaries.podproc, "inject", "--namespace", ns, "--namespace-label", injectKey+"=true", "-f", "-")
	cmd.Stdin = strings.NewReader(manifest)
	var offline, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &offline, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("podproc inject: %v: %s", err, errs.String())
	}
	// In kube-system the API server does not ask podproc: it only fills in defaults.
	stored := func(ns, manifest string) []map[string]any {
		out, _ := e.kubectl(t, manifest, "-n", ns, "create", "--dry-run=server", "-o", "json", "-f", "-")
		return objects(t, out)
	}
	got, want := stored("kube-system", offline.String()), stored(ns, manifest)
	if len(want) != 7 {
		t.Fatalf("%d objects from kubectl, want 7", len(want))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("podproc inject is not what the API server stores (-API server +podproc inject):\n%s", diff)
	}
}

// objects parses what kubectl -o json prints, and takes away what the API server gives each
// object anew.
func objects(t *testing.T, text string) (all []map[string]any) {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(text))
	for dec.More() {
		var o unstructured.Unstructured
		if err := dec.Decode(&o.Object); err != nil {
			t.Fatal(err)
		}
		list := []unstructured.Unstructured{o}
		if o.IsList() {
			l, err := o.ToList()
			if err != nil {
				t.Fatal(err)
			}
			list = l.Items
		}
		for _, o := range list {
			for _, field := range []string{"uid", "creationTimestamp", "managedFields", "namespace", "resourceVersion", "generation"} {
				unstructured.RemoveNestedField(o.Object, "metadata", field)
			}
			all = append(all, o.Object)
		}
	}
	return all
}
