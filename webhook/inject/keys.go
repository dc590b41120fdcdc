// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"fmt"
	"strings"
)

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

// choiceKeys are the annotations by which a user chooses, beside those that
// ask for injection.
var choiceKeys = []string{FilesKey, ContainersKey, ExcludeContainersKey}

// ask is what a pod and its namespace say about injection.
type ask struct {
	no       string // the key that opts the pod out, empty if none does
	onPod    bool   // asked for on the pod itself
	yes      bool   // asked for at all
	problems []string
}

// asked: any "false" on the pod wins over everything; then any "true" on the
// pod; then the namespace's label.
func (in *Injector) asked(m *metadata, ns *Namespace) ask {
	var a ask
	for _, key := range in.keys {
		for _, from := range [...]map[string]string{m.Annotations, m.Labels} {
			value, ok := from[key]
			if !ok {
				continue
			}
			yes, err := parseBool(value)
			switch {
			case err != nil:
				a.problems = append(a.problems, fmt.Sprintf("%s: %s", key, err))
			case yes:
				a.onPod = true
			case a.no == "":
				a.no = key
			}
		}
	}
	a.yes = a.onPod
	if ns != nil && ns.Labels[InjectKey] == "true" {
		a.yes = true
	}
	return a
}

// parseBool knows the values of podproc.io/inject, and those that other
// injectors' annotations have.
func parseBool(s string) (bool, error) {
	switch strings.ToLower(strings.TrimSpace(s)) {
	case "true", "yes", "y", "on", "1", "enabled":
		return true, nil
	case "false", "no", "n", "off", "0", "disabled":
		return false, nil
	}
	return false, fmt.Errorf("%s is neither \"true\" nor \"false\"", quote(s))
}

// list splits a comma-separated value. Blank entries do not count.
func list(s string) []string {
	var out []string
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}

// chosenFiles reads podproc.io/files; absent or blank it is the default set.
// Names that cannot be mounted are problems, and left out.
func (in *Injector) chosenFiles(value string) (set fileSet, problems []string) {
	names := list(value)
	if len(names) == 0 {
		return in.defaults, nil
	}
	for _, name := range names {
		if name == "default" {
			set |= in.defaults
			continue
		}
		switch i := fileByName(name); {
		case i < 0:
			problems = append(problems, fmt.Sprintf("%s: there is no file %s: use default, %s", FilesKey, quote(name), strings.Join(Files(), ", ")))
		case files[i].refuse != "":
			problems = append(problems, fmt.Sprintf("%s: %s %s", FilesKey, name, files[i].refuse))
		default:
			set |= 1 << i
		}
	}
	return set, problems
}

// choice is which containers the annotations choose.
type choice struct {
	only    map[string]bool // nil: all
	exclude map[string]bool
}

// chosenContainers reads podproc.io/containers and exclude-containers.
func chosenContainers(annotations map[string]string) choice {
	return choice{only: nameSet(annotations[ContainersKey]), exclude: nameSet(annotations[ExcludeContainersKey])}
}

func nameSet(value string) map[string]bool {
	names := list(value)
	if len(names) == 0 {
		return nil
	}
	set := make(map[string]bool, len(names))
	for _, name := range names {
		set[name] = true
	}
	return set
}

// leave returns why the annotations leave a container alone, or "".
func (c choice) leave(name string) Reason {
	switch {
	case c.exclude[name]:
		return Excluded
	case c.only != nil && !c.only[name]:
		return NotListed
	}
	return ""
}

// missing returns a problem for each name in the value of key that has is
// not true for.
func missing(key, value string, has func(string) bool) []string {
	var problems []string
	for _, name := range list(value) {
		if !has(name) {
			problems = append(problems, fmt.Sprintf("%s: the pod has no container %s", key, quote(name)))
		}
	}
	return problems
}

// quote quotes what a user wrote, at a length that fits a warning.
func quote(s string) string { return fmt.Sprintf("%q", clip(s)) }

const maxClip = 100

func clip(s string) string { return cut(s, maxClip) }

// cut cuts s to n bytes and makes it valid UTF-8 in one line.
func cut(s string, n int) string {
	if len(s) > n {
		s = s[:n] + "..."
	}
	return strings.Map(oneLine, strings.ToValidUTF8(s, "?"))
}

func oneLine(r rune) rune {
	if r < ' ' || r == 0x7f {
		return ' '
	}
	return r
}

const maxProblems = 10

// few keeps the first of many problems.
func few(problems []string) []string {
	if more := len(problems) - maxProblems; more > 0 {
		problems = append(problems[:maxProblems:maxProblems], fmt.Sprintf("and %d more", more))
	}
	return problems
}
