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
// first such reason is the pod's.
const (
	ProcMountUnmasked Reason = "proc-mount-unmasked"
	NotListed         Reason = "not-listed"
	Excluded          Reason = "excluded"
	AlreadyRunning    Reason = "already-running" // an ephemeral container
)

// Why a file is not mounted.
const (
	OwnMount        Reason = "own-mount"
	VolumeNameTaken Reason = "volume-name-taken"
	NoVolume        Reason = "no-volume" // in an ephemeral container
)

// Text is the reason in words that a person can act upon.
func (r Reason) Text() string { return string(r) }

// Tell reports whether the user should learn of it unasked: a pod that should
// have been injected was not.
func (r Reason) Tell() bool { return true }

// Reasons returns all reasons, in the order of the documentation.
func Reasons() []Reason { return nil }
