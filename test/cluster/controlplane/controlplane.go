// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

// Package controlplane starts a real Kubernetes control plane for a test: etcd,
// kube-apiserver and kube-controller-manager as child processes that end with it.
//
// Everything listens on loopback addresses of a network 127.A.0.0/16 that the
// control plane has to itself, so no port is guessed or raced for. Services get cluster
// IPs of 127.A.2.0/24: a test that listens on one is the Service's backend, and the API
// server calls webhooks through Services as it does in a cluster, without kube-proxy.
//
// There is no node: pods are stored and stay Pending.
package controlplane

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// A ControlPlane is a running control plane.
type ControlPlane struct {
	Dir        string // everything it writes
	Kubeconfig string // of a member of system:masters
	Client     kubernetes.Interface

	bin     string // etcd, kube-apiserver, ...
	network string // "127.A"
	token   string
	spawn   *Spawner
}

// startTimeout is for a machine that does a lot besides.
const startTimeout = 3 * time.Minute

// Start starts a control plane from the binaries in bin (made by
// test/cluster/build) and ends it with the test.
func Start(t testing.TB, bin string) *ControlPlane {
	t.Helper()
	if _, err := os.Stat(filepath.Join(bin, "kube-apiserver")); err != nil {
		t.Fatalf("no Kubernetes in %s (go run ./test/cluster/build makes it): %v", bin, err)
	}
	c := &ControlPlane{Dir: t.TempDir(), bin: bin, network: reserve(t), token: randomHex(t)}
	c.Kubeconfig = filepath.Join(c.Dir, "admin.kubeconfig")
	c.spawn = NewSpawner(t, c.Dir)
	c.write(t, "tokens.csv", []byte(c.token+",admin,admin,system:masters\n"))
	c.write(t, "sa.key", signingKey(t))

	c.spawn.Start("etcd", nil, c.etcd()...)
	apiserver := c.spawn.Start("kube-apiserver", nil, c.apiserver()...)
	c.waitFor(t, apiserver)
	c.spawn.Start("kube-controller-manager", nil, c.controllerManager()...)
	return c
}

// Address is a loopback address of the control plane's own network that is left
// to the test: 127.A.3.host.
func (c *ControlPlane) Address(host int) string { return fmt.Sprintf("%s.3.%d", c.network, host) }

// ClusterIP is an address that a Service may ask for and the test listen on.
func (c *ControlPlane) ClusterIP(host int) string { return fmt.Sprintf("%s.2.%d", c.network, host) }

// Spawner starts further processes beside those of the control plane.
func (c *ControlPlane) Spawner() *Spawner { return c.spawn }

func (c *ControlPlane) etcd() []string {
	client, peer := "http://"+c.network+".1.2:2379", "http://"+c.network+".1.2:2380"
	return []string{filepath.Join(c.bin, "etcd"),
		"--data-dir", filepath.Join(c.Dir, "etcd"), "--unsafe-no-fsync", "--log-level=warn",
		"--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default=" + peer,
	}
}

func (c *ControlPlane) server() string { return "https://" + c.network + ".1.1:6443" }

func (c *ControlPlane) apiserver() []string {
	return []string{filepath.Join(c.bin, "kube-apiserver"),
		"--etcd-servers=http://" + c.network + ".1.2:2379",
		"--cert-dir=" + filepath.Join(c.Dir, "pki"), // it makes its own certificate
		"--bind-address=" + c.network + ".1.1", "--secure-port=6443",
		"--advertise-address=192.0.2.1", "--endpoint-reconciler-type=none", // a loopback address may not be advertised
		"--service-cluster-ip-range=" + c.network + ".2.0/24",
		"--token-auth-file=" + filepath.Join(c.Dir, "tokens.csv"),
		"--authorization-mode=RBAC", "--allow-privileged=true", "--profiling=false",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-signing-key-file=" + filepath.Join(c.Dir, "sa.key"),
		"--service-account-key-file=" + filepath.Join(c.Dir, "sa.key"),
	}
}

func (c *ControlPlane) controllerManager() []string {
	return []string{filepath.Join(c.bin, "kube-controller-manager"),
		"--kubeconfig=" + c.Kubeconfig, "--leader-elect=false", "--secure-port=0", "--profiling=false",
		"--authentication-skip-lookup=true", "--cert-dir=" + filepath.Join(c.Dir, "pki"),
		"--service-account-private-key-file=" + filepath.Join(c.Dir, "sa.key"),
		"--root-ca-file=" + filepath.Join(c.Dir, "pki", "apiserver.crt"),
		"--kube-api-qps=200", "--kube-api-burst=400",
	}
}

