// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
)

// pauseImage is the image of the container that holds a pod's namespaces.
const pauseImage = "local.test/pause:1"

const containerdConfig = `version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.internal.v1.opt", "io.containerd.tracing.processor.v1.otlp"]
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "%s"
  disable_apparmor = true
  restrict_oom_score_adj = %v
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "%s"
`

const cniConfig = `{"cniVersion": "1.0.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
   "ipam": {"type": "host-local", "ranges": [[{"subnet": "%s", "rangeStart": "%s", "gateway": "%s"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}
`

// kubeletConfig: the kubelet's defaults but for what this machine lacks (a CA,
// a resolver, iptables) or must not be judged by (its disk).
const kubeletConfig = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: 0.0.0.0
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
resolvConf: ""
clusterDNS: ["10.96.0.10"] # nobody is there; without it each pod is warned of again and again
makeIPTablesUtilChains: false
localStorageCapacityIsolation: false
evictionHard: {memory.available: "0%%", nodefs.available: "0%%", nodefs.inodesFree: "0%%", imagefs.available: "0%%", imagefs.inodesFree: "0%%"}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
nodeStatusUpdateFrequency: 4s
syncFrequency: 10s
runtimeRequestTimeout: 10m
%s`

const kubeconfig = `apiVersion: v1
kind: Config
clusters: [{name: podproc, cluster: {server: "%s", insecure-skip-tls-verify: true}}]
users: [{name: admin, user: {token: "%s"}}]
contexts: [{name: podproc, context: {cluster: podproc, user: admin}}]
current-context: podproc
`

// write writes every configuration file.
func (n Node) write() error {
	for _, dir := range []string{"log", "cni", "pki"} {
		if err := os.MkdirAll(n.file(dir), 0o755); err != nil {
			return err
		}
	}
	files := map[string]string{
		"containerd.toml":   fmt.Sprintf(containerdConfig, pauseImage, n.Limited, n.file("cni")),
		"cni/pods.conflist": fmt.Sprintf(cniConfig, n.Pods, n.firstPod(), n.Gateway),
		"kubelet.yaml":      fmt.Sprintf(kubeletConfig, n.Kubelet),
		"kubeconfig":        fmt.Sprintf(kubeconfig, n.Server, n.Token),
	}
	if n.ControlPlane {
		files["tokens.csv"] = n.Token + ",admin,admin,system:masters\n"
		if _, err := os.Stat(n.file("sa.key")); errors.Is(err, os.ErrNotExist) {
			key, err := signingKey()
			if err != nil {
				return err
			}
			files["sa.key"] = key
		}
	}
	for name, text := range files {
		if err := os.WriteFile(n.file(name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// firstPod leaves the beginning of the network to nodes and bridges.
func (n Node) firstPod() string {
	var a, b byte
	if _, err := fmt.Sscanf(n.Pods, "%d.%d.", &a, &b); err != nil {
		panic(fmt.Sprintf("pods' network %q: %v", n.Pods, err))
	}
	return fmt.Sprintf("%d.%d.1.1", a, b)
}

// signingKey signs the tokens of ServiceAccounts.
func signingKey() (string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return "", err
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})), nil
}
