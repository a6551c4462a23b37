{{/* How a server is told what to do: all by variables, so that `carousel-server drain`, which runs in
the same container, is told the same. */}}

{{/* A number as YAML wrote it: templates have all numbers as floats, and would print 6.7e+07. */}}
{{- define "carousel.number" -}}
{{- if eq (float64 .) (floor .) }}{{ printf "%d" (int64 .) }}{{ else }}{{ . }}{{ end -}}
{{- end -}}

{{- define "carousel.text" -}}
{{- if kindIs "string" . }}{{ . }}{{ else }}{{ include "carousel.number" . }}{{ end -}}
{{- end -}}

{{/* Whole CPUs that a server has, rounded up: its limit, or its request; 0 where it has neither. */}}
{{- define "carousel.cpus" -}}
{{- $cpu := (.Values.resources.limits).cpu | default (.Values.resources.requests).cpu | default "0" | toString -}}
{{- if hasSuffix "m" $cpu }}{{ divf (trimSuffix "m" $cpu) 1000 | ceil | int }}{{ else }}{{ ceil (float64 $cpu) | int }}{{ end -}}
{{- end -}}

{{- define "carousel.threads" -}}
{{- $threads := int .Values.server.threads -}}
{{- if $threads }}{{ $threads }}{{ else }}{{ max 1 (sub (include "carousel.cpus" . | int) 1) }}{{ end -}}
{{- end -}}

{{- define "carousel.bindHost" -}}
{{- if eq .Values.listen "all" -}}
{{ ternary "[::]" "0.0.0.0" (eq .Values.ipFamily "IPv6") }}
{{- else -}}
{{ ternary "[$(POD_IP)]" "$(POD_IP)" (eq .Values.ipFamily "IPv6") }}
{{- end -}}
{{- end -}}

{{- define "carousel.image" -}}
{{- $tag := .Values.image.tag | default (printf "%s%s" .Chart.AppVersion (ternary "-gpu" "" .Values.gpu.enabled)) -}}
{{- with .Values.image.digest -}}
{{ $.Values.image.repository }}@{{ . }}
{{- else -}}
{{ .Values.image.repository }}:{{ $tag }}
{{- end -}}
{{- end -}}

{{- define "carousel.env" -}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: POD_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- name: POD_IP
  valueFrom: {fieldRef: {fieldPath: status.podIP}}
- name: CAROUSEL_MODELS
  value: /models
- name: CAROUSEL_ADDRESS
  value: {{ printf "%s:8001" (include "carousel.bindHost" .) | quote }}
- name: CAROUSEL_METRICS_ADDRESS
  value: {{ printf "%s:8002" (include "carousel.bindHost" .) | quote }}
- name: CAROUSEL_ADVERTISE
  value: {{ .Values.advertise | default (printf "$(POD_NAME).%s:8001" (include "carousel.headlessHost" .)) | quote }}
{{- if .Values.tls.enabled }}
- name: CAROUSEL_TLS_CERT
  value: /etc/carousel/tls/tls.crt
- name: CAROUSEL_TLS_KEY
  value: /etc/carousel/tls/tls.key
{{- if .Values.tls.clientAuth }}
- name: CAROUSEL_TLS_CLIENT_CA
  value: /etc/carousel/tls/ca.crt
{{- end }}
{{- else }}
- name: CAROUSEL_INSECURE
  value: "true"
{{- end }}
{{- if eq .Values.store.kind "redis" }}
- name: CAROUSEL_STORE
  valueFrom:
    secretKeyRef: {name: {{ .Values.store.redis.secretName }}, key: {{ .Values.store.redis.key }}}
{{- else if eq .Values.store.kind "bundled" }}
- name: CAROUSEL_STORE
  value: redis://{{ include "carousel.fullname" . }}-redis.{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}:6379/0
{{- else }}
- name: CAROUSEL_STORE
  value: memory
{{- end }}
{{- if .Values.snapshotKey.secretName }}
- name: CAROUSEL_SNAPSHOT_KEY_FILE
  value: /etc/carousel/snapshots/key
{{- end }}
- name: CAROUSEL_DEVICE
  value: {{ ternary "cuda" .Values.server.device (and .Values.gpu.enabled (eq .Values.server.device "auto")) | quote }}
- name: CAROUSEL_THREADS
  value: {{ include "carousel.threads" . | quote }}
{{- range $name, $value := omit .Values.server "device" "threads" }}
- name: CAROUSEL_{{ $name | snakecase | upper }}
  value: {{ include "carousel.text" $value | quote }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}
