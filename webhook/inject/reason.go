// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package inject

// Reason is why an object, a container or a file is left alone, in one word: a
// value for a metric, a log or a status.
type Reason string

// Why a pod is not injected.
const (
	NotAsked         Reason = "not-asked"
	OptedOut         Reason = "opted-out"
	MirrorPod        Reason = "mirror-pod"
	Windows          Reason = "windows"
	HostPID          Reason = "host-pid"
	NodeCritical     Reason = "node-critical"
	UserNamespace    Reason = "user-namespace"
	RuntimeClass     Reason = "runtime-class"
	VirtualNode      Reason = "virtual-node"
	PodSecurity      Reason = "pod-security"
	NamespaceUnknown Reason = "namespace-unknown"
	NoFile           Reason = "no-file"
	NoContainer      Reason = "no-container"
	TooLarge         Reason = "too-large"
	Malformed        Reason = "malformed"
	WrongOperation   Reason = "wrong-operation"
)

// Why a workload is not touched.
const (
	Owned             Reason = "controller-owned"
	TemplateUnchanged Reason = "template-unchanged"
	JobTemplate       Reason = "job-template"
)

// Why a container is left alone. If no container of a pod gets a file, the
// first such reason is the pod's; one that is no choice of the user's first.
const (
	ProcMountUnmasked Reason = "proc-mount-unmasked"
	Privileged        Reason = "privileged"
	NotListed         Reason = "not-listed"
	Excluded          Reason = "excluded"
	AlreadyRunning    Reason = "already-running" // an ephemeral container
)

// Why a file is not mounted. If it is so for every file of every container,
// the first such reason is the pod's.
const (
	OwnMount        Reason = "own-mount"
	VolumeNameTaken Reason = "volume-name-taken"
	NoVolume        Reason = "no-volume" // in an ephemeral container
)

// reasons is the table of all reasons: their words, and whether a user learns
// of them unasked when they keep a pod from being injected.
var reasons = []struct {
	reason Reason
	tell   bool
	text   string
}{
	{NotAsked, false, "neither the pod nor its namespace asks for injection: set podproc.io/inject: \"true\""},
	{OptedOut, true, "the pod opts out"},
	{MirrorPod, true, "this is the mirror of a static pod: what runs is the file on the node, which podproc does not change"},
	{Windows, true, "the pod runs on Windows, which has no /proc"},
	{HostPID, true, "the pod uses the node's processes (hostPID), so it probably wants the node's /proc: to inject it set podproc.io/inject: \"true\" on the pod itself"},
	{NodeCritical, true, "the node needs the pod (system-node-critical), and podproc may need it too, so it must not wait for podproc: to inject it set podproc.io/inject: \"true\" on the pod itself"},
	{UserNamespace, true, "the pod has a user namespace (hostUsers: false), and podproc was not told that the nodes can mount its files there (Linux 6.12 or newer)"},
	{RuntimeClass, true, "containers of this runtime class have a kernel or a /proc of their own"},
	{VirtualNode, true, "the pod may run on a virtual node, where podproc does not run"},
	{PodSecurity, true, "the namespace enforces a Pod Security level that forbids hostPath volumes, so the injected pod would be rejected"},
	{NamespaceUnknown, true, "the labels of the namespace could not be read, so it is not known whether it forbids hostPath volumes"},
	{NoFile, true, "none of the files asked for can be mounted"},
	{NoContainer, true, "the pod has no container to inject"},
	{TooLarge, true, "with podproc's mounts the pod could be larger than the API server can store"},
	{Malformed, true, "podproc cannot read the object"},
	{WrongOperation, false, "podproc acts when pods and workloads are created, when workloads are updated and when ephemeral containers are added"},

	{Owned, false, "it belongs to another object, whose pod template counts"},
	{TemplateUnchanged, false, "this request changes neither podproc's annotations nor the pod template, and podproc starts no rollout that nobody asked for"},
	{JobTemplate, false, "the pod template of a Job cannot change once it is created: delete the Job and create it anew"},

	{ProcMountUnmasked, true, "containers with procMount: Unmasked mount /proc themselves, which fails where files are mounted over it"},
	{Privileged, true, "privileged containers may hold containers that mount /proc themselves, which fails where files are mounted over it: to inject them set podproc.io/inject: \"true\" on the pod itself"},
	{NotListed, true, "podproc.io/containers names other containers only"},
	{Excluded, true, "podproc.io/exclude-containers names the container"},
	{AlreadyRunning, false, "an ephemeral container cannot change once it is added"},

	{OwnMount, true, "the container already has a mount there"},
	{VolumeNameTaken, true, "the pod has a volume of the same name that is not podproc's"},
	{NoVolume, false, "the pod was not injected with this file when it was created, and volumes cannot be added later"},
}

// Text is the reason in words that a person can act upon: one sentence without
// a capital and a full stop.
func (r Reason) Text() string {
	for i := range reasons {
		if reasons[i].reason == r {
			return reasons[i].text
		}
	}
	return string(r)
}

// Tell reports whether the user should learn of it unasked: a pod that should
// have been injected was not.
func (r Reason) Tell() bool {
	for i := range reasons {
		if reasons[i].reason == r {
			return reasons[i].tell
		}
	}
	return false
}

// message is the reason's text with its particulars.
func (r Reason) message(detail string) string {
	if detail == "" {
		return r.Text()
	}
	return r.Text() + " (" + detail + ")"
}

// Reasons returns all reasons, in the order of the documentation.
func Reasons() []Reason {
	all := make([]Reason, len(reasons))
	for i := range reasons {
		all[i] = reasons[i].reason
	}
	return all
}
