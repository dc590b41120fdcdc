// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// template is a pod template with one container, app=NAME and annotations.
func template(name, annotations string) string {
	return fmt.Sprintf(`{metadata: {labels: {app: %s}, annotations: {%s}}, spec: {containers: [{name: app, image: httpd:2,
  resources: {limits: {memory: 256Mi, cpu: 500m}, requests: {cpu: 10m}}}]}}`, name, annotations)
}

// deployment is a Deployment with annotations on it and on its template.
func deployment(name, annotations, templateAnnotations string) string {
	return fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s, annotations: {%[2]s}}
spec:
  selector: {matchLabels: {app: %[1]s}}
  template: %[3]s
---`, name, annotations, template(name, templateAnnotations))
}

const yes = `podproc.io/inject: "true"`

// testInjection asks in every way there is; the pods are what controllers make of it.
func testInjection(t *testing.T, e *env) {
	plain := e.namespace(t, "injection", nil)
	labelled := e.namespace(t, "injection-labelled", map[string]string{injectKey: "true"})

	t.Run("deployments", func(t *testing.T) {
		e.kubectl(t, deployment("on-metadata", yes, "")+deployment("on-template", "", yes)+
			// The example of lxcfs-initializer, of which podproc is the successor.
			deployment("web", `initializer.kubernetes.io/lxcfs: "true"`, "")+
			deployment("not-asked", "", ""), "-n", plain, "apply", "-f", "-")
		e.kubectl(t, deployment("by-namespace", "", "")+
			deployment("opted-out", "", `podproc.io/inject: "false"`)+
			deployment("opted-out-above", `podproc.io/inject: "false"`, ""), "-n", labelled, "apply", "-f", "-")
		for name, ns := range map[string]string{"on-metadata": plain, "on-template": plain, "web": plain, "by-namespace": labelled} {
			if err := injected(e.podOf(t, ns, name)); err != nil {
				t.Error(err)
			}
		}
		for name, ns := range map[string]string{"not-asked": plain, "opted-out": labelled, "opted-out-above": labelled} {
			if err := untouched(e.podOf(t, ns, name)); err != nil {
				t.Error(err)
			}
		}
	})
	t.Run("other workloads", func(t *testing.T) { testOtherWorkloads(t, e, plain) })
	t.Run("kinds of containers", func(t *testing.T) {
		always := corev1.ContainerRestartPolicyAlways
		pod := newPod("kinds", map[string]string{injectKey: "true"})
		pod.Spec.InitContainers = []corev1.Container{{Name: "init", Image: "i"}, {Name: "sidecar", Image: "s", RestartPolicy: &always}}
		pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: "second", Image: "s"})
		got, err := e.client.CoreV1().Pods(plain).Create(t.Context(), pod, metav1.CreateOptions{})
		if err == nil {
			err = injected(got)
		}
		if err != nil {
			t.Error(err)
		}
	})
	t.Run("label on the pod", func(t *testing.T) {
		pod := newPod("label", nil)
		pod.Labels = map[string]string{injectKey: "true"}
		got, err := e.client.CoreV1().Pods(plain).Create(t.Context(), pod, metav1.CreateOptions{})
		if err == nil {
			err = injected(got)
		}
		if err != nil {
			t.Error(err)
		}
	})
	t.Run("own namespaces", func(t *testing.T) {
		for _, ns := range []string{"kube-system", namespace} {
			pod, err := e.client.CoreV1().Pods(ns).Create(t.Context(), newPod("own", map[string]string{injectKey: "true"}),
				metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			if err == nil {
				err = untouched(pod)
			}
			if err != nil {
				t.Errorf("in %s: %v", ns, err)
			}
		}
	})
}

func testOtherWorkloads(t *testing.T, e *env, ns string) {
	e.kubectl(t, fmt.Sprintf(`
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: stateful, annotations: {%[1]s}}
spec: {serviceName: s, selector: {matchLabels: {app: stateful}}, template: %[2]s}
---
apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: bare-rs, annotations: {%[1]s}}
spec: {selector: {matchLabels: {app: bare-rs}}, template: %[3]s}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: daemon, annotations: {%[1]s}}
spec: {selector: {matchLabels: {app: daemon}}, template: %[4]s}
---
apiVersion: batch/v1
kind: Job
metadata: {name: job, annotations: {%[1]s}}
spec: {template: %[5]s}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: cron, annotations: {%[1]s}}
spec: {schedule: "0 0 1 1 *", jobTemplate: {spec: {template: %[6]s}}}
`, yes, template("stateful", ""), template("bare-rs", ""), template("daemon", ""),
		never(template("job", "")), never(template("cron", ""))), "-n", ns, "apply", "-f", "-")
	e.kubectl(t, "", "-n", ns, "create", "job", "by-hand", "--from=cronjob/cron")
	for _, name := range []string{"stateful", "bare-rs", "job", "cron"} {
		if err := injected(e.podOf(t, ns, name)); err != nil {
			t.Error(err)
		}
	}
	daemon, err := e.client.AppsV1().DaemonSets(ns).Get(t.Context(), "daemon", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := daemon.Spec.Template.Annotations[injectKey]; got != "true" {
		t.Errorf("DaemonSet's template has %s: %q, want it carried", injectKey, got)
	}
}

// never makes a template one for Jobs.
func never(template string) string {
	return strings.Replace(template, "spec: {", "spec: {restartPolicy: Never, ", 1)
}

// testPodSecurity: where hostPath is forbidden the pod runs, and one can see why it has no files.
func testPodSecurity(t *testing.T, e *env) {
	for _, level := range []string{"baseline", "restricted"} {
		ns := e.namespace(t, "security-"+level, map[string]string{injectKey: "true", "pod-security.kubernetes.io/enforce": level})
		manifest := strings.Replace(deployment("web", "", ""), "image: httpd:2,", `image: httpd:2, securityContext: {allowPrivilegeEscalation: false,
  runAsNonRoot: true, capabilities: {drop: [ALL]}, seccompProfile: {type: RuntimeDefault}},`, 1)
		e.kubectl(t, manifest, "-n", ns, "apply", "-f", "-")
		if err := untouched(e.podOf(t, ns, "web")); err != nil {
			t.Error(err)
		}
		e.skipEvent(t, ns, "enforce: "+level)
	}
	// And what podproc did not know would be refused: this is what the rule is for.
	pod := newPod("hostpath", nil)
	pod.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/run/podproc/fs/proc/meminfo"}}}}
	if _, err := e.client.CoreV1().Pods("security-baseline").Create(t.Context(), pod, metav1.CreateOptions{}); err == nil {
		t.Error("Pod Security baseline admits a hostPath volume: the rule is not needed any more")
	}
}

// skipEvent waits for podproc's Event in a namespace whose message has that text.
func (e *env) skipEvent(t *testing.T, ns, text string) {
	t.Helper()
	eventually(t, "Event in "+ns+" that says "+text, func(ctx context.Context) error {
		events, err := e.client.CoreV1().Events(ns).List(ctx, metav1.ListOptions{FieldSelector: "reason=PodprocNotInjected"})
		if err != nil {
			return err
		}
		var messages []string
		for _, event := range events.Items {
			if strings.Contains(event.Message, text) && event.InvolvedObject.Kind == "ReplicaSet" {
				return nil
			}
			messages = append(messages, event.InvolvedObject.Kind+": "+event.Message)
		}
		return fmt.Errorf("events are %q", messages)
	})
}
