// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/podproc/podproc/test/deploy"
)

// testHelm: upgrading a release to the same chart changes nothing, and to another pod template
// makes one new ReplicaSet.
func testHelm(t *testing.T, e *env) {
	root, err := deploy.Root()
	if err != nil {
		t.Fatal(err)
	}
	program, err := deploy.Helm(root)
	if err != nil {
		t.Fatal(err)
	}
	ns := e.namespace(t, "helm", nil)
	chart := t.TempDir()
	err = errors.Join(
		os.WriteFile(filepath.Join(chart, "Chart.yaml"), []byte("apiVersion: v2\nname: web\nversion: 1.0.0\n"), 0o644),
		os.WriteFile(filepath.Join(chart, "values.yaml"), []byte("team: a\n"), 0o644),
		os.Mkdir(filepath.Join(chart, "templates"), 0o755),
		os.WriteFile(filepath.Join(chart, "templates", "web.yaml"), []byte(deployment("web", yes, `team: "{{ .Values.team }}"`)+`
apiVersion: batch/v1
kind: Job
metadata: {name: job, annotations: {`+yes+`}}
spec: {template: `+never(template("job", ""))+`}
`), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	helm := func(args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), program, append(args, "web", chart, "--namespace="+ns, "--kubeconfig="+e.Kubeconfig)...)
		cmd.Env = append(os.Environ(), "HOME="+chart)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("helm %v: %v\n%s", args, err, out)
		}
	}
	helm("install")
	e.replicaSets(t, ns, "web", "helm install", 1)
	before := e.settled(t, ns, "web")
	helm("upgrade")
	helm("upgrade", "--server-side=false") // as Helm 3 does it
	helm("upgrade", "--server-side=true", "--force-conflicts")
	e.replicaSets(t, ns, "web", "helm upgrade", 1)
	if after := e.settled(t, ns, "web"); after.Generation != before.Generation {
		t.Errorf("helm upgrade to the same chart: generation went from %d to %d", before.Generation, after.Generation)
	}
	if err := injected(e.podOf(t, ns, "web")); err != nil {
		t.Error(err)
	}
	helm("upgrade", "--server-side=true", "--force-conflicts", "--set=team=b")
	e.replicaSets(t, ns, "web", "helm upgrade to another template", 2)
	if d := e.settled(t, ns, "web"); d.Spec.Template.Annotations[injectKey] != "true" {
		t.Error("what was carried is gone after helm upgrade")
	}
}
