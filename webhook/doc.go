// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

// Package webhook is the edge between the API server and the decisions of
// webhook/inject: it decodes an AdmissionReview, looks up the namespace, has the
// decision made, answers, counts, and tells people.
//
// What it promises:
//
//   - Every request is answered, a malformed one too, and every answer to a
//     request that could be read allows it. podproc's own trouble (a panic, an API
//     server that does not answer) admits the object unchanged, with a warning.
//   - A pod that was to be injected and is not leaves a trace: an admission warning
//     if a person made it, an Event on its controller owner otherwise
//     (bounded in rate, none for a dry run), a line in the log and a count in the metrics.
//   - While the server shuts down no request is lost: it goes on answering for a while,
//     and tells each HTTP/2 connection, an idle one too, to go away before it closes.
//
// What it refuses: to log or count anything from inside a pod's spec. Logs
// name the object and the decision, never images, arguments or environment values.
package webhook
