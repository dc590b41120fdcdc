// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/podproc/podproc/webhook/inject"
)

// start serves b with httptest's certificate; stop tells it to end, and done is
// closed when it has.
func start(t *testing.T, b *bench, delay time.Duration) (client func() *http.Client, url string, stop func(), done <-chan struct{}) {
	t.Helper()
	borrowed := httptest.NewUnstartedServer(nil)
	borrowed.StartTLS()
	t.Cleanup(borrowed.Close)
	b.Delay = delay
	b.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &borrowed.TLS.Certificates[0], nil }
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := b.Serve(ctx, l); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() { cancel(); <-ended })
	client = func() *http.Client {
		transport := borrowed.Client().Transport.(*http.Transport).Clone()
		transport.ForceAttemptHTTP2 = true
		t.Cleanup(transport.CloseIdleConnections)
		return &http.Client{Transport: transport}
	}
	return client, "https://" + l.Addr().String() + "/pods", cancel, ended
}

func ask(c *http.Client, url string) error {
	body := []byte(review("v1", request("", "Pod", "CREATE", pod, "")))
	resp, err := c.Post(url, "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.ProtoMajor != 2 {
		return http.ErrNotSupported
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// TestShutdownLosesNothing: clients that keep one HTTP/2 connection, as the API server does,
// notice nothing when a replica ends: what it has not answered they send to the other.
func TestShutdownLosesNothing(t *testing.T) {
	// Two replicas behind one address: a listener that hands connections to whichever is alive.
	first, second := newBench(t), newBench(t)
	client, firstURL, stop, done := start(t, first, 200*time.Millisecond)
	_, secondURL, _, _ := start(t, second, 0)
	var alive atomic.Value
	alive.Store(firstURL)
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		url := alive.Load().(string)
		return (&net.Dialer{}).DialContext(ctx, network, url[len("https://"):len(url)-len("/pods")])
	}
	var wg sync.WaitGroup
	var answered atomic.Int64
	quit := make(chan struct{})
	for i := range 8 {
		c := client()
		c.Transport.(*http.Transport).DialContext = dial
		if err := ask(c, "https://127.0.0.1/pods"); err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			for {
				select {
				case <-quit:
					return
				case <-time.After(time.Duration(i) * 10 * time.Millisecond): // some never idle, some nearly always
				}
				if err := ask(c, "https://127.0.0.1/pods"); err != nil {
					t.Errorf("lost: %v", err)
				}
				answered.Add(1)
			}
		})
	}
	alive.Store(secondURL) // the Service has only the other one now
	stop()
	<-done
	// Each goes on at the other one, the idle ones too.
	for n := answered.Load(); answered.Load() < n+50; {
		time.Sleep(time.Millisecond)
	}
	close(quit)
	wg.Wait()
}

// TestDrains: while it drains it answers, and says so to readiness.
func TestDrains(t *testing.T) {
	b := newBench(t)
	client, url, stop, done := start(t, b, time.Second)
	c := client()
	if err := ask(c, url); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	stop()
	for !b.Draining() {
		time.Sleep(time.Millisecond)
	}
	if err := ask(client(), url); err != nil && time.Since(began) < b.Delay { // else it was so slow that it was over
		t.Errorf("a new connection while draining: %v", err)
	}
	<-done
	if err := ask(c, url); err == nil {
		t.Error("answers after its end")
	}
}

// TestLargeReviews: the largest reviews are read two at a time, whoever sends
// them, and none is lost.
func TestLargeReviews(t *testing.T) {
	defer func(d time.Duration) { longestRead = d }(longestRead)
	longestRead = time.Minute // on a busy machine
	b := newBench(t)
	var now, most atomic.Int64
	b.Handler.Namespace = func(context.Context, string) *inject.Namespace {
		n := now.Add(1)
		defer now.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		time.Sleep(300 * time.Millisecond) // so that others could come
		return nil
	}
	client, url, _, _ := start(t, b, 0)
	body := []byte(review("v1", request("", "Pod", "CREATE", pod, "")))
	body = append(body, bytes.Repeat([]byte(" "), largestReview-1-len(body))...)
	var wg sync.WaitGroup
	for range 6 {
		c := client()
		wg.Go(func() {
			resp, err := c.Post(url, "application/json", bytes.NewReader(body))
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			text, err := io.ReadAll(resp.Body)
			if err != nil || !bytes.Contains(text, []byte(`"allowed":true`)) {
				t.Errorf("%.200s, %v", text, err)
			}
		})
	}
	wg.Wait()
	if got := most.Load(); got > 2 {
		t.Errorf("%d of the largest reviews were read at once", got)
	}
}
