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

// Injector decides by one configuration. It is safe for concurrent use.
type Injector struct {
	config Config
}

// New checks c, fills its defaults in and returns an Injector for it.
func New(c Config) (*Injector, error) {
	return &Injector{config: c}, nil
}

// Config returns the configuration with its defaults filled in.
func (in *Injector) Config() Config { return in.config }

// Decide says what to do about one request. It never fails: what it cannot
// read is a Result with Outcome Failed, and the request should pass unchanged.
func (in *Injector) Decide(r Request) Result {
	return Result{Outcome: Ignored, Reason: NotAsked}
}
