// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package certs

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestExpectedErrorsAreQuiet(t *testing.T) {
	secrets := schema.GroupResource{Resource: "secrets"}
	for _, test := range []struct {
		err   error
		quiet bool
	}{
		{apierrors.NewConflict(secrets, "ca", errors.New("modified")), true},
		{apierrors.NewForbidden(secrets, "", errors.New(`User "x" cannot create resource "secrets"`)), true},
		{apierrors.NewForbidden(secrets, "ca", errors.New(`User "x" cannot update resource "secrets"`)), false},
		{errors.New("other"), false},
	} {
		var log bytes.Buffer
		logr.FromSlogHandler(expected{slog.NewTextHandler(&log, nil)}).V(4).WithName("a").Error(test.err, "error ensuring CA")
		if quiet := log.Len() == 0; quiet != test.quiet {
			t.Errorf("%v: quiet %t, want %t: %s", test.err, quiet, test.quiet, log.String())
		}
	}
}

func TestRepeatsSaysAnErrorOnce(t *testing.T) {
	var log bytes.Buffer
	r := newRepeats(slog.New(slog.NewTextHandler(&log, nil)))
	for _, err := range []error{nil, errors.New("one"), errors.New("one"), errors.New("two"), nil, nil, errors.New("one")} {
		r.note(err)
	}
	if got := strings.Count(log.String(), "\n"); got != 5-1 {
		t.Errorf("%d lines, want 4:\n%s", got, log.String())
	}
}
