// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestCertManager: deploy/podproc-cert-manager.yaml with the real cert-manager:
// its controller issues, its webhook validates, its cainjector fills caBundle. CA
// and certificate are renewed while pods are created without a pause: not one may
// be missed. The test is the kubelet, which brings the Secret's files.
func TestCertManager(t *testing.T) {
	e := newEnv(t, "podproc-cert-manager.yaml")
	e.startCertManager(t)
	e.apply(t)
	var bring kubelet
	for range 2 {
		bring.add(t, e)
	}
	first := e.issued(t, "a certificate is issued", func(*corev1.Secret) bool { return true })
	bring.all(t, first)
	e.waitReady(t)
	pod, err := e.client.CoreV1().Pods("default").Create(t.Context(), newPod("app", map[string]string{injectKey: "true"}), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := injected(pod); err != nil {
		t.Error(err)
	}
	e.appliedAgain(t, first)
	last := e.renewals(t, &bring, first)
	e.expires(t, &bring, last)
	e.removed(t)
}

// removed: what the manifest has made goes with it, and what cert-manager has
// made of that.
func (e *env) removed(t *testing.T) {
	t.Helper()
	for _, r := range e.replicas {
		r.Kill()
	}
	e.kubectl(t, e.manifest, "delete", "--wait=false", "-f", "-")
	eventually(t, "nothing of podproc is left", func(ctx ctx) error {
		for _, args := range [][]string{
			{"clusterroles,clusterrolebindings,mutatingwebhookconfigurations", "-l", "app.kubernetes.io/name=podproc"},
			{"namespaces", namespace, "--ignore-not-found"},
			{"roles,rolebindings,secrets,issuers.cert-manager.io,certificates.cert-manager.io", "-n", namespace},
		} {
			out, _, err := e.Kubectl(ctx, "", append([]string{"get", "-o", "name"}, args...)...)
			if err != nil {
				return err
			}
			if out != "" {
				return fmt.Errorf("left are %s", strings.ReplaceAll(out, "\n", " "))
			}
		}
		return nil
	})
}

// appliedAgain: a second install changes neither caBundle nor certificate.
func (e *env) appliedAgain(t *testing.T, first *corev1.Secret) {
	t.Helper()
	before := e.bundle(t)
	e.kubectl(t, e.manifest, "apply", "-f", "-")
	e.patchTimeouts(t, 30)
	if !bytes.Equal(e.bundle(t), before) {
		t.Error("applied again, the manifest takes caBundle away")
	}
	now, err := e.client.CoreV1().Secrets(namespace).Get(t.Context(), first.Name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if now.ResourceVersion != first.ResourceVersion {
		t.Error("applied again, the manifest changes the Secret")
	}
}

// renewals has CA and certificate renewed, and the certificate a second time
// when its time has come. Every replica serves the old one for a while when
// caBundle has the new CA, and one still when the other has the new one.
func (e *env) renewals(t *testing.T, bring *kubelet, first *corev1.Secret) (last *corev1.Secret) {
	t.Helper()
	ns := e.namespace(t, "renewals", map[string]string{injectKey: "true"})
	missed := e.missed(t)
	before := make(map[*replica]int)
	for _, r := range e.replicas {
		before[r] = strings.Count(r.Log(), "not ready")
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var pods, handshakes int
	wg.Go(func() { pods = createPods(t, e, ns, stop) })
	wg.Go(func() { handshakes = shakeHands(t, e, stop) })
	end := sync.OnceFunc(func() { close(stop); wg.Wait() })
	defer end()

	// Another duration in the spec is a reason to issue at once; 1h is the least that cert-manager takes.
	e.setDuration(t, "podproc-ca", 10*365*24*time.Hour+time.Hour, 5*365*24*time.Hour)
	ca := first.Data["ca.crt"]
	eventually(t, "the CA is renewed", func(ctx ctx) error {
		secret, err := e.client.CoreV1().Secrets(namespace).Get(ctx, "podproc-ca", metav1.GetOptions{})
		if err == nil && bytes.Equal(secret.Data[corev1.TLSCertKey], ca) {
			err = errors.New("still the old one")
		}
		if err == nil {
			ca = secret.Data[corev1.TLSCertKey]
		}
		return err
	})
	const early = 5 * time.Second // after which a certificate is to be renewed
	e.setDuration(t, "podproc-webhook", time.Hour, time.Hour-early)
	second := e.issued(t, "a certificate of the new CA is issued", func(s *corev1.Secret) bool {
		return !bytes.Equal(s.Data[corev1.TLSCertKey], first.Data[corev1.TLSCertKey]) && bytes.Equal(s.Data["ca.crt"], ca)
	})
	eventually(t, "cainjector writes the new CA", func(ctx) error {
		if !slices.ContainsFunc(parseBundle(e.bundle(t)), parseBundle(ca)[0].Equal) {
			return errors.New("it is not in caBundle")
		}
		return nil
	})
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	for _, r := range e.replicas {
		if err := handshake(net.JoinHostPort(r.host, reviewPort), roots); err != nil {
			t.Errorf("the new CA does not verify the certificate that the old one has signed: %v", err)
		}
	}
	bring.all(t, second)
	last = e.issued(t, "a certificate is renewed in time", func(s *corev1.Secret) bool {
		return !bytes.Equal(s.Data[corev1.TLSCertKey], second.Data[corev1.TLSCertKey])
	})
	bring.all(t, last)
	for _, r := range e.replicas {
		if err := r.ready(t.Context()); err != nil {
			t.Errorf("%s after renewals: %v", r.name, err)
		}
		if strings.Count(r.Log(), "not ready") != before[r] { // the load balancer asks for each connection
			t.Errorf("%s was not ready for a while:\n%s", r.name, r.Tail())
		}
	}
	end()
	if now := e.missed(t); now != missed {
		t.Errorf("the API server has passed podproc over %v times, before it was %v", now, missed)
	}
	t.Logf("%d pods created, %d handshakes", pods, handshakes)
	if pods == 0 || handshakes == 0 {
		t.Error("nothing was tried")
	}
	return last
}

// expires: a replica whose files are out of date says so and takes no part,
// the other does; new files make it ready again.
func (e *env) expires(t *testing.T, bring *kubelet, last *corev1.Secret) {
	t.Helper()
	secret, err := e.client.CoreV1().Secrets(namespace).Get(t.Context(), "podproc-ca", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey])
	if err != nil {
		t.Fatal(err)
	}
	ca := &testCA{cert: pair.Leaf, key: pair.PrivateKey.(*ecdsa.PrivateKey)}
	crt, key := ca.files(t, service+"."+namespace+".svc", 5*time.Second)
	r := e.replicas[0]
	bring.one(t, 0, crt, key)
	eventually(t, "not ready with an expired certificate", func(ctx ctx) error {
		if err := r.ready(ctx); err == nil || !strings.Contains(err.Error(), "expired") {
			return fmt.Errorf("/readyz says %v", err)
		}
		return nil
	})
	if !strings.Contains(r.Log(), "expired") {
		t.Error("the log does not say that the certificate has expired")
	}
	pod, err := e.client.CoreV1().Pods("default").Create(t.Context(), newPod("other", map[string]string{injectKey: "true"}), metav1.CreateOptions{})
	if err == nil {
		err = injected(pod)
	}
	if err != nil {
		t.Errorf("the other replica does not serve: %v", err)
	}
	bring.one(t, 0, last.Data[corev1.TLSCertKey], last.Data[corev1.TLSPrivateKeyKey])
	eventually(t, "ready with new files", r.ready)
}

// A kubelet brings a Secret to the replicas' directories, to one after the other.
type kubelet struct {
	dirs       []string
	replicas   []*replica
	generation []int
}

func (k *kubelet) add(t *testing.T, e *env) {
	t.Helper()
	dir := t.TempDir()
	k.dirs = append(k.dirs, dir)
	k.replicas = append(k.replicas, e.startReplica(t, "--cert-dir="+dir))
	k.generation = append(k.generation, 0)
}

// all brings the files to each replica, and waits until it serves them before
// it goes on to the next.
func (k *kubelet) all(t *testing.T, secret *corev1.Secret) {
	t.Helper()
	for i := range k.replicas {
		k.one(t, i, secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey])
	}
}

func (k *kubelet) one(t *testing.T, i int, crt, key []byte) {
	t.Helper()
	k.generation[i]++
	putFiles(t, k.dirs[i], k.generation[i], crt, key)
	want := parseBundle(crt)[0]
	eventually(t, k.replicas[i].name+" serves the new files", func(ctx) error {
		conn, err := tls.Dial("tcp", net.JoinHostPort(k.replicas[i].host, reviewPort), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			return err
		}
		defer conn.Close()
		if got := conn.ConnectionState().PeerCertificates[0]; !got.Equal(want) {
			return fmt.Errorf("it serves %s, want %s", got.SerialNumber, want.SerialNumber)
		}
		return nil
	})
}

// issued waits until the Secret of podproc's certificate is complete and good.
func (e *env) issued(t *testing.T, what string, good func(*corev1.Secret) bool) *corev1.Secret {
	t.Helper()
	var secret *corev1.Secret
	eventually(t, what, func(ctx ctx) (err error) {
		secret, err = e.client.CoreV1().Secrets(namespace).Get(ctx, "podproc-webhook-tls", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if _, err := tls.X509KeyPair(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey]); err != nil {
			return err
		}
		if !good(secret) {
			return errors.New("not yet")
		}
		return nil
	})
	return secret
}

func (e *env) setDuration(t *testing.T, certificate string, duration, renewBefore time.Duration) {
	t.Helper()
	patch := fmt.Sprintf(`{"spec":{"duration":%q,"renewBefore":%q}}`, duration, renewBefore)
	e.kubectl(t, "", "-n", namespace, "patch", "certificate.cert-manager.io/"+certificate, "--type=merge", "-p", patch)
}
