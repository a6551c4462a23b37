{{/* The alerts. Every one is in docs/operations.md, under its name. */}}

{{/* What selects the servers' series: labels that a ServiceMonitor and a PodMonitor both give. */}}
{{- define "carousel.series" -}}
namespace="{{ .Release.Namespace }}",pod=~"{{ include "carousel.fullname" . }}-[0-9]+"
{{- end -}}

{{/* What is the same in all of them. usage: include "carousel.alert" (list . NAME SEVERITY FOR SUMMARY) */}}
{{- define "carousel.alert" -}}
{{- $top := index . 0 -}}
{{- $name := index . 1 -}}
alert: {{ $name }}
for: {{ index . 3 }}
labels: {severity: {{ index . 2 }}}
annotations:
  summary: {{ index . 4 | quote }}
  runbook_url: {{ printf "%s#%s" $top.Values.monitoring.rules.runbookUrl (lower $name) }}
{{- end -}}

{{/* Messages slower than they should be, over those that may be. usage: include "carousel.burn" (list . WINDOW) */}}
{{- define "carousel.burn" -}}
{{- $top := index . 0 -}}
{{- $window := index . 1 -}}
{{- $rules := $top.Values.monitoring.rules -}}
{{- $select := printf `phase="total",%s` (include "carousel.series" $top) -}}
(1 - sum by (namespace, model) (rate(carousel_step_seconds_bucket{le="{{ $rules.latencySeconds }}",{{ $select }}}[{{ $window }}]))
  / sum by (namespace, model) (rate(carousel_step_seconds_count{ {{- $select -}} }[{{ $window }}])))
  / {{ divf (subf 100 $rules.latencyPercent) 100 }}
{{- end -}}

{{/* An event that is counted from its first time on: a counter that was not there has no increase. */}}
{{- define "carousel.happened" -}}
sum by (namespace, pod, model) (
  increase({{ . }}[15m]) > 0 or ({{ . }} unless {{ . }} offset 15m) > 0
)
{{- end -}}

{{- define "carousel.alerts" -}}
{{- $s := include "carousel.series" . -}}
{{- $rules := .Values.monitoring.rules -}}
{{- $server := .Values.server -}}
{{- $pod := `{{ $labels.namespace }}/{{ $labels.pod }}` -}}
- {{ include "carousel.alert" (list . "CarouselDown" "critical" "2m" (printf "%s can't be scraped: it is down, or it never came up." $pod)) | nindent 2 | trim }}
  expr: up{ {{- $s -}} } == 0
- {{ include "carousel.alert" (list . "CarouselAbsent" "critical" "5m" "No server of this release is scraped at all.") | nindent 2 | trim }}
  expr: absent(carousel_build_info{ {{- $s -}} })
- {{ include "carousel.alert" (list . "CarouselNotReady" "warning" "10m" `{{ $labels.namespace }}/{{ $labels.statefulset }} has {{ $value }} servers too few that are ready.`) | nindent 2 | trim }}
  expr: |-
    kube_statefulset_replicas{namespace="{{ .Release.Namespace }}",statefulset="{{ include "carousel.fullname" . }}"}
      - kube_statefulset_status_replicas_ready{namespace="{{ .Release.Namespace }}",statefulset="{{ include "carousel.fullname" . }}"} > 0
- {{ include "carousel.alert" (list . "CarouselRestarted" "warning" "0m" (printf "%s started anew in its place: it crashed, ran out of memory, or its probe failed." $pod)) | nindent 2 | trim }}
  expr: changes(process_start_time_seconds{ {{- $s -}} }[30m]) > 0
