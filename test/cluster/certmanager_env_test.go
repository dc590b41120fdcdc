// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	registrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	cmNamespace = "cert-manager"
	cmWebhook   = "cert-manager-webhook"
)

// startCertManager starts cert-manager as its chart installs it, and waits until
// it works. Its three processes are the admin. Its webhook is behind a Service
// whose port is the process's: it listens on every address, and so on the cluster IP.
func (e *env) startCertManager(t *testing.T) {
	t.Helper()
	const path = "github.com/cert-manager/cert-manager"
	module := moduleDir(t, path)
	_, version, _ := strings.Cut(filepath.Base(module), "@")
	if mod, err := os.ReadFile(filepath.Join("certmanager", "go.mod")); err != nil || !strings.Contains(string(mod), path+" "+version+"\n") {
		t.Errorf("certmanager/go.mod has not %s %s as podproc's own go.mod has: %v", path, version, err)
	}
	e.kubectl(t, "", "apply", "--server-side", "-f", filepath.Join(module, "deploy", "crds"))
	e.kubectl(t, "", "wait", "--for=condition=Established", "--timeout="+patience.String(), "crd", "--all")

	port := e.cmPort(t)
	e.namespace(t, cmNamespace, nil)
	_, err := e.client.CoreV1().Services(cmNamespace).Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: cmWebhook},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: port}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	e.cmConfigurations(t, port)
	start := func(name string, args ...string) {
		e.Spawner().Start(name, nil, append([]string{filepath.Join(binaries.certManager, name), "--kubeconfig=" + e.Kubeconfig}, args...)...)
	}
	start("cert-manager-controller")
	start("cert-manager-cainjector")
	start(cmWebhook, "--secure-port="+strconv.Itoa(int(port)), "--healthz-port=0", "--metrics-listen-address=0",
		"--dynamic-serving-ca-secret-namespace="+cmNamespace, "--dynamic-serving-ca-secret-name="+cmWebhook+"-ca",
		"--dynamic-serving-dns-names="+cmWebhook+"."+cmNamespace+".svc")

	const refused = `{apiVersion: cert-manager.io/v1, kind: Certificate, metadata: {name: short, namespace: default},
		spec: {secretName: short, dnsNames: [a.example.com], duration: 1m, issuerRef: {name: nobody}}}`
	eventually(t, "cert-manager's webhook refuses what its schema allows", func(ctx ctx) error {
		_, _, err := e.Kubectl(ctx, refused, "create", "--dry-run=server", "-f", "-")
		switch {
		case err == nil:
			return errors.New("it is not called yet")
		case !strings.Contains(err.Error(), "certificate duration must be greater than 1h"):
			return err
		}
		return nil
	})
}

// cmPort is a port for a process that cannot be told to listen on one address only:
// as much this control plane's own as its network 127.A, and below those that the
// kernel gives away.
func (e *env) cmPort(t *testing.T) int32 {
	t.Helper()
	var a int32
	if _, err := fmt.Sscanf(e.Address(1), "127.%d.", &a); err != nil {
		t.Fatal(err)
	}
	return 21000 + a
}

// cmConfigurations makes the webhook configurations of cert-manager's chart.
func (e *env) cmConfigurations(t *testing.T, port int32) {
	t.Helper()
	meta := metav1.ObjectMeta{Name: cmWebhook, Annotations: map[string]string{
		"cert-manager.io/inject-ca-from-secret": cmNamespace + "/" + cmWebhook + "-ca",
	}}
	client := func(path string) registrationv1.WebhookClientConfig {
		return registrationv1.WebhookClientConfig{Service: &registrationv1.ServiceReference{
			Namespace: cmNamespace, Name: cmWebhook, Path: &path, Port: &port,
		}}
	}
	fail, equivalent, none, seconds := registrationv1.Fail, registrationv1.Equivalent, registrationv1.SideEffectClassNone, int32(30)
	rule := func(resource string, groups []string, operations ...registrationv1.OperationType) []registrationv1.RuleWithOperations {
		return []registrationv1.RuleWithOperations{{
			Operations: operations,
			Rule:       registrationv1.Rule{APIGroups: groups, APIVersions: []string{"v1"}, Resources: []string{resource}},
		}}
	}
	admission := e.client.AdmissionregistrationV1()
	_, err := admission.MutatingWebhookConfigurations().Create(t.Context(), &registrationv1.MutatingWebhookConfiguration{
		ObjectMeta: meta,
		Webhooks: []registrationv1.MutatingWebhook{{
			Name: "webhook.cert-manager.io", ClientConfig: client("/mutate"),
			Rules:                   rule("certificaterequests", []string{"cert-manager.io"}, registrationv1.Create),
			AdmissionReviewVersions: []string{"v1"}, MatchPolicy: &equivalent, FailurePolicy: &fail, SideEffects: &none, TimeoutSeconds: &seconds,
		}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = admission.ValidatingWebhookConfigurations().Create(t.Context(), &registrationv1.ValidatingWebhookConfiguration{
		ObjectMeta: meta,
		Webhooks: []registrationv1.ValidatingWebhook{{
			Name: "webhook.cert-manager.io", ClientConfig: client("/validate"),
			Rules:                   rule("*/*", []string{"cert-manager.io", "acme.cert-manager.io"}, registrationv1.Create, registrationv1.Update),
			AdmissionReviewVersions: []string{"v1"}, MatchPolicy: &equivalent, FailurePolicy: &fail, SideEffects: &none, TimeoutSeconds: &seconds,
		}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}
