// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package inject

import "strings"

// hostPathFile makes the kubelet wait until the path is a file (or a link to
// one). Without it a container runtime makes a directory where nothing is.
const hostPathFile = "File"

type volumeValue struct {
	Name     string        `json:"name"`
	HostPath hostPathValue `json:"hostPath"`
}

type hostPathValue struct {
	Path string `json:"path"`
	Type string `json:"type"`
}

type mountValue struct {
	Name      string `json:"name"`
	ReadOnly  bool   `json:"readOnly"`
	MountPath string `json:"mountPath"`
}

func add(path string, value any) Operation { return Operation{Op: "add", Path: path, Value: value} }

// appendTo adds values to the array at path; there tells whether it exists.
func appendTo[T any](ops []Operation, path string, there bool, values []*T) []Operation {
	if len(values) == 0 {
		return ops
	}
	if !there {
		return append(ops, add(path, values))
	}
	path += "/-"
	for _, v := range values {
		ops = append(ops, add(path, v))
	}
	return ops
}

// annotate sets annotations of the metadata at path, where old (nil if there
// are none) holds the present ones. Values that are there already cost nothing.
func annotate(ops []Operation, path string, hadMetadata bool, old map[string]string, set []annotation) []Operation {
	set = changed(old, set)
	if len(set) == 0 {
		return ops
	}
	if old != nil {
		for _, a := range set {
			ops = append(ops, add(path+"/annotations/"+escape(a.key), a.value))
		}
		return ops
	}
	all := make(map[string]string, len(set))
	for _, a := range set {
		all[a.key] = a.value
	}
	if hadMetadata {
		return append(ops, add(path+"/annotations", all))
	}
	return append(ops, add(path, map[string]any{"annotations": all}))
}

type annotation struct{ key, value string }

func changed(old map[string]string, set []annotation) []annotation {
	var out []annotation
	for _, a := range set {
		if v, ok := old[a.key]; !ok || v != a.value {
			out = append(out, a)
		}
	}
	return out
}

// escape makes a key a token of a JSON Pointer (RFC 6901).
func escape(key string) string { return pointerEscaper.Replace(key) }

var pointerEscaper = strings.NewReplacer("~", "~0", "/", "~1")
