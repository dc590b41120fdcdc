// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// testOtherReplicas sees the reasons that podproc as shipped has no occasion for: a
// webhook that may not read namespaces, and one that was told that nodes have user
// namespaces, without which the API server takes no pod with procMount: Unmasked.
func testOtherReplicas(t *testing.T, e *env) {
	unmasked := newPod("unmasked", nil)
	no, mask := false, corev1.UnmaskedProcMount
	unmasked.Spec.HostUsers = &no
	unmasked.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{ProcMount: &mask}
	for i, test := range []struct {
		name, reason string
		flags        []string
		stranger     bool // its account has no rights
		pod          *corev1.Pod
	}{
		{name: "no-rights", reason: "namespace-unknown", stranger: true, pod: newPod("plain", nil)},
		{name: "user-namespaces", reason: "proc-mount-unmasked", flags: []string{"--user-namespaces"}, pod: unmasked},
	} {
		t.Run(test.reason, func(t *testing.T) {
			ns := e.namespace(t, test.name, map[string]string{test.name: "yes"})
			account := e.account
			if test.stranger {
				token, err := e.client.CoreV1().ServiceAccounts(ns).CreateToken(t.Context(), "default", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
				if err != nil {
					t.Fatal(err)
				}
				account = e.KubeconfigFor(t, test.name, token.Status.Token)
			}
			// A key that podproc's own configuration does not know.
			key := "example.com/" + test.name
			e.otherReplica(t, test.name, 201+i, append(test.flags, "--kubeconfig="+account, "--inject-keys="+key)...)
			test.pod.Annotations = map[string]string{key: "true"}
			eventually(t, "a pod that is skipped", func(ctx ctx) error {
				pod, err := e.client.CoreV1().Pods(ns).Create(ctx, test.pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
				if err != nil {
					return err
				}
				if err := untouched(pod); err != nil {
					t.Error(err)
				}
				if status := pod.Annotations[statusKey]; !strings.Contains(status, `"skipped"`) || !strings.Contains(status, `"`+test.reason+`"`) {
					return fmt.Errorf("%s: %s, want skipped for reason %s", statusKey, status, test.reason)
				}
				return nil
			})
		})
	}
}

// otherReplica starts a podproc-webhook with more flags, for pods in namespaces labelled
// NAME=yes.
func (e *env) otherReplica(t *testing.T, name string, host int, flags ...string) {
	t.Helper()
	dir := t.TempDir()
	crt, key := newCA(t).files(t, name+".default.svc", time.Hour)
	putFiles(t, dir, 1, crt, key)
	r := &replica{name: "podproc-" + name, host: e.Address(host)}
	argv := append([]string{binaries.webhook}, e.args...)
	argv = append(append(argv, r.addresses()...), "--certificates=files", "--cert-dir="+dir, "--webhook-configuration=z-"+name)
	r.Process = e.Spawner().Start(r.name, nil, append(argv, flags...)...)
	t.Cleanup(r.Kill)
	// Between the API server and it: what answers for a Service here has a certificate of its own.
	to := &url.URL{Scheme: "https", Host: r.host + ":" + reviewPort}
	proxy := &httputil.ReverseProxy{
		Rewrite:   func(p *httputil.ProxyRequest) { p.SetURL(to) },
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
	}
	e.webhook(t, name, proxy.ServeHTTP)
}

// testKustomize: kubectl -k gives what kubectl -f does.
func testKustomize(t *testing.T, e *env) {
	out, _ := e.kubectl(t, "", "kustomize", filepath.Join(repository, "deploy"))
	manifest, err := os.ReadFile(filepath.Join(repository, "deploy", "podproc.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	objects := func(text string) int { return strings.Count("\n"+text, "\nkind: ") }
	if got, want := objects(out), objects(string(manifest)); got != want || want == 0 {
		t.Errorf("%d objects, want %d", got, want)
	}
}

// testOtherManifests: the API server takes what deploy/ has beside podproc itself, as far
// as it is of Kubernetes' own kinds.
func testOtherManifests(t *testing.T, e *env) {
	e.kubectl(t, "", "create", "namespace", "podproc-release") // which a dry run does not leave there
	for _, test := range []struct {
		file string
		want []string
	}{
		{"release.yaml", []string{"namespace/podproc-release serverside-applied", "daemonset.apps/podproc-release serverside-applied"}},
		{"example.yaml", []string{"deployment.apps/web serverside-applied"}},
		{"policies/openshift.yaml", []string{"rolebinding.rbac.authorization.k8s.io/podproc-webhook-nonroot", "clusterrole.rbac.authorization.k8s.io/podproc-injected"}},
	} {
		text, err := os.ReadFile(filepath.Join(repository, "deploy", test.file))
		if err != nil {
			t.Fatal(err)
		}
		var own strings.Builder
		for doc := range strings.SplitSeq(string(text), "\n---\n") {
			if !strings.Contains(doc, "apiVersion: security.openshift.io/") {
				own.WriteString(doc + "\n---\n")
			}
		}
		out, warnings := e.kubectl(t, own.String(), "apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-")
		for _, want := range test.want {
			if !strings.Contains(out, want) {
				t.Errorf("%s: kubectl says %q, want %q", test.file, out, want)
			}
		}
		if warnings != "" {
			t.Errorf("%s: kubectl warns: %s", test.file, warnings)
		}
	}
}
