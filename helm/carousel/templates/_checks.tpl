{{/* What a schema can't say: values that don't go together. */}}
{{- define "carousel.checks" -}}
{{- $v := .Values -}}
{{- if and (eq $v.models.source "existingClaim") (not $v.models.existingClaim) -}}
{{- fail "models.existingClaim is empty: name the claim, or choose another models.source" -}}
{{- end -}}
{{- if and (eq $v.models.source "hostPath") (not $v.models.hostPath) -}}
{{- fail "models.hostPath is empty: name the folder on the node, or choose another models.source" -}}
{{- end -}}
{{- if and (eq $v.models.source "image") (not $v.models.image.repository) -}}
{{- fail "models.image.repository is empty: name the image that has the models, or choose another models.source" -}}
{{- end -}}
{{- if and (eq $v.store.kind "redis") (not $v.store.redis.secretName) -}}
{{- fail "store.redis.secretName is empty: name the Secret that has the URL, or choose another store.kind" -}}
{{- end -}}
{{- if and $v.tls.enabled (not $v.tls.secretName) -}}
{{- fail "tls.secretName is empty: name the Secret that has tls.crt, tls.key and ca.crt, or leave tls.enabled off" -}}
{{- end -}}
{{- if and $v.tls.clientAuth (not $v.tls.enabled) -}}
{{- fail "tls.clientAuth asks clients for certificates, which takes tls.enabled" -}}
{{- end -}}
{{- if and $v.monitoring.serviceMonitor.enabled $v.monitoring.podMonitor.enabled -}}
{{- fail "monitoring.serviceMonitor and monitoring.podMonitor are both enabled: every server would be scraped twice; enable one" -}}
{{- end -}}
{{- if ne $v.autoscaling.kind "none" -}}
{{- if gt (int $v.autoscaling.min) (int $v.autoscaling.max) -}}
{{- fail (printf "autoscaling.min is %d and autoscaling.max %d: the least can't be above the most" (int $v.autoscaling.min) (int $v.autoscaling.max)) -}}
{{- end -}}
{{- if and (eq $v.autoscaling.metric "slots") (eq (float64 $v.server.parkAfter) 0.0) -}}
{{- fail "autoscaling.metric is slots and server.parkAfter 0: idle sessions would keep their slots, and servers would never go; set server.parkAfter" -}}
{{- end -}}
{{- if and (eq $v.autoscaling.kind "keda") (eq $v.autoscaling.metric "slots") (not $v.autoscaling.prometheusAddress) -}}
{{- fail "autoscaling.prometheusAddress is empty: say where KEDA finds Prometheus, or let autoscaling.metric be cpu" -}}
{{- end -}}
{{- if and (eq $v.autoscaling.metric "cpu") (not ($v.resources.requests).cpu) -}}
{{- fail "autoscaling.metric is cpu and resources.requests.cpu is not set: there is nothing to take a percentage of" -}}
{{- end -}}
{{- end -}}
{{- if and (eq $v.frontDoor.kind "gateway") (not $v.frontDoor.gateway.parentRefs) -}}
{{- fail "frontDoor.gateway.parentRefs is empty: name the Gateway that the route attaches to" -}}
{{- end -}}
{{- end -}}
