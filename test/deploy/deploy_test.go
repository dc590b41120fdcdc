// Copyright The podproc Authors.
// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	cmapi "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
)

// buildHelm builds Helm once for all tests.
var buildHelm = sync.OnceValues(func() (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	return Helm(root)
})

func tools(t *testing.T) (root, helm string) {
	t.Helper()
	root, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	helm, err = buildHelm()
	if err != nil {
		t.Fatal(err)
	}
	return root, helm
}

// everything turns on what is off by default.
var everything = []string{
	"namespace.create=true", "certificates.source=cert-manager", "monitoring.serviceMonitor.enabled=true",
	"monitoring.rules.enabled=true", "monitoring.dashboard.enabled=true", "node.seLinuxOptions.type=spc_t",
	"node.mountContext=system_u:object_r:container_file_t:s0",
	"injection.keys={example.com/lxcfs}", "injection.userNamespaces=true", "webhook.hostNetwork=true",
	"webhook.port=9443", "imagePullSecrets[0].name=pull", "webhook.extraArgs={--log-level=debug}",
	"node.extraArgs={--log-level=debug}", "webhook.podLabels.a=b", "node.podAnnotations.a=b",
	"webhook.tolerations[0].operator=Exists", "node.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution=null",
}

func TestManifestsAreRendered(t *testing.T) {
	root, helm := tools(t)
	for _, m := range Manifests {
		want, err := m.Render(root, helm)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(root, "deploy", m.File))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("deploy/%s is not what the chart renders; \"make manifests\" writes it (-want +got):\n%s", m.File, diff)
		}
	}
}

func TestLint(t *testing.T) {
	root, helm := tools(t)
	for _, args := range [][]string{nil, {"--set=" + strings.Join(everything, ",")}} {
		args = append([]string{"lint", "--strict", "--namespace=podproc", filepath.Join(root, "deploy", "chart")}, args...)
		if out, err := exec.Command(helm, args...).CombinedOutput(); err != nil {
			t.Errorf("helm lint: %v\n%s", err, out)
		}
	}
}

// TestSchema: what cannot be meant is refused, with its name.
func TestSchema(t *testing.T) {
	root, helm := tools(t)
	for _, test := range []struct{ set, want string }{
		{"webhok.replicas=3", "webhok"},
		{"webhook.replicas=0", "replicas"},
		{"webhook.failurePolicy=ignore", "failurePolicy"},
		{"webhook.timeoutSeconds=31", "timeoutSeconds"},
		{"webhook.port=70000", "port"},
		{"certificates.source=vault", "source"},
		{"injection.files={meminfo,pressure/cpu}", "files"},
		{"injection.podSecurityDefault=strict", "podSecurityDefault"},
		{"injection.keys={a b}", "keys"},
		{"injection.keys={podproc.io/files}", "keys"},
		{"webhook.hostNetwork=true", "webhook.port"},
		{"image.digest=sha256:1", "digest"},
		{"node.maxUnavailable=0", "maxUnavailable"},
		{"node.mountContext=container_file_t", "mountContext"},
		{"node.resources.limit.memory=1Gi", "limit"},
		{"monitoring.serviceMonitor.interval=often", "interval"},
	} {
		out, err := exec.Command(helm, "template", filepath.Join(root, "deploy", "chart"), "--set="+test.set).CombinedOutput()
		if err == nil || !bytes.Contains(out, []byte(test.want)) {
			t.Errorf("--set %s: got %v: %s, want a refusal that names %q", test.set, err, out, test.want)
		}
	}
}

