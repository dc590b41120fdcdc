// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package inject

// The annotations of podproc. InjectKey is also a label, on pods and on
// namespaces.
const (
	InjectKey            = "podproc.io/inject"             // "true" or "false"
	FilesKey             = "podproc.io/files"              // "default,loadavg"
	ContainersKey        = "podproc.io/containers"         // "app,worker": only these
	ExcludeContainersKey = "podproc.io/exclude-containers" // "istio-proxy": all but these
	StatusKey            = "podproc.io/status"             // written: what was done, see Status
	CarriedKey           = "podproc.io/carried"            // written on templates: what comes from the workload
	LegacyKey            = "initializer.kubernetes.io/lxcfs"
)
