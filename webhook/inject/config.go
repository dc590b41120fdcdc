// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"fmt"
	"path"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// DefaultRoot is where podproc-node mounts its file system on each node.
const DefaultRoot = "/run/podproc/fs"

// The Pod Security levels.
const (
	levelPrivileged = "privileged"
	levelBaseline   = "baseline"
	levelRestricted = "restricted"
)

// Config is what an administrator sets once for the cluster. Its zero value
// works. For a list, nil means the default and empty means none.
type Config struct {
	// Files names the files that a pod gets when it names none itself, and
	// that "default" stands for in podproc.io/files. Default: DefaultFiles.
	Files []string
	// Root is the mount point of podproc's file system on the nodes, an
	// absolute path. Default: DefaultRoot.
	Root string
	// Keys are further annotation or label keys that ask for injection like
	// podproc.io/inject, for people who move over from another injector.
	// LegacyKey always counts.
	Keys []string
	// SkipRuntimeClasses are path.Match patterns of runtimeClassName whose
	// containers do not run on the node's kernel, or have a /proc of their own.
	// Default: DefaultSkipRuntimeClasses.
	SkipRuntimeClasses []string
	// SkipNodes say which pods may run on a virtual node, where a hostPath does
	// not exist. Each is "key" or "key=pattern" (path.Match) and is compared
	// with the pod's nodeSelector, required node affinity, tolerations that name
	// the key, and labels; the key metadata.name is compared with nodeName too.
	// Default: DefaultSkipNodes.
	SkipNodes []string
	// UserNamespaces says that every node can give an ID-mapped FUSE mount to a
	// pod with hostUsers: false (Linux 6.12 or newer).
	UserNamespaces bool
	// PodSecurityDefault is the Pod Security level that the API server's own
	// configuration enforces where a namespace has no enforce label:
	// "privileged" (the default), "baseline" or "restricted".
	PodSecurityDefault string
}

// DefaultSkipRuntimeClasses returns the runtime classes skipped by default.
func DefaultSkipRuntimeClasses() []string {
	return []string{"kata*", "gvisor*", "runsc*", "wasm*"}
}

// DefaultSkipNodes returns the virtual nodes skipped by default.
func DefaultSkipNodes() []string {
	return []string{
		"type=virtual-kubelet",                   // virtual-kubelet's own chart, AKS, ACK
		"virtual-kubelet.io/provider",            // its taint
		"eks.amazonaws.com/compute-type=fargate", // EKS Fargate: node label and taint
		"eks.amazonaws.com/fargate-profile",      // and the label EKS puts on such pods
		"alibabacloud.com/eci=true",              // ACK: label on pods for ECI
		"node.kubernetes.io/instance-type=eklet", // TKE super nodes
		"liqo.io/type=virtual-node",              // Liqo
		"metadata.name=virtual-kubelet*",         // pods bound by name
		"metadata.name=fargate-*",
	}
}

// withDefaults fills in what is not set.
func (c Config) withDefaults() Config {
	if c.Files == nil {
		c.Files = DefaultFiles()
	}
	if c.Root == "" {
		c.Root = DefaultRoot
	}
	if c.SkipRuntimeClasses == nil {
		c.SkipRuntimeClasses = DefaultSkipRuntimeClasses()
	}
	if c.SkipNodes == nil {
		c.SkipNodes = DefaultSkipNodes()
	}
	if c.PodSecurityDefault == "" {
		c.PodSecurityDefault = levelPrivileged
	}
	return c
}

// validate returns the first thing in c that cannot be meant.
func (c Config) validate() error {
	for _, name := range c.Files {
		i := fileByName(name)
		if i < 0 {
			return fmt.Errorf("default files: %q is not one of %s", name, strings.Join(Files(), ", "))
		}
		if files[i].refuse != "" {
			return fmt.Errorf("default files: %s %s", name, files[i].refuse)
		}
	}
	if !path.IsAbs(c.Root) || path.Clean(c.Root) != c.Root || c.Root == "/" {
		return fmt.Errorf("root: %q is not a clean absolute path below /", c.Root)
	}
	for _, key := range c.Keys {
		if problems := validation.IsQualifiedName(key); problems != nil {
			return fmt.Errorf("key %q: %s", key, problems[0])
		}
		if strings.HasPrefix(key, "podproc.io/") && key != InjectKey {
			return fmt.Errorf("key %q: podproc.io/ has a meaning of its own", key)
		}
	}
	for _, pattern := range c.SkipRuntimeClasses {
		if _, err := path.Match(pattern, ""); err != nil {
			return fmt.Errorf("runtime class to skip %q: %w", pattern, err)
		}
	}
	for _, s := range c.SkipNodes {
		key, pattern, _ := strings.Cut(s, "=")
		if _, err := path.Match(pattern, ""); err != nil {
			return fmt.Errorf("node to skip %q: %w", s, err)
		}
		if key != nodeNameField && validation.IsQualifiedName(key) != nil {
			return fmt.Errorf("node to skip %q: is not \"key\" or \"key=pattern\"", s)
		}
	}
	switch c.PodSecurityDefault {
	case levelPrivileged, levelBaseline, levelRestricted:
		return nil
	}
	return fmt.Errorf("default Pod Security level: %q is not privileged, baseline or restricted", c.PodSecurityDefault)
}
