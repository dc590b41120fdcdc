// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"

	"github.com/cert-manager/cert-manager/internal/apis/config/webhook/validation"
	"github.com/cert-manager/cert-manager/internal/webhook"
	logf "github.com/cert-manager/cert-manager/pkg/logs"
	"github.com/cert-manager/cert-manager/pkg/webhook/options"
	"github.com/go-logr/logr"
	"github.com/spf13/pflag"
)

// runWebhook takes the flags of cert-manager's own. It listens on all addresses.
func runWebhook(ctx context.Context, args []string) error {
	config, err := options.NewWebhookConfiguration()
	if err != nil {
		return err
	}
	flags := pflag.NewFlagSet("cert-manager-webhook", pflag.ContinueOnError)
	options.AddConfigFlags(flags, config)
	if err := flags.Parse(args); err != nil {
		return err
	}
	if errs := validation.ValidateWebhookConfiguration(config, nil); len(errs) > 0 {
		return fmt.Errorf("flags: %w", errs.ToAggregate())
	}
	if err := logf.ValidateAndApply(&config.Logging); err != nil {
		return err
	}
	server, err := webhook.NewCertManagerWebhookServer(logr.FromContextOrDiscard(ctx), *config)
	if err != nil {
		return err
	}
	return server.Run(ctx)
}
