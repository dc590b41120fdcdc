// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
)

var (
	metricName = regexp.MustCompile(`podproc_[a-z_]+`)
	quoted     = regexp.MustCompile(`"(podproc_[a-z_]+)"`)
)

// exported are the metrics that the source names.
func exported(t *testing.T, root string) map[string]bool {
	t.Helper()
	names := make(map[string]bool)
	for _, dir := range []string{"cmd", "fusefs", "webhook", "certs"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, _ os.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			for _, m := range quoted.FindAllStringSubmatch(string(text), -1) {
				names[m[1]] = true
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return names
}

// TestMetrics: dashboard and alerts ask for what is served, and for all of it.
func TestMetrics(t *testing.T) {
	root, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	names := exported(t, root)
	shown := make(map[string]bool)
	for _, file := range []string{"dashboard.json", "rules.yaml"} {
		text, err := os.ReadFile(filepath.Join(root, "deploy", "chart", "monitoring", file))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range metricName.FindAllString(string(text), -1) {
			name = strings.TrimSuffix(name, "_bucket")
			if shown[name] = true; !names[name] {
				t.Errorf("%s: no metric %s in the source", file, name)
			}
		}
	}
	for name := range names {
		if !shown[name] {
			t.Errorf("%s is neither on the dashboard nor in an alert", name)
		}
	}
}

// TestMonitoring: what is off by default renders to what its readers take.
func TestMonitoring(t *testing.T) {
	root, helm := tools(t)
	text, err := Manifest{"", everything}.Render(root, helm)
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]bool)
	for _, o := range generic(t, text) {
		found[o.GetKind()] = true
		switch o.GetKind() {
		case "ConfigMap":
			data, _, _ := unstructured.NestedString(o.Object, "data", "podproc.json")
			var dashboard struct {
				Title  string
				Panels []struct{ Targets []struct{ Expr string } }
			}
			if err := json.Unmarshal([]byte(data), &dashboard); err != nil || dashboard.Title == "" || len(dashboard.Panels) < 5 {
				t.Errorf("dashboard: %v, title %q, %d panels", err, dashboard.Title, len(dashboard.Panels))
			}
		case "PrometheusRule":
			groups, _, err := unstructured.NestedSlice(o.Object, "spec", "groups")
			if err != nil || len(groups) == 0 {
				t.Errorf("alerts: %v, %d groups", err, len(groups))
			}
		}
	}
	for _, kind := range []string{"ConfigMap", "PrometheusRule", "ServiceMonitor"} {
		if !found[kind] {
			t.Errorf("no %s", kind)
		}
	}
}

// generic decodes objects of any kind.
func generic(t *testing.T, text []byte) []unstructured.Unstructured {
	t.Helper()
	var objects []unstructured.Unstructured
	for _, doc := range regexp.MustCompile(`(?m)^---\n`).Split(string(text), -1) {
		var o unstructured.Unstructured
		if err := yaml.Unmarshal([]byte(doc), &o.Object); err != nil {
			t.Fatalf("%v in\n%s", err, doc)
		}
		if len(o.Object) > 0 {
			objects = append(objects, o)
		}
	}
	return objects
}
