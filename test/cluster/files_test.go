// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	cmapi "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	"github.com/google/go-cmp/cmp"
	registrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/podproc/podproc/certs"
)

// testFiles: certificates from files, as cert-manager and the kubelet bring them. They
// may come late, are read again when they change, and an expired one turns readiness off.
func testFiles(t *testing.T, e *env) {
	const name = "podproc-files"
	ca := newCA(t)
	hook := e.configuration(t, configuration).Webhooks[0]
	hook.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"nobody": "has-this"}}
	hook.ClientConfig.CABundle = ca.pem // what cainjector does
	_, err := e.client.AdmissionregistrationV1().MutatingWebhookConfigurations().Create(t.Context(), &registrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Webhooks: []registrationv1.MutatingWebhook{hook},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	r := &replica{name: name, host: e.Address(200)}
	argv := append([]string{binaries.webhook}, e.args...)
	// The rights of podproc's own account are for its own configuration.
	argv = append(append(argv, r.addresses()...),
		"--certificates=files", "--cert-dir="+dir, "--webhook-configuration="+name, "--kubeconfig="+e.Kubeconfig)
	r.Process = e.Spawner().Start(name, nil, argv...)
	defer r.Kill()

	is := func(words string) func(ctx) error {
		return func(ctx ctx) error {
			err := r.ready(ctx)
			if words == "" || err != nil && strings.Contains(err.Error(), words) {
				return nil
			}
			return fmt.Errorf("/readyz says %v, want %q", err, words)
		}
	}
	eventually(t, "not ready without files", is("tls.crt"))
	put := func(generation int, crt, key []byte) { putFiles(t, dir, generation, crt, key) }
	crt, key := ca.files(t, service+"."+namespace+".svc", 5*time.Second)
	put(1, crt, key)
	eventually(t, "not ready with an expired certificate", is("expired"))
	if !strings.Contains(r.Log(), "expired") {
		t.Error("the log does not say that the certificate has expired")
	}
	crt, key = newCA(t).files(t, service+"."+namespace+".svc", time.Hour)
	put(2, crt, key)
	eventually(t, "not ready with the certificate of another CA", is("caBundle"))
	crt, key = ca.files(t, "other.podproc.svc", time.Hour)
	put(3, crt, key)
	eventually(t, "not ready with the certificate of another name", is("other.podproc.svc"))
	crt, key = ca.files(t, service+"."+namespace+".svc", time.Hour)
	put(4, crt, key)
	eventually(t, "ready", r.ready)
	put(5, crt, []byte("garbage"))
	eventually(t, "broken files are said in the log", func(ctx) error {
		if !strings.Contains(r.Log(), "certificate") || !strings.Contains(r.Log(), "PEM") {
			return errors.New("nothing in the log")
		}
		return nil
	})
	if err := r.ready(t.Context()); err != nil {
		t.Errorf("broken files take away the good certificate: %v", err)
	}
}

// putFiles replaces the files as the kubelet does: a new directory, one rename of a
// link, and the old directory goes.
func putFiles(t *testing.T, dir string, generation int, crt, key []byte) {
	t.Helper()
	data := fmt.Sprintf("..%d", generation)
	steps := []error{
		os.Mkdir(filepath.Join(dir, data), 0o755),
		os.WriteFile(filepath.Join(dir, data, "tls.crt"), crt, 0o644),
		os.WriteFile(filepath.Join(dir, data, "tls.key"), key, 0o644),
		os.Symlink(data, filepath.Join(dir, "..data_tmp")),
		os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")),
	}
	if generation == 1 {
		for _, name := range []string{"tls.crt", "tls.key"} {
			steps = append(steps, os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)))
		}
	}
	if generation > 1 {
		steps = append(steps, os.RemoveAll(filepath.Join(dir, fmt.Sprintf("..%d", generation-1))))
	}
	if err := errors.Join(steps...); err != nil {
		t.Fatal(err)
	}
}

// testCertManager: deploy/podproc-cert-manager.yaml has exactly the objects of package
// certs, and the API server takes them by cert-manager's own schemas.
func testCertManager(t *testing.T, e *env) {
	crds := filepath.Join(moduleDir(t, "github.com/cert-manager/cert-manager"), "deploy", "crds")
	e.kubectl(t, "", "apply", "-f", filepath.Join(crds, "cert-manager.io_issuers.yaml"), "-f", filepath.Join(crds, "cert-manager.io_certificates.yaml"))
	e.kubectl(t, "", "wait", "--for=condition=Established", "--timeout="+patience.String(),
		"crd/issuers.cert-manager.io", "crd/certificates.cert-manager.io")
	manifest, err := os.ReadFile(filepath.Join(repository, "deploy", "podproc-cert-manager.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var ours strings.Builder
	for _, object := range certs.CertManager(namespace) {
		text, err := yaml.Marshal(object)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&ours, "---\n%s", text)
	}
	want, got := certManagerSpecs(t, ours.String()), certManagerSpecs(t, string(manifest))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the chart's objects are not those of package certs (-certs +chart):\n%s", diff)
	}
	eventually(t, "the API server knows the new kinds", func(ctx ctx) error {
		_, _, err := e.Kubectl(ctx, ours.String(), "create", "--dry-run=server", "--validate=strict", "-f", "-")
		return err
	})
}

// certManagerSpecs are the specs of the cert-manager objects in a manifest, by kind and name.
func certManagerSpecs(t *testing.T, manifest string) map[string]any {
	t.Helper()
	specs := make(map[string]any)
	for doc := range strings.SplitSeq("\n"+manifest, "\n---\n") {
		var issuer cmapi.Issuer
		var certificate cmapi.Certificate
		if err := yaml.Unmarshal([]byte(doc), &issuer.TypeMeta); err != nil || issuer.APIVersion != "cert-manager.io/v1" {
			continue
		}
		if err := errors.Join(yaml.Unmarshal([]byte(doc), &issuer), yaml.Unmarshal([]byte(doc), &certificate)); err != nil {
			t.Fatal(err)
		}
		if issuer.Kind == cmapi.IssuerKind {
			specs[issuer.Kind+" "+issuer.Name] = issuer.Spec
		} else {
			specs[certificate.Kind+" "+certificate.Name] = certificate.Spec
		}
	}
	return specs
}