// TestNotes: what a person reads after an install, and the warnings in it.
func TestNotes(t *testing.T) {
	root, helm := tools(t)
	notes := func(set string) string {
		out, err := exec.Command(helm, "install", "podproc", filepath.Join(root, "deploy", "chart"), "--namespace=podproc",
			"--dry-run=client", "--set="+set).CombinedOutput()
		if err != nil {
			t.Fatalf("helm install --dry-run: %v\n%s", err, out)
		}
		_, text, _ := strings.Cut(string(out), "NOTES:")
		return text
	}
	usual := notes("")
	if !strings.Contains(usual, "kubectl annotate deployment NAME podproc.io/inject=true") || strings.Contains(usual, "WARNING") {
		t.Errorf("notes of the usual install:\n%s", usual)
	}
	for _, set := range []string{"node.nodeSelector.pool=apps", "webhook.replicas=1", "standby.enabled=false"} {
		if got := notes(set); !strings.Contains(got, "WARNING") {
			t.Errorf("--set %s: no warning in\n%s", set, got)
		}
	}
}

// decode reads each object strictly as the type that its apiVersion and kind
// name: an unknown or doubled field is an error. Objects of foreign, the kinds
// that podproc links no types for, are passed over.
func decode(t *testing.T, text []byte, foreign ...string) []runtime.Object {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientscheme.AddToScheme, cmapi.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	var objects []runtime.Object
	docs := yaml.NewYAMLReader(bufferedReader(text))
documents:
	for {
		doc, err := docs.Read()
		if errors.Is(err, io.EOF) {
			return objects
		}
		if err != nil {
			t.Fatal(err)
		}
		var kind struct{ APIVersion, Kind string }
		if err := yaml.Unmarshal(doc, &kind); err != nil {
			t.Fatalf("%v in\n%s", err, doc)
		}
		if kind.Kind == "" {
			continue // comments only
		}
		for _, f := range foreign {
			if f == kind.Kind {
				continue documents
			}
		}
		object, _, err := decoder.Decode(doc, nil, nil)
		if err != nil {
			t.Errorf("%s %s: %v", kind.APIVersion, kind.Kind, err)
			continue
		}
		objects = append(objects, object)
	}
}

func TestStrictTypes(t *testing.T) {
	root, helm := tools(t)
	variants := append([]Manifest{{"everything", everything}, {"plain", nil}}, Manifests...)
	for _, m := range variants {
		text, err := m.Render(root, helm)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(decode(t, text, "ServiceMonitor", "PrometheusRule")); n < 15 {
			t.Errorf("%s has %d objects only", m.File, n)
		}
	}
}

// TestFlags: the binaries know every flag that the manifests pass to them.
func TestFlags(t *testing.T) {
	root, helm := tools(t)
	bin := t.TempDir()
	build := exec.Command("go", "build", "-o", bin+"/", "./cmd/podproc-node", "./cmd/podproc-webhook")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text, err := Manifest{"everything", everything}.Render(root, helm)
	if err != nil {
		t.Fatal(err)
	}
	if want := []byte("- --selinux-context=system_u:object_r:container_file_t:s0\n"); bytes.Count(text, want) != 2 {
		t.Errorf("node.mountContext does not become the argument %s", want)
	}
	plain, err := Manifests[0].Render(root, helm)
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	objects := slices.Concat(decode(t, text, "ServiceMonitor", "PrometheusRule"), decode(t, plain), installed(t, "release.yaml"))
	for _, object := range objects {
		for _, c := range containers(object) {
			// --help comes last: a flag before it that is not known is an error.
			argv := append(append(append([]string{}, c.Command...), c.Args...), "--help")
			out, err := exec.Command(filepath.Join(bin, argv[0]), argv[1:]...).CombinedOutput()
			if err != nil {
				t.Errorf("%s: %v\n%s", strings.Join(argv, " "), err, firstLine(out))
			}
			seen++
		}
	}
	if seen != 8 {
		t.Errorf("%d containers seen, want 2 DaemonSets and a Deployment in each of 2 manifests, and 2 containers that release", seen)
	}
}

func firstLine(out []byte) string {
	line, _, _ := bytes.Cut(out, []byte("\n"))
	return fmt.Sprintf("%s ...", line)
}