- {{ include "carousel.alert" (list . "CarouselSessionsNearlyFull" "warning" "10m" (printf "%s has {{ $value | humanizePercentage }} of the sessions that it has room for." $pod)) | nindent 2 | trim }}
  expr: sum by (namespace, pod) (carousel_sessions{ {{- $s -}} }) / {{ int64 $server.maxSessions }} > 0.9
{{- if gt (float64 $server.parkAfter) 0.0 }}
- {{ include "carousel.alert" (list . "CarouselSlotsNearlyFull" "warning" "15m" (printf "{{ $value | humanizePercentage }} of the slots of {{ $labels.model }} are in use on %s." $pod)) | nindent 2 | trim }}
  expr: |-
    max by (namespace, pod, model) (
      carousel_slots{state="used",{{ $s }}} / ignoring(state) sum without(state) (carousel_slots{ {{- $s -}} })
    ) > 0.9
{{- end }}
- {{ include "carousel.alert" (list . "CarouselEvictions" "warning" "15m" (printf "{{ $value | humanizePercentage }} of what {{ $labels.model }} ran on %s had to be brought back first: there are too few slots." $pod)) | nindent 2 | trim }}
  expr: |-
    sum by (namespace, pod, model) (rate(carousel_restores_total{ {{- $s -}} }[10m]))
      / sum by (namespace, pod, model) (rate(carousel_tick_rows_sum{ {{- $s -}} }[10m])) > 0.1
- {{ include "carousel.alert" (list . "CarouselRejecting" "warning" "5m" (printf "%s refuses {{ $value | humanizePercentage }} of the rows of {{ $labels.model }} as BUSY." $pod)) | nindent 2 | trim }}
  expr: |-
    sum by (namespace, pod, model) (rate(carousel_rows_rejected_total{reason="BUSY",{{ $s }}}[5m]))
      / (sum by (namespace, pod, model) (rate(carousel_rows_rejected_total{reason="BUSY",{{ $s }}}[5m]))
        + sum by (namespace, pod, model) (rate(carousel_tick_rows_sum{ {{- $s -}} }[5m]))) > 0.01
- {{ include "carousel.alert" (list . "CarouselRefusingCalls" "warning" "5m" (printf "%s answers {{ $labels.method }} with RESOURCE_EXHAUSTED." $pod)) | nindent 2 | trim }}
  expr: sum by (namespace, pod, method) (rate(carousel_rpcs_total{code="RESOURCE_EXHAUSTED",{{ $s }}}[5m])) > 0
- {{ include "carousel.alert" (list . "CarouselInternalErrors" "critical" "5m" (printf "%s answers {{ $labels.method }} with an error of its own." $pod)) | nindent 2 | trim }}
  expr: sum by (namespace, pod, method) (rate(carousel_rpcs_total{code=~"INTERNAL|UNKNOWN",{{ $s }}}[5m])) > 0
- {{ include "carousel.alert" (list . "CarouselLatencyBudgetFast" "critical" "2m" (printf "Messages of {{ $labels.model }} are slow: at this rate the 30 days' budget of those above %v s is gone in two days." $rules.latencySeconds)) | nindent 2 | trim }}
  expr: |-
    {{- include "carousel.burn" (list . "1h") | nindent 4 }} > 14.4
    and
    {{- include "carousel.burn" (list . "5m") | nindent 4 }} > 14.4
- {{ include "carousel.alert" (list . "CarouselLatencyBudgetSlow" "warning" "15m" (printf "Messages of {{ $labels.model }} are slow: at this rate the 30 days' budget of those above %v s is gone in five days." $rules.latencySeconds)) | nindent 2 | trim }}
  expr: |-
    {{- include "carousel.burn" (list . "6h") | nindent 4 }} > 6
    and
    {{- include "carousel.burn" (list . "30m") | nindent 4 }} > 6
- {{ include "carousel.alert" (list . "CarouselQueueGrowing" "warning" "5m" (printf "Rows of {{ $labels.model }} come faster than %s answers them." $pod)) | nindent 2 | trim }}
  expr: |-
    deriv(carousel_queue_rows{ {{- $s -}} }[10m]) > 0
      and min_over_time(carousel_queue_rows{ {{- $s -}} }[5m]) > {{ int64 $rules.queueRows }}