// waitFor waits for the API server, and for its certificate, and makes the admin's client.
func (c *ControlPlane) waitFor(t testing.TB, apiserver *Process) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	var last error
	for ; ctx.Err() == nil; time.Sleep(100 * time.Millisecond) {
		if apiserver.Ended() {
			t.Fatalf("kube-apiserver has ended:\n%s", apiserver.Tail())
		}
		if last = c.connect(ctx); last == nil {
			return
		}
	}
	t.Fatalf("API server is not ready: %v\n%s", last, apiserver.Tail())
}

func (c *ControlPlane) connect(ctx context.Context) error {
	if _, err := os.Stat(c.Kubeconfig); errors.Is(err, os.ErrNotExist) {
		ca, err := os.ReadFile(filepath.Join(c.Dir, "pki", "apiserver.crt"))
		if err != nil {
			return err
		}
		if err := clientcmd.WriteToFile(c.kubeconfig(ca, c.token), c.Kubeconfig); err != nil {
			return err
		}
	}
	config, err := c.REST()
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	body, err := client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
	if err != nil {
		return fmt.Errorf("%w: %s", err, body)
	}
	c.Client = client
	return nil
}

// REST is the admin's configuration, without a limit of its own.
func (c *ControlPlane) REST() (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig)
	if err != nil {
		return nil, err
	}
	config.QPS, config.Burst = -1, 0
	return config, nil
}

func (c *ControlPlane) kubeconfig(ca []byte, token string) clientcmdapi.Config {
	return clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"c": {Server: c.server(), CertificateAuthorityData: ca}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{"u": {Token: token}},
		Contexts:       map[string]*clientcmdapi.Context{"c": {Cluster: "c", AuthInfo: "u"}},
		CurrentContext: "c",
	}
}

// KubeconfigFor writes a kubeconfig with another token and returns its path.
func (c *ControlPlane) KubeconfigFor(t testing.TB, name, token string) string {
	t.Helper()
	ca, err := os.ReadFile(filepath.Join(c.Dir, "pki", "apiserver.crt"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(c.Dir, name+".kubeconfig")
	if err := clientcmd.WriteToFile(c.kubeconfig(ca, token), path); err != nil {
		t.Fatal(err)
	}
	return path
}

// Kubectl runs kubectl as the admin with that input and returns what it printed.
func (c *ControlPlane) Kubectl(ctx context.Context, stdin string, args ...string) (stdout, stderr string, err error) {
	cmd := exec.CommandContext(ctx, filepath.Join(c.bin, "kubectl"), append([]string{"--kubeconfig", c.Kubeconfig}, args...)...)
	cmd.Env = append(os.Environ(), "HOME="+c.Dir) // its cache of what the API server offers
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), errs.String(), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, errs.String())
	}
	return out.String(), errs.String(), nil
}

// Metrics returns the API server's own metrics.
func (c *ControlPlane) Metrics(ctx context.Context) (string, error) {
	body, err := c.Client.Discovery().RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	return string(body), err
}

func (c *ControlPlane) write(t testing.TB, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(c.Dir, name), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// reserve picks a network 127.A that no other control plane on this machine has:
// who can listen on its last address has it.
func reserve(t testing.TB) string {
	t.Helper()
	for range 100 {
		n, err := rand.Int(rand.Reader, big.NewInt(200))
		if err != nil {
			t.Fatal(err)
		}
		network := fmt.Sprintf("127.%d", 20+n.Int64())
		l, err := net.Listen("tcp", network+".255.254:7")
		if err != nil {
			continue
		}
		t.Cleanup(func() { l.Close() })
		return network
	}
	t.Fatal("no network 127.A is free: is this test allowed to listen on port 7?")
	return ""
}

func randomHex(t testing.TB) string {
	t.Helper()
	b := make([]byte, 16)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(b)
}

func signingKey(t testing.TB) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
}

// Get asks for a URL over plain HTTP and returns status and body.
func Get(ctx context.Context, url string) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	var body bytes.Buffer
	_, err = body.ReadFrom(resp.Body)
	return resp.StatusCode, body.String(), err
}
