// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// settled waits until the Deployment controller has seen the last change.
func (e *env) settled(t *testing.T, ns, name string) *appsv1.Deployment {
	t.Helper()
	var d *appsv1.Deployment
	eventually(t, "Deployment "+name+" observed", func(ctx context.Context) (err error) {
		if d, err = e.client.AppsV1().Deployments(ns).Get(ctx, name, metav1.GetOptions{}); err != nil {
			return err
		}
		if d.Status.ObservedGeneration < d.Generation {
			return fmt.Errorf("generation %d of %d", d.Status.ObservedGeneration, d.Generation)
		}
		return nil
	})
	return d
}

// replicaSets waits until the Deployment's ReplicaSet of the present template is there and
// checks how many there are in all: one per template there has been.
func (e *env) replicaSets(t *testing.T, ns, name, after string, want int) {
	t.Helper()
	d := e.settled(t, ns, name)
	eventually(t, fmt.Sprintf("%d ReplicaSets after %s", want, after), func(ctx context.Context) error {
		list, err := e.client.AppsV1().ReplicaSets(ns).List(ctx, metav1.ListOptions{LabelSelector: "app=" + name})
		if err != nil {
			return err
		}
		if len(list.Items) > want {
			t.Fatalf("%d ReplicaSets after %s, want %d", len(list.Items), after, want)
		}
		if len(list.Items) < want {
			return fmt.Errorf("%d ReplicaSets", len(list.Items))
		}
		return nil
	})
	if again := e.settled(t, ns, name); again.Generation != d.Generation {
		t.Errorf("generation of Deployment %s went from %d to %d by itself after %s", name, d.Generation, again.Generation, after)
	}
}

// testWorkloads: never more than one new ReplicaSet per change of the template.
func testWorkloads(t *testing.T, e *env) {
	ns := e.namespace(t, "workloads", nil)
	e.kubectl(t, deployment("web", yes, ""), "-n", ns, "apply", "-f", "-")
	e.replicaSets(t, ns, "web", "create", 1)
	e.kubectl(t, "", "-n", ns, "scale", "deployment/web", "--replicas=3")
	e.replicaSets(t, ns, "web", "scale", 1)
	e.kubectl(t, "", "-n", ns, "annotate", "deployment/web", "team=a")
	e.replicaSets(t, ns, "web", "annotate with something else", 1)
	e.kubectl(t, "", "-n", ns, "rollout", "restart", "deployment/web")
	e.replicaSets(t, ns, "web", "restart", 2)
	e.kubectl(t, "", "-n", ns, "rollout", "undo", "deployment/web")
	e.replicaSets(t, ns, "web", "undo", 2)
	e.kubectl(t, "", "-n", ns, "annotate", "--overwrite", "deployment/web", `podproc.io/inject=false`)
	e.replicaSets(t, ns, "web", "false", 3)
	e.kubectl(t, "", "-n", ns, "annotate", "deployment/web", `podproc.io/inject-`)
	e.replicaSets(t, ns, "web", "annotation taken away", 4)
	d := e.settled(t, ns, "web")
	for key := range d.Spec.Template.Annotations {
		if strings.HasPrefix(key, "podproc.io/") {
			t.Errorf("template still has %s after the annotation was taken away", key)
		}
	}

	// A Job's template cannot change, and annotating it is never refused.
	e.kubectl(t, "apiVersion: batch/v1\nkind: Job\nmetadata: {name: job}\nspec: {template: "+never(template("job", ""))+"}\n", "-n", ns, "apply", "-f", "-")
	e.kubectl(t, "", "-n", ns, "annotate", "job/job", "podproc.io/inject=true")
	e.kubectl(t, "", "-n", ns, "annotate", "job/job", "podproc.io/inject-")

	// What the controllers own is left alone, however often they write it.
	list, err := e.client.AppsV1().ReplicaSets(ns).List(t.Context(), metav1.ListOptions{LabelSelector: "app=web"})
	if err != nil {
		t.Fatal(err)
	}
	e.kubectl(t, "", "-n", ns, "annotate", "--overwrite", "replicaset/"+list.Items[0].Name, "podproc.io/inject=true")
	e.replicaSets(t, ns, "web", "annotate its ReplicaSet", 4)
}

// testReapply: applying the same manifest again changes nothing, whichever side merges.
func testReapply(t *testing.T, e *env) {
	ns := e.namespace(t, "reapply", nil)
	for _, side := range []string{"--server-side=false", "--server-side=true"} {
		name := "client"
		if side == "--server-side=true" {
			name = "server"
		}
		manifest := deployment(name, yes, "") + fmt.Sprintf(`
apiVersion: batch/v1
kind: Job
metadata: {name: %[1]s-job, annotations: {%[2]s}}
spec: {template: %[3]s}
`, name, yes, never(template(name+"-job", "")))
		e.kubectl(t, manifest, "-n", ns, "apply", side, "-f", "-")
		e.replicaSets(t, ns, name, "apply", 1)
		before := e.settled(t, ns, name)
		for range 2 {
			e.kubectl(t, manifest, "-n", ns, "apply", side, "-f", "-")
		}
		e.replicaSets(t, ns, name, "apply again", 1)
		if after := e.settled(t, ns, name); after.Generation != before.Generation {
			t.Errorf("apply %s again: generation went from %d to %d", side, before.Generation, after.Generation)
		}
		if diff, _, err := e.Kubectl(t.Context(), manifest, "-n", ns, "diff", side, "-f", "-"); err != nil {
			t.Errorf("kubectl diff %s finds a difference:\n%s", side, diff)
		}
		if err := injected(e.podOf(t, ns, name)); err != nil {
			t.Error(err)
		}
	}
}
