{{- define "podproc.labels" -}}
app.kubernetes.io/name: podproc
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- define "podproc.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{- define "podproc.scrape" -}}
{{- if .Values.monitoring.scrapeAnnotations -}}
prometheus.io/scrape: "true"
prometheus.io/port: {{ .Values.monitoring.port | quote }}
{{- end }}
{{- end }}

{{- define "podproc.certManager" -}}
{{- if eq .Values.certificates.source "cert-manager" }}true{{ end }}
{{- end }}

{{/* Namespaces the API server never asks about. */}}
{{- define "podproc.excluded" -}}
- key: kubernetes.io/metadata.name
  operator: NotIn
  values: {{ prepend .Values.webhook.excludedNamespaces .Release.Namespace | uniq | toJson }}
{{- end }}

{{/*
CEL: the object named .object carries one of the keys, or, with .all, any annotation of podproc's that a workload can
carry to its pods (labels of a workload say nothing). An error in CEL skips the webhook without a word, so nothing is read that has() or `in` has not
found before.
*/}}
{{- define "podproc.carries" -}}
{{- $keys := concat (list "podproc.io/inject" "initializer.kubernetes.io/lxcfs") .root.Values.injection.keys -}}
{{- if .all }}
{{- $keys = concat $keys (list "podproc.io/files" "podproc.io/containers" "podproc.io/exclude-containers") -}}
{{- end -}}
{{- $list := printf "['%s']" (join "', '" (uniq $keys)) -}}
(has({{ .object }}.metadata.annotations) && {{ $list }}.exists(k, k in {{ .object }}.metadata.annotations))
{{- if not .all }} || (has({{ .object }}.metadata.labels) && {{ $list }}.exists(k, k in {{ .object }}.metadata.labels)){{ end }}
{{- end }}

{{/* CEL: the pod template at this path of fields has annotations that podproc has carried there. */}}
{{- define "podproc.marked" -}}
{{- $at := first . -}}
{{- $has := list (printf "has(%s)" $at) -}}
{{- range concat (rest .) (list "metadata" "annotations") -}}
{{- $at = printf "%s.%s" $at . -}}
{{- $has = append $has (printf "has(%s)" $at) -}}
{{- end -}}
({{ join " && " $has }} && 'podproc.io/carried' in {{ $at }})
{{- end }}
