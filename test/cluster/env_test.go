// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/podproc/podproc/test/cluster/controlplane"
)

// The names that deploy/podproc.yaml uses.
const (
	namespace     = "podproc"
	service       = "podproc-webhook"
	configuration = "podproc"
	caSecret      = "podproc-webhook-ca"
)

// Lives of the certificates in the test: minutes, where a CA is renewed at
// two thirds and what is left is enough for a slow machine.
const (
	caLife   = 150 * time.Second
	leafLife = 90 * time.Second
)

// env is the cluster with podproc in it.
type env struct {
	*controlplane.ControlPlane
	client   kubernetes.Interface
	manifest string // of deploy
	args     []string
	account  string // kubeconfig of podproc's ServiceAccount
	service  *loadBalancer
	replicas []*replica
	started  int // replicas, those that have ended included
}

// newEnv starts a control plane for a manifest of deploy.
func newEnv(t *testing.T, name string) *env {
	t.Helper()
	manifest, err := os.ReadFile(filepath.Join(repository, "deploy", name))
	if err != nil {
		t.Fatal(err)
	}
	c := controlplane.Start(t, binaries.k8s)
	return &env{ControlPlane: c, client: c.Client, manifest: string(manifest)}
}

// install applies podproc's manifests and starts two replicas.
func (e *env) install(t *testing.T) {
	t.Helper()
	e.apply(t)
	for range 2 {
		e.startReplica(t)
	}
	e.waitReady(t)
}

// apply applies podproc's manifests and makes all ready for replicas.
func (e *env) apply(t *testing.T) {
	t.Helper()
	e.kubectl(t, e.manifest, "apply", "-f", "-")
	// As shipped the API server waits 3 s; on a busy machine that would be a test of the machine.
	// testAppliedAgain puts it back.
	e.patchTimeouts(t, 30)
	e.account = e.KubeconfigFor(t, "podproc-webhook", e.serviceAccountToken(t))
	deployment, err := e.client.AppsV1().Deployments(namespace).Get(t.Context(), "podproc-webhook", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, arg := range deployment.Spec.Template.Spec.Containers[0].Args {
		e.args = append(e.args, strings.ReplaceAll(arg, "$(POD_NAMESPACE)", namespace))
	}
	e.service = e.serve(t, namespace, service)
}

func (e *env) serviceAccountToken(t *testing.T) string {
	t.Helper()
	token, err := e.client.CoreV1().ServiceAccounts(namespace).CreateToken(t.Context(), "podproc-webhook",
		&authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return token.Status.Token
}

func (e *env) patchTimeouts(t *testing.T, seconds int) {
	t.Helper()
	var ops []string
	for i := range e.configuration(t, configuration).Webhooks {
		ops = append(ops, fmt.Sprintf(`{"op":"replace","path":"/webhooks/%d/timeoutSeconds","value":%d}`, i, seconds))
	}
	_, err := e.client.AdmissionregistrationV1().MutatingWebhookConfigurations().Patch(t.Context(), configuration,
		types.JSONPatchType, []byte("["+strings.Join(ops, ",")+"]"), metav1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

func (e *env) configuration(t *testing.T, name string) *admissionv1.MutatingWebhookConfiguration {
	t.Helper()
	c, err := e.client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// waitReady waits until all replicas are ready and the API server calls them:
// its view of a changed configuration comes a moment later.
func (e *env) waitReady(t *testing.T) {
	t.Helper()
	for _, r := range e.replicas {
		eventually(t, r.name+" ready", r.ready)
	}
	eventually(t, "the API server calls the webhook", func(ctx context.Context) error {
		pod := newPod("probe", map[string]string{injectKey: "true"})
		got, err := e.client.CoreV1().Pods("default").Create(ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if err != nil {
			return err
		}
		return injected(got)
	})
}

// namespace makes a namespace with labels for one test.
func (e *env) namespace(t *testing.T, name string, labels map[string]string) string {
	t.Helper()
	_, err := e.client.CoreV1().Namespaces().Create(t.Context(),
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	// Without its default ServiceAccount no pod can be made.
	eventually(t, "ServiceAccount in "+name, func(ctx context.Context) error {
		_, err := e.client.CoreV1().ServiceAccounts(name).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
	return name
}

// kubectl runs kubectl, which must succeed, and returns what it printed.
func (e *env) kubectl(t *testing.T, stdin string, args ...string) (stdout, stderr string) {
	t.Helper()
	stdout, stderr, err := e.Kubectl(t.Context(), stdin, args...)
	if err != nil {
		t.Fatal(err)
	}
	return stdout, stderr
}

// The keys of podproc; not taken from its code: users type them.
const (
	injectKey = "podproc.io/inject"
	statusKey = "podproc.io/status"
)

// defaultPaths are where the default files are mounted.
var defaultPaths = []string{"/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/swaps", "/sys/devices/system/cpu/online"}

func newPod(name string, annotations map[string]string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: annotations},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app"}}},
	}
}

// mountsOf returns the paths at which a container of the pod has files of
// podproc, each from a hostPath volume of type File, read-only.
func mountsOf(pod *corev1.Pod, mounts []corev1.VolumeMount) []string {
	files := make(map[string]bool)
	for _, v := range pod.Spec.Volumes {
		if h := v.HostPath; h != nil && h.Type != nil && *h.Type == corev1.HostPathFile && strings.HasPrefix(h.Path, "/run/podproc/fs/") {
			files[v.Name] = true
		}
	}
	paths := make(map[string]bool)
	for _, m := range mounts {
		if files[m.Name] && m.ReadOnly {
			paths[m.MountPath] = true
		}
	}
	return slices.Sorted(maps.Keys(paths))
}

// injected reports why a pod does not have the default files in all its containers.
func injected(pod *corev1.Pod) error {
	for _, c := range append(slices.Clone(pod.Spec.InitContainers), pod.Spec.Containers...) {
		if got := mountsOf(pod, c.VolumeMounts); !slices.Equal(got, defaultPaths) {
			return fmt.Errorf("container %s of pod %s has %v, want %v", c.Name, pod.Name, got, defaultPaths)
		}
	}
	if !strings.Contains(pod.Annotations[statusKey], "injected") {
		return fmt.Errorf("pod %s: %s is %q", pod.Name, statusKey, pod.Annotations[statusKey])
	}
	return nil
}

// untouched reports what podproc has put into a pod.
func untouched(pod *corev1.Pod) error {
	for _, v := range pod.Spec.Volumes {
		if v.HostPath != nil {
			return fmt.Errorf("pod %s has volume %s", pod.Name, v.Name)
		}
	}
	return nil
}

// podOf waits for a pod with label app=NAME and returns it.
func (e *env) podOf(t *testing.T, ns, name string) *corev1.Pod {
	t.Helper()
	var pod *corev1.Pod
	eventually(t, "pod of "+ns+"/"+name, func(ctx context.Context) error {
		pods, err := e.client.CoreV1().Pods(ns).List(ctx, metav1.ListOptions{LabelSelector: "app=" + name})
		if err != nil {
			return err
		}
		if len(pods.Items) == 0 {
			return fmt.Errorf("no pods with app=%s", name)
		}
		pod = &pods.Items[0]
		return nil
	})
	return pod
}
