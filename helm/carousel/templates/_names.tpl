{{/* Names and labels. What selects, and what is on pods, never changes with the chart's version: it
would start every server anew with each upgrade of the chart. */}}

{{- define "carousel.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* 40 characters: pods' names get an ordinal, and StatefulSets' labels a hash, behind it. */}}
{{- define "carousel.fullname" -}}
{{- default .Release.Name .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "carousel.headless" -}}{{ include "carousel.fullname" . }}-pods{{- end -}}

{{- define "carousel.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "carousel.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "carousel.host" -}}
{{ include "carousel.fullname" . }}.{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}
{{- end -}}

{{- define "carousel.headlessHost" -}}
{{ include "carousel.headless" . }}.{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}
{{- end -}}

{{/* usage: include "carousel.selector" (list . "server") */}}
{{- define "carousel.selector" -}}
{{- $top := index . 0 -}}
app.kubernetes.io/name: {{ include "carousel.name" $top }}
app.kubernetes.io/instance: {{ $top.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* What is in each object's metadata. usage: include "carousel.metadata" (list . NAME COMPONENT [ANNOTATIONS [LABELS]]) */}}
{{- define "carousel.metadata" -}}
{{- $top := index . 0 -}}
{{- $annotations := dict -}}
{{- $labels := dict -}}
{{- if gt (len .) 3 }}{{ $annotations = index . 3 | default dict }}{{ end -}}
{{- if gt (len .) 4 }}{{ $labels = index . 4 | default dict }}{{ end -}}
name: {{ index . 1 }}
namespace: {{ $top.Release.Namespace }}
labels:
  {{- include "carousel.selector" (list $top (index . 2)) | nindent 2 }}
  app.kubernetes.io/version: {{ $top.Chart.AppVersion | quote }}
  app.kubernetes.io/managed-by: {{ $top.Release.Service }}
  helm.sh/chart: {{ printf "%s-%s" $top.Chart.Name $top.Chart.Version | replace "+" "_" }}
  {{- with merge (deepCopy $labels) $top.Values.labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (deepCopy $annotations) $top.Values.annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
