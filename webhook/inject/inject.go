// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

// Package inject decides what podproc does to an object that is about to be
// stored by the API server, and says it as a JSON Patch.
//
// It promises:
//   - It is pure: the raw JSON of an object, facts about its namespace and
//     request, and a configuration go in; patch operations or a named reason
//     come out. It does no I/O, keeps no state and never panics.
//   - Nothing of the object is lost or changed, fields that this version does
//     not know included: the patch only adds, and takes away or replaces
//     nothing but what podproc itself has put there.
//   - It is computed from the object's present content every time, never from
//     a note that says it was done: deciding again on the result adds nothing,
//     and a container that somebody added in between gets its files.
//   - A pod that cannot be injected safely is left as it is, with one Reason.
//
// It refuses to guess: JSON that is not the object it is said to be gives
// Outcome Failed and no patch, so that the caller lets the request pass.
package inject

import (
	"fmt"
	"slices"
	"strings"
)

// Injector decides by one configuration. It is safe for concurrent use.
type Injector struct {
	config   Config
	keys     []string // that ask for injection
	defaults fileSet
	skip     []nodeMatch
	// What is added for each file of the table, made once.
	volumes []volumeValue
	mounts  []mountValue
}

// New checks c, fills its defaults in and returns an Injector for it.
func New(c Config) (*Injector, error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("inject: %w", err)
	}
	in := &Injector{config: c, keys: []string{InjectKey, LegacyKey}}
	for _, key := range c.Keys {
		if !slices.Contains(in.keys, key) {
			in.keys = append(in.keys, key)
		}
	}
	for _, name := range c.Files {
		in.defaults |= 1 << fileByName(name)
	}
	for _, s := range c.SkipNodes {
		key, pattern, valued := strings.Cut(s, "=")
		in.skip = append(in.skip, nodeMatch{key: key, pattern: pattern, valued: valued})
	}
	for i := range files {
		f := &files[i]
		in.volumes = append(in.volumes, volumeValue{Name: f.volume, HostPath: hostPathValue{Path: c.Root + "/" + f.node, Type: hostPathFile}})
		in.mounts = append(in.mounts, mountValue{Name: f.volume, ReadOnly: true, MountPath: f.mount})
	}
	return in, nil
}

// Config returns the configuration with its defaults filled in.
func (in *Injector) Config() Config { return in.config }

// Decide says what to do about one request. It never fails: what it cannot
// read is a Result with Outcome Failed, and the request should pass unchanged.
func (in *Injector) Decide(r Request) Result {
	switch {
	case r.Kind == Pod && r.Operation == Create:
		return in.decidePod(r)
	case r.Kind == EphemeralContainers && r.Operation == Update:
		return in.decideEphemeral(r)
	case r.Kind.Workload() && (r.Operation == Create || r.Operation == Update):
		return in.decideWorkload(r)
	}
	return ignored(WrongOperation, fmt.Sprintf("%s of %s", clip(r.Operation), clip(string(r.Kind))))
}

func ignored(reason Reason, detail string) Result {
	return Result{Outcome: Ignored, Reason: reason, Message: reason.message(detail)}
}

func failed(what string, err error) Result {
	return Result{Outcome: Failed, Reason: Malformed, Message: Malformed.message(fmt.Sprintf("%s: %s", what, cut(err.Error(), 3*maxClip)))}
}
