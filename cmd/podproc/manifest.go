// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	jsonpatch "github.com/evanphx/json-patch/v5"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"github.com/podproc/podproc/webhook/inject"
)

// document is one document of a file.
type document struct {
	where string // file and number, for errors
	text  []byte // as it is to be printed
	json  []byte // nil if it holds no object
}

// readDocuments splits manifests as kubectl does.
func readDocuments(name string, r io.Reader) ([]document, error) {
	var docs []document
	y := utilyaml.NewYAMLReader(bufio.NewReader(r))
	for {
		text, err := y.Read()
		if errors.Is(err, io.EOF) {
			return docs, nil
		}
		doc := document{where: fmt.Sprintf("%s, document %d", name, len(docs)+1), text: trim(text)}
		if err == nil {
			doc.json, err = toJSON(doc.text)
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", doc.where, err)
		}
		if len(doc.text) > 0 {
			docs = append(docs, doc)
		}
	}
}

// trim takes away the separator that the first document may have kept, and
// blank lines around.
func trim(text []byte) []byte {
	if line, rest, _ := bytes.Cut(text, []byte("\n")); string(bytes.TrimSpace(line)) == "---" {
		text = rest
	}
	text = bytes.TrimRight(bytes.TrimLeft(text, "\r\n"), " \t\r\n")
	if len(text) == 0 {
		return nil
	}
	return append(bytes.Clone(text), '\n')
}

// toJSON returns a document as JSON, nil if it holds no object.
func toJSON(text []byte) ([]byte, error) {
	b := bytes.TrimSpace(text)
	if !json.Valid(b) {
		var err error
		if b, err = yaml.YAMLToJSONStrict(text); err != nil {
			return nil, err
		}
	}
	if len(b) == 0 || b[0] != '{' {
		if bytes.Equal(b, []byte("null")) || len(b) == 0 {
			return nil, nil
		}
		return nil, errors.New("not an object")
	}
	return b, nil
}

// header is what every object has.
type header struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name         string            `json:"name"`
		GenerateName string            `json:"generateName"`
		Namespace    string            `json:"namespace"`
		Labels       map[string]string `json:"labels"`
	} `json:"metadata"`
	Items []json.RawMessage `json:"items"`
}

func (h *header) group() string {
	if group, _, ok := strings.Cut(h.APIVersion, "/"); ok {
		return group
	}
	return ""
}

func (h *header) name() string {
	if h.Metadata.Name == "" && h.Metadata.GenerateName != "" {
		return h.Metadata.GenerateName + "*"
	}
	return h.Metadata.Name
}

func readHeader(raw []byte) (*header, error) {
	var h header
	if err := json.Unmarshal(raw, &h); err != nil {
		return nil, err
	}
	return &h, nil
}

// walk calls visit for the object in raw, or for each item if it is a list,
// with a JSON Pointer from the document to it.
func walk(raw []byte, at string, inherit header, visit func(h *header, raw []byte, at string) error) error {
	h, err := readHeader(raw)
	if err != nil {
		return err
	}
	if h.Kind == "" {
		h.APIVersion, h.Kind = inherit.APIVersion, inherit.Kind
	}
	kind, list := strings.CutSuffix(h.Kind, "List")
	if !list || h.Items == nil {
		return visit(h, raw, at)
	}
	var errs []error
	for i, item := range h.Items {
		if err := walk(item, fmt.Sprintf("%s/items/%d", at, i), header{APIVersion: h.APIVersion, Kind: kind}, visit); err != nil {
			errs = append(errs, fmt.Errorf("item %d: %w", i+1, err))
		}
	}
	return errors.Join(errs...)
}

// namespaceLabels returns the labels of the Namespaces among the documents.
func namespaceLabels(docs []document) map[string]map[string]string {
	found := make(map[string]map[string]string)
	for i := range docs {
		if docs[i].json == nil {
			continue
		}
		// What cannot be read here is reported when it is decided upon.
		_ = walk(docs[i].json, "", header{}, func(h *header, _ []byte, _ string) error {
			if h.APIVersion == "v1" && h.Kind == "Namespace" {
				found[h.Metadata.Name] = h.Metadata.Labels
			}
			return nil
		})
	}
	return found
}

// document decides on the objects of a document and patches its text.
func (d *decider) document(doc *document) ([]*decided, error) {
	if doc.json == nil {
		return nil, nil
	}
	var results []*decided
	var patch []inject.Operation
	err := walk(doc.json, "", header{}, func(h *header, raw []byte, at string) error {
		r := d.decide(h, raw)
		if r == nil {
			return nil
		}
		results = append(results, r)
		if r.Outcome == inject.Failed {
			return fmt.Errorf("%s: %s", r.name, r.Message)
		}
		if r.asked {
			for _, op := range r.Patch {
				op.Path = at + op.Path
				patch = append(patch, op)
			}
		}
		return nil
	})
	if len(patch) == 0 {
		return results, err
	}
	text, patchErr := patched(doc.json, patch)
	if patchErr != nil {
		return results, errors.Join(err, patchErr)
	}
	doc.text = text
	return results, err
}

func patched(object []byte, ops []inject.Operation) ([]byte, error) {
	b, err := json.Marshal(ops)
	if err != nil {
		return nil, err
	}
	patch, err := jsonpatch.DecodePatch(b)
	if err != nil {
		return nil, err
	}
	if object, err = patch.Apply(object); err != nil {
		return nil, err
	}
	return yaml.JSONToYAML(object)
}
