{{/* Pod security "restricted", for every pod of the chart. usage: include "carousel.podSecurity" USER */}}
{{- define "carousel.podSecurity" -}}
automountServiceAccountToken: false
# Variables such as CAROUSEL_PORT, which Kubernetes would make of a Service called carousel, are no
# settings.
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: {{ int64 . }}
  runAsGroup: {{ int64 . }}
  fsGroup: {{ int64 . }}
  # A volume with many files is not gone through at each start.
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "carousel.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}

{{- define "carousel.pod" -}}
serviceAccountName: {{ include "carousel.serviceAccount" . }}
{{ include "carousel.podSecurity" .Values.podSecurity.runAsUser }}
terminationGracePeriodSeconds: {{ add (ceil .Values.server.drainSeconds) .Values.graceExtraSeconds }}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if ne .Values.topologySpread "none" }}
topologySpreadConstraints:
  {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: {{ $.Values.topologySpread }}
    labelSelector:
      matchLabels:
        {{- include "carousel.selector" (list $ "server") | nindent 8 }}
  {{- end }}
{{- end }}
{{- $copies := eq .Values.models.source "image" }}
{{- if or $copies .Values.extraInitContainers }}
initContainers:
  {{- if $copies }}
  - name: models
    image: {{ .Values.models.image.repository }}{{ with .Values.models.image.tag }}:{{ . }}{{ end }}
    imagePullPolicy: {{ .Values.models.image.pullPolicy }}
    command: {{ toJson .Values.models.image.command }}
    {{- include "carousel.containerSecurity" . | nindent 4 }}
    resources:
      requests: {cpu: 100m, memory: 64Mi}
      limits: {memory: 256Mi}
    volumeMounts:
      - {name: models, mountPath: /models}
  {{- end }}
  {{- with .Values.extraInitContainers }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
containers:
  - name: carousel
    image: {{ include "carousel.image" . }}
    imagePullPolicy: {{ .Values.image.pullPolicy }}
    {{- with .Values.extraArgs }}
    args: {{ toJson . }}
    {{- end }}
    env:
      {{- include "carousel.env" . | nindent 6 }}
    {{- with .Values.extraEnvFrom }}
    envFrom:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    ports:
      - {name: grpc, containerPort: 8001}
      - {name: http, containerPort: 8002}
    # Over HTTP, since the kubelet's gRPC probes don't speak TLS.
    startupProbe:
      httpGet: {path: /healthz, port: http}
      periodSeconds: 2
      timeoutSeconds: 5
      failureThreshold: {{ max 1 (ceil (divf .Values.probes.startupSeconds 2)) }}
    readinessProbe:
      httpGet: {path: /readyz, port: http}
      periodSeconds: {{ .Values.probes.readinessPeriod }}
      timeoutSeconds: 5
      failureThreshold: 2
    livenessProbe:
      httpGet: {path: /healthz, port: http}
      periodSeconds: {{ .Values.probes.livenessPeriod }}
      timeoutSeconds: 5
      failureThreshold: 3
    # An image need not have a shell, and Kubernetes 1.28 has no sleep: the server itself is asked to
    # drain, and SIGTERM comes when it has.
    lifecycle:
      preStop:
        exec: {command: [carousel-server, drain]}
    {{- include "carousel.containerSecurity" . | nindent 4 }}
    {{- $resources := deepCopy .Values.resources }}
    {{- if .Values.gpu.enabled }}
    {{- $limits := get $resources "limits" | default dict | deepCopy }}
    {{- $_ := set $limits .Values.gpu.resource .Values.gpu.count }}
    {{- $_ := set $resources "limits" $limits }}
    {{- end }}
    resources:
      {{- toYaml $resources | nindent 6 }}
    volumeMounts:
      - name: models
        mountPath: /models
        readOnly: true
        {{- with .Values.models.subPath }}
        subPath: {{ . }}
        {{- end }}
      - {name: tmp, mountPath: /tmp}
      {{- if .Values.tls.enabled }}
      # The whole folder, not single files: those would never change when the certificate is renewed.
      - {name: tls, mountPath: /etc/carousel/tls, readOnly: true}
      {{- end }}
      {{- if .Values.snapshotKey.secretName }}
      - {name: snapshots, mountPath: /etc/carousel/snapshots, readOnly: true}
      {{- end }}
      {{- with .Values.extraVolumeMounts }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
volumes:
  - name: models
    {{- include "carousel.modelVolume" . | nindent 4 }}
  - name: tmp
    emptyDir: {sizeLimit: {{ .Values.podSecurity.tmpSize }}}
  {{- if .Values.tls.enabled }}
  - name: tls
    secret: {secretName: {{ .Values.tls.secretName }}, defaultMode: 0440}
  {{- end }}
  {{- if .Values.snapshotKey.secretName }}
  - name: snapshots
    secret:
      secretName: {{ .Values.snapshotKey.secretName }}
      defaultMode: 0440
      items: [{key: {{ .Values.snapshotKey.key }}, path: key}]
  {{- end }}
  {{- with .Values.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{- define "carousel.modelVolume" -}}
{{- if eq .Values.models.source "claim" -}}
persistentVolumeClaim: {claimName: {{ include "carousel.fullname" . }}-models}
{{- else if eq .Values.models.source "existingClaim" -}}
persistentVolumeClaim: {claimName: {{ .Values.models.existingClaim }}}
{{- else if eq .Values.models.source "hostPath" -}}
hostPath: {path: {{ .Values.models.hostPath }}, type: Directory}
{{- else -}}
emptyDir: {sizeLimit: {{ .Values.models.image.sizeLimit }}}
{{- end -}}
{{- end -}}
