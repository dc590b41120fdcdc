// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/podproc/podproc/webhook/inject"
)

// Reasons of the edge itself, beside those of package inject.
const (
	unsupportedKind inject.Reason = "unsupported-kind"
	panicked        inject.Reason = "panic"
	badReview       inject.Reason = "bad-review"
)

// A Handler answers the requests that could be read.
type Handler struct {
	Injector *inject.Injector
	// Namespace returns what is known of a namespace, nil if that cannot be found out.
	Namespace func(ctx context.Context, name string) *inject.Namespace
	Events    Events
	Metrics   *Metrics
	Log       *slog.Logger
}

var _ admission.Handler = (*Handler)(nil)

// Handle decides about one request. It always allows it.
func (h *Handler) Handle(ctx context.Context, req admission.Request) (resp admission.Response) {
	start := time.Now()
	kind, result := inject.Kind(req.Kind.Kind), inject.Result{}
	defer func() {
		if r := recover(); r != nil {
			result = inject.Result{Outcome: inject.Failed, Reason: panicked, Message: fmt.Sprint(r)}
			h.Log.Error("panic while deciding", "panic", r, "stack", string(debug.Stack()))
			resp = allowed(nil, []string{"podproc: internal error, admitted unchanged; see the log of podproc-webhook"})
		}
		took := time.Since(start)
		h.Metrics.request(kind, result, took)
		h.record(ctx, &req, result, took)
	}()

	kind, known := inject.KindOf(req.Kind.Group, req.Kind.Kind, req.SubResource)
	if !known {
		kind, result = "other", inject.Result{Outcome: inject.Ignored, Reason: unsupportedKind}
		return allowed(nil, nil)
	}
	in := inject.Request{
		Kind:      kind,
		Operation: string(req.Operation),
		Object:    req.Object.Raw,
		OldObject: req.OldObject.Raw,
	}
	if kind != inject.EphemeralContainers {
		// For a workload: whether its pods will be injected is told to who applies it.
		in.Namespace = h.Namespace(ctx, req.Namespace)
	}
	result = h.Injector.Decide(in)
	patch, err := result.PatchJSON()
	if err != nil {
		panic(err) // answered and counted like every other defect
	}
	if result.Tell() && result.Owner != nil && !dryRun(&req) {
		h.Events.Skipped(req.Namespace, result.Owner, result.Message)
	}
	return allowed(patch, result.Warnings)
}

func allowed(patch []byte, warnings []string) admission.Response {
	resp := admission.Response{AdmissionResponse: admissionv1.AdmissionResponse{
		Allowed:  true,
		Result:   &metav1.Status{Code: http.StatusOK},
		Warnings: warnings,
	}}
	if patch != nil {
		jsonPatch := admissionv1.PatchTypeJSONPatch
		resp.Patch, resp.PatchType = patch, &jsonPatch
	}
	return resp
}

func dryRun(req *admission.Request) bool { return req.DryRun != nil && *req.DryRun }

// record writes the one line of log of a request. What is no business of
// podproc's is for debugging only.
func (h *Handler) record(ctx context.Context, req *admission.Request, result inject.Result, took time.Duration) {
	level := slog.LevelInfo
	switch result.Outcome {
	case inject.Ignored, inject.Unchanged:
		level = slog.LevelDebug
	case inject.Failed:
		level = slog.LevelWarn
	}
	attrs := []slog.Attr{
		slog.String("kind", req.Kind.Kind),
		slog.String("namespace", req.Namespace),
		slog.String("name", req.Name), // empty for a generated name
		slog.String("operation", string(req.Operation)),
		slog.String("outcome", string(result.Outcome)),
		slog.Int("patch", len(result.Patch)),
		slog.Duration("took", took),
		slog.String("uid", string(req.UID)),
	}
	if req.SubResource != "" {
		attrs = append(attrs, slog.String("subresource", req.SubResource))
	}
	if result.Owner != nil {
		attrs = append(attrs, slog.String("owner", result.Owner.Kind+"/"+result.Owner.Name))
	}
	if result.Reason != "" {
		attrs = append(attrs, slog.String("reason", string(result.Reason)), slog.String("message", result.Message))
	}
	if dryRun(req) {
		attrs = append(attrs, slog.Bool("dryRun", true))
	}
	h.Log.LogAttrs(ctx, level, "admission", attrs...)
}
