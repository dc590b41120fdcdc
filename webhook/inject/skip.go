// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"fmt"
	"path"
	"slices"
)

// A rule says that a pod is not injected for a reason, with particulars.
type rule struct {
	reason Reason
	holds  func(*Injector, *subject) (detail string, holds bool)
}

// subject is a pod that asked for injection.
type subject struct {
	*podObject
	ask ask
	ns  *Namespace
}

// rules are the rules by which a whole pod is left alone; the first that holds
// counts.
var rules = []rule{
	{MirrorPod, mirrorPod},
	{Windows, windows},
	{HostPID, hostPID},
	{NodeCritical, nodeCritical},
	{UserNamespace, userNamespace},
	{RuntimeClass, runtimeClass},
	{VirtualNode, virtualNode},
	{NamespaceUnknown, namespaceUnknown},
	{PodSecurity, podSecurity},
}

const mirrorAnnotation = "kubernetes.io/config.mirror"

// A mirror pod only reports a static pod to the API server.
func mirrorPod(_ *Injector, s *subject) (string, bool) {
	_, ok := s.Metadata.Annotations[mirrorAnnotation]
	return "", ok
}

// A pod runs on Windows if it says so, if it can only be scheduled there, or
// if it has options that only Windows has.
func windows(_ *Injector, s *subject) (string, bool) {
	if s.Spec.OS != nil && s.Spec.OS.Name != "" {
		return "os.name: windows", s.Spec.OS.Name == "windows"
	}
	if s.Spec.SecurityContext != nil && len(s.Spec.SecurityContext.WindowsOptions) > 0 {
		return "securityContext.windowsOptions", true
	}
	for _, key := range [...]string{"kubernetes.io/os", "beta.kubernetes.io/os"} {
		if s.Spec.NodeSelector[key] == "windows" || s.Spec.requires(key, func(v string) bool { return v == "windows" }) {
			return key + ": windows", true
		}
	}
	return "", false
}

// A pod with the node's processes reads the node's /proc on purpose, unless it
// asks for podproc itself.
func hostPID(_ *Injector, s *subject) (string, bool) {
	return "", s.Spec.HostPID && !s.ask.onPod
}

// A pod that its node needs in order to work, such as a network plugin's, may
// not wait for podproc on a new node: podproc's own pods would wait for it.
func nodeCritical(_ *Injector, s *subject) (string, bool) {
	return "", s.Spec.PriorityClassName == "system-node-critical" && !s.ask.onPod
}

// Files of a FUSE file system cannot be ID-mapped before Linux 6.12, and the
// container of such a pod would not start.
func userNamespace(in *Injector, s *subject) (string, bool) {
	return "", s.Spec.HostUsers != nil && !*s.Spec.HostUsers && !in.config.UserNamespaces
}

func runtimeClass(in *Injector, s *subject) (string, bool) {
	name := s.Spec.RuntimeClassName
	if name == "" {
		return "", false
	}
	return clip(name), slices.ContainsFunc(in.config.SkipRuntimeClasses, func(pattern string) bool { return match(pattern, name) })
}

func virtualNode(in *Injector, s *subject) (string, bool) {
	for _, m := range in.skip {
		if where := m.in(s); where != "" {
			return fmt.Sprintf("its %s matches %s", where, m), true
		}
	}
	return "", false
}

// Pods of a template are decided on when they come; the namespace is read then.
func namespaceUnknown(_ *Injector, s *subject) (string, bool) { return "", s.ns == nil && !s.template }

const enforceLabel = "pod-security.kubernetes.io/enforce"

// Pod Security looks at the pod after podproc. hostPath volumes are forbidden
// from baseline on, in every version; a level that it cannot parse counts as
// restricted there.
func podSecurity(in *Injector, s *subject) (string, bool) {
	if s.ns == nil {
		return "", false
	}
	level, labelled := s.ns.Labels[enforceLabel]
	if !labelled {
		level = in.config.PodSecurityDefault
		return "the cluster's default is " + level, level != levelPrivileged
	}
	return enforceLabel + ": " + clip(level), level != levelPrivileged
}

// nodeNameField is the field by which a node affinity names nodes.
const nodeNameField = "metadata.name"

// nodeMatch is one entry of Config.SkipNodes.
type nodeMatch struct {
	key, pattern string
	valued       bool // there is a pattern
}

func (m nodeMatch) String() string {
	if !m.valued {
		return m.key
	}
	return m.key + "=" + m.pattern
}

func (m nodeMatch) value(v string) bool { return !m.valued || match(m.pattern, v) }

// in returns the part of a pod's spec that matches, or "".
func (m nodeMatch) in(s *subject) string {
	if m.key == nodeNameField && s.Spec.NodeName != "" && m.value(s.Spec.NodeName) {
		return "nodeName"
	}
	if v, ok := s.Spec.NodeSelector[m.key]; ok && m.value(v) {
		return "nodeSelector"
	}
	if v, ok := s.Metadata.Labels[m.key]; ok && m.value(v) {
		return "label"
	}
	if s.Spec.requires(m.key, m.value) {
		return "node affinity"
	}
	for i := range s.Spec.Tolerations {
		t := &s.Spec.Tolerations[i]
		if t.Key == m.key && (t.Operator == "Exists" || m.value(t.Value)) {
			return "toleration"
		}
	}
	return ""
}

// requires reports whether one of the alternatives of the required node
// affinity asks for a node whose label or field key has such a value.
func (s *podSpec) requires(key string, value func(string) bool) bool {
	if s.Affinity == nil || s.Affinity.NodeAffinity == nil || s.Affinity.NodeAffinity.Required == nil {
		return false
	}
	wants := func(r nodeRequirement) bool {
		return r.Key == key && (r.Operator == "In" && slices.ContainsFunc(r.Values, value) || r.Operator == "Exists" && value(""))
	}
	return slices.ContainsFunc(s.Affinity.NodeAffinity.Required.Terms, func(t nodeTerm) bool {
		return slices.ContainsFunc(t.MatchExpressions, wants) || slices.ContainsFunc(t.MatchFields, wants)
	})
}

// match is path.Match with a pattern that is known to be well formed.
func match(pattern, s string) bool {
	ok, _ := path.Match(pattern, s)
	return ok
}
