// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/podproc/podproc/test/cluster/controlplane"
)

// A replica is one process of podproc-webhook: a pod of the Deployment.
type replica struct {
	*controlplane.Process
	name string
	host string
}

// startReplica starts one with the arguments of the Deployment's container and more.
// Later flags win: addresses of its own, and lives of minutes. The ports are not the
// usual ones, which something on this machine may have on every address.
func (e *env) startReplica(t *testing.T, more ...string) *replica {
	t.Helper()
	e.started++
	n := e.started
	r := &replica{name: fmt.Sprintf("podproc-webhook-%d", n), host: e.Address(10 + n)}
	argv := append([]string{binaries.webhook}, e.args...)
	argv = append(append(append(argv, more...), r.addresses()...),
		"--kubeconfig="+e.account, "--ca-life="+caLife.String(), "--certificate-life="+leafLife.String())
	r.Process = e.Spawner().Start(r.name, nil, argv...)
	e.replicas = append(e.replicas, r)
	if e.service != nil {
		e.service.add(r)
	}
	return r
}

const (
	reviewPort  = "20250"
	healthPort  = "20081"
	metricsPort = "20118"
)

func (r *replica) addresses() []string {
	return []string{"--bind=" + r.host, "--port=" + reviewPort, "--health-addr=" + r.host + ":" + healthPort, "--metrics-addr=" + r.host + ":" + metricsPort}
}

func (r *replica) ready(ctx context.Context) error {
	if r.Ended() {
		return fmt.Errorf("%s has ended:\n%s", r.name, r.Tail())
	}
	code, body, err := controlplane.Get(ctx, "http://"+r.host+":"+healthPort+"/readyz")
	switch {
	case err != nil:
		return err
	case code != http.StatusOK:
		return errors.New(strings.TrimSpace(body))
	}
	return nil
}

// metric returns the value of a line of /metrics, with its labels as they are printed.
func (r *replica) metric(ctx context.Context, line string) (string, error) {
	_, body, err := controlplane.Get(ctx, "http://"+r.host+":"+metricsPort+"/metrics")
	if err != nil {
		return "", err
	}
	for l := range strings.Lines(body) {
		if value, ok := strings.CutPrefix(l, line+" "); ok {
			return strings.TrimSpace(value), nil
		}
	}
	return "", fmt.Errorf("no metric %s", line)
}

// A loadBalancer is what kube-proxy is in a cluster: it takes the connections to a
// Service's cluster IP to one of the backends that are ready.
type loadBalancer struct {
	mu       sync.Mutex
	replicas []*replica
}

// serve listens on the cluster IP of a Service until the test ends.
func (e *env) serve(t *testing.T, ns, name string) *loadBalancer {
	t.Helper()
	svc, err := e.client.CoreV1().Services(ns).Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", net.JoinHostPort(svc.Spec.ClusterIP, fmt.Sprint(svc.Spec.Ports[0].Port)))
	if err != nil {
		t.Fatalf("be Service %s: %v (port 443 needs root or net.ipv4.ip_unprivileged_port_start)", name, err)
	}
	t.Cleanup(func() { l.Close() })
	lb := &loadBalancer{}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go lb.forward(conn)
		}
	}()
	return lb
}

func (lb *loadBalancer) add(r *replica) {
	lb.mu.Lock()
	defer lb.mu.Unlock()
	lb.replicas = append(lb.replicas, r)
}

// pick returns a backend that is ready, at random; nil if there is none.
func (lb *loadBalancer) pick() *replica {
	lb.mu.Lock()
	all := append([]*replica(nil), lb.replicas...)
	lb.mu.Unlock()
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	for _, r := range all {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		err := r.ready(ctx)
		cancel()
		if err == nil {
			return r
		}
	}
	return nil
}

func (lb *loadBalancer) forward(client net.Conn) {
	defer client.Close()
	r := lb.pick()
	if r == nil {
		return
	}
	backend, err := net.Dial("tcp", net.JoinHostPort(r.host, reviewPort))
	if err != nil {
		return
	}
	defer backend.Close()
	done := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{client, backend}, {backend, client}} {
		go func() {
			io.Copy(way[0], way[1])
			way[0].(*net.TCPConn).CloseWrite()
			done <- struct{}{}
		}()
	}
	<-done
	<-done
}
