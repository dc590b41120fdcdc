// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// A Node says what the agent shall run.
type Node struct {
	Name, IP     string
	Bin          string   // directory of the Kubernetes binaries
	Dir          string   // for all that is written
	Own          []string // directories that this node does not share with the machine
	Network      []string // commands that set the network up
	Pods         string   // the CIDR of the node's pods
	Gateway      string   // that the pods' bridge has
	Server       string   // URL of the API server
	Token        string   // of a member of system:masters
	ControlPlane bool
	Limited      bool              // without CAP_SYS_RESOURCE
	Images       []string          // archives to import
	Tags         map[string]string // image -> another name for it
	Kubelet      string            // further lines of its configuration
}

// run starts everything in the order in which it is needed, and returns only
// with an error.
func (n Node) run() error {
	if err := n.prepare(); err != nil {
		return err
	}
	if err := n.write(); err != nil {
		return err
	}
	os.Setenv("PATH", n.Bin+":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	if n.ControlPlane {
		n.keep("etcd", etcd(n)...)
		n.keep("kube-apiserver", apiserver(n)...)
	}
	n.keep("containerd", "containerd", "--config", n.file("containerd.toml"))
	if err := wait("containerd", 5*time.Minute, "ctr", "version"); err != nil {
		return err
	}
	for _, image := range n.Images {
		if out, err := exec.Command("ctr", "-n", "k8s.io", "images", "import", image).CombinedOutput(); err != nil {
			return fmt.Errorf("import %s: %w: %s", image, err, out)
		}
	}
	for image, name := range n.Tags {
		if out, err := exec.Command("ctr", "-n", "k8s.io", "images", "tag", "--force", image, name).CombinedOutput(); err != nil {
			return fmt.Errorf("tag %s: %w: %s", image, err, out)
		}
	}
	if n.ControlPlane {
		if err := wait("API server", 5*time.Minute, "kubectl", "--kubeconfig", n.file("kubeconfig"), "get", "--raw", "/readyz"); err != nil {
			return err
		}
		n.keep("kube-controller-manager", controllerManager(n)...)
		n.keep("kube-scheduler", "kube-scheduler", "--kubeconfig="+n.file("kubeconfig"), "--leader-elect=false",
			"--authentication-skip-lookup=true", "--cert-dir="+n.file("scheduler"))
	}
	n.keep("kubelet", "kubelet", "--config="+n.file("kubelet.yaml"), "--kubeconfig="+n.file("kubeconfig"),
		"--hostname-override="+n.Name, "--node-ip="+n.IP, "--cert-dir="+n.file("kubelet"), "-v=2")
	select {}
}

func (n Node) file(name string) string { return filepath.Join(n.Dir, name) }

// keep starts a program and starts it again whenever it ends; it logs to log/NAME.log.
func (n Node) keep(name string, argv ...string) {
	log, err := os.OpenFile(n.file("log/"+name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		panic(err) // n.write has made the directory
	}
	go func() {
		for {
			cmd := exec.Command(argv[0], argv[1:]...)
			cmd.Stdout, cmd.Stderr = log, log
			err := cmd.Run()
			fmt.Printf("%s has ended (%v), starting it again; it said\n%s\n", name, err, lastOf(log.Name()))
			time.Sleep(time.Second)
		}
	}()
}

// lastOf is the end of a log.
func lastOf(log string) []byte {
	text, err := os.ReadFile(log)
	if err != nil {
		return []byte(err.Error())
	}
	return text[max(0, len(text)-1000):]
}

// wait waits until a command succeeds.
func wait(what string, limit time.Duration, argv ...string) error {
	end := time.Now().Add(limit)
	for {
		out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
		if err == nil {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s is not there after %v: %w: %s", what, limit, err, out)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

func etcd(n Node) []string {
	const client, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
	return []string{"etcd", "--data-dir", n.file("etcd"), "--unsafe-no-fsync", "--log-level=warn",
		"--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer}
}

// apiserver listens on port 443 of every address, that of the Service kubernetes
// included: pods reach it without kube-proxy. It finds webhooks' endpoints itself.
func apiserver(n Node) []string {
	return []string{"kube-apiserver", "--etcd-servers=http://127.0.0.1:2379", "--cert-dir=" + n.file("pki"),
		"--bind-address=0.0.0.0", "--secure-port=443", "--advertise-address=" + n.IP, "--endpoint-reconciler-type=none",
		"--service-cluster-ip-range=10.96.0.0/24", "--enable-aggregator-routing=true",
		"--token-auth-file=" + n.file("tokens.csv"), "--authorization-mode=RBAC", "--allow-privileged=true", "--profiling=false",
		"--kubelet-preferred-address-types=InternalIP",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-signing-key-file=" + n.file("sa.key"), "--service-account-key-file=" + n.file("sa.key")}
}

func controllerManager(n Node) []string {
	return []string{"kube-controller-manager", "--kubeconfig=" + n.file("kubeconfig"), "--leader-elect=false",
		"--authentication-skip-lookup=true", "--cert-dir=" + n.file("controller-manager"),
		"--service-account-private-key-file=" + n.file("sa.key"), "--root-ca-file=" + n.file("pki/apiserver.crt"),
		// A node that reboots shall have its pods back, not elsewhere.
		"--node-monitor-grace-period=50s"}
}