- {{ include "carousel.alert" (list . "CarouselStoreDown" "critical" "2m" (printf "%s can't save sessions: the store does not answer." $pod)) | nindent 2 | trim }}
  expr: carousel_store_up{ {{- $s -}} } == 0
- {{ include "carousel.alert" (list . "CarouselDurableLagging" "warning" "5m" (printf "{{ $value | humanizePercentage }} of the room for waiting checkpoints is used on %s: the store is too slow." $pod)) | nindent 2 | trim }}
  expr: carousel_store_waiting_bytes{ {{- $s -}} } / {{ int64 $server.storeBufferBytes }} > 0.5
- {{ include "carousel.alert" (list . "CarouselNumericFaults" "warning" "0m" (printf "{{ $labels.model }} made values on %s that are not finite." $pod)) | nindent 2 | trim }}
  expr: |-
    {{- include "carousel.happened" (printf `carousel_rows_rejected_total{reason="NUMERIC_FAULT",%s}` $s) | nindent 4 }}
- {{ include "carousel.alert" (list . "CarouselModelErrors" "critical" "0m" (printf "{{ $labels.model }} failed to run on %s." $pod)) | nindent 2 | trim }}
  expr: |-
    {{- include "carousel.happened" (printf `carousel_rows_rejected_total{reason="MODEL_ERROR",%s}` $s) | nindent 4 }}
- {{ include "carousel.alert" (list . "CarouselModelRefused" "warning" "0m" (printf "A new version of {{ $labels.model }} could not be loaded on %s; the old one serves on." $pod)) | nindent 2 | trim }}
  expr: |-
    {{- include "carousel.happened" (printf "carousel_model_load_failures_total{%s}" $s) | nindent 4 }}
{{- if .Values.tls.enabled }}
- {{ include "carousel.alert" (list . "CarouselCertificateExpiring" "warning" "1h" (printf "The certificate that %s serves with ends in {{ $value | humanizeDuration }}." $pod)) | nindent 2 | trim }}
  expr: carousel_tls_certificate_expiry_timestamp_seconds{ {{- $s -}} } - time() < {{ mul $rules.certificateDays 86400 }}
{{- end }}
{{- if .Values.gpu.enabled }}
- {{ include "carousel.alert" (list . "CarouselDeviceMemoryNearlyFull" "warning" "15m" (printf "{{ $value | humanizePercentage }} of the memory of the GPU of %s is in use." $pod)) | nindent 2 | trim }}
  expr: |-
    max by (namespace, pod) (
      carousel_device_memory_bytes{state="used",{{ $s }}}
        / ignoring(state) sum without(state) (carousel_device_memory_bytes{ {{- $s -}} })
    ) > 0.95
{{- /* All that a model of 11 buckets and two ways to step can have, three times: new versions have
       graphs of their own, and the counts of the old ones leave with them. */}}
- {{ include "carousel.alert" (list . "CarouselGraphsRecaptured" "warning" "30m" (printf "Graphs of {{ $labels.model }} are captured over and over on %s: {{ $value | humanize }} within an hour." $pod)) | nindent 2 | trim }}
  expr: |-
    sum by (namespace, pod, model) (increase(carousel_graph_captures_total{ {{- $s -}} }[1h])) > 100
      and sum by (namespace, pod, model) (increase(carousel_graph_captures_total{ {{- $s -}} }[10m])) > 0
{{- /* Chunks run whole: what matters is that pieces of one step do not. */}}
- {{ include "carousel.alert" (list . "CarouselStepsNotCaptured" "info" "30m" (printf "Single steps of {{ $labels.model }} are not replays of captured graphs on %s." $pod)) | nindent 2 | trim }}
  expr: |-
    sum by (namespace, pod, model) (rate(carousel_graph_replays_total{ {{- $s -}} }[30m])) == 0
      and sum by (namespace, pod, model) (rate(carousel_tick_steps_sum{ {{- $s -}} }[30m]))
        / sum by (namespace, pod, model) (rate(carousel_tick_rows_sum{ {{- $s -}} }[30m])) < 1.1
{{- end }}
{{- end -}}
