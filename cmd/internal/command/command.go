// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

// Package command is the edge that podproc's programs have in common:
// subcommands, flags, help, and what a mistake of the caller is. Help that was
// asked for goes to standard output; a mistake is one line that says what to
// do.
package command

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
)

// Func is a subcommand.
type Func func(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error

// Program is a program with subcommands.
type Program struct {
	Name, Version string
	Usage         string // for --help
	Usual         string // the subcommand to name to who gives none; may be empty
	Commands      map[string]Func
}

// Run runs the subcommand that args begin with.
func (p *Program) Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	if len(args) == 0 {
		fmt.Fprint(stderr, p.Usage)
		if p.Usual != "" {
			return Usagef("no command given; the usual one is %s", p.Usual)
		}
		return Usagef("no command given; see %s --help", p.Name)
	}
	switch args[0] {
	case "-h", "-help", "--help", "help":
		fmt.Fprint(stdout, p.Usage)
		return nil
	case "-version", "--version", "version":
		fmt.Fprintln(stdout, p.Name, p.Version)
		return nil
	}
	f, ok := p.Commands[args[0]]
	if !ok {
		return Usagef("unknown command %q; see %s --help", args[0], p.Name)
	}
	return f(ctx, args[1:], stdin, stdout, stderr)
}

// UsageError is a mistake of the caller; it says what to do.
type UsageError struct{ error }

// Unwrap returns the cause.
func (e UsageError) Unwrap() error { return e.error }

// Usagef is fmt.Errorf for a UsageError.
func Usagef(format string, args ...any) error {
	return UsageError{fmt.Errorf(format, args...)}
}

// Parse parses the flags of f, which has the name that the caller has typed
// ("podproc run"). Asked for help it prints that and the flags, and returns
// flag.ErrHelp; a mistake is a UsageError.
func Parse(f *flag.FlagSet, args []string, help string, stdout io.Writer) error {
	f.SetOutput(io.Discard)
	f.Usage = func() {}
	err := f.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, help, "\nFlags:\n")
		f.SetOutput(stdout)
		f.PrintDefaults()
		return err
	case err != nil:
		return Usagef("%w; see %s --help", err, f.Name())
	}
	return nil
}

// Status is the exit status for an error: 2 for a mistake of the caller.
func Status(err error) int {
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
		return 0
	case errors.As(err, new(UsageError)):
		return 2
	}
	return 1
}
