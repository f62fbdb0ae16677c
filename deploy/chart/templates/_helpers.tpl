{{- define "observer.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The name of the objects: the release's, with the chart's unless that is part of it. */}}
{{- define "observer.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains (include "observer.name" .) .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "observer.name" .) | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "observer.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "observer.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "observer.selectorLabels" -}}
app.kubernetes.io/name: {{ include "observer.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "observer.labels" -}}
{{ include "observer.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* More labels of an object, of which none is the chart's own: in YAML no key may be there twice. */}}
{{- define "observer.moreLabels" -}}
{{- range $key := keys .labels }}
{{- if regexMatch "^(app\\.kubernetes\\.io/(name|instance|version|managed-by)|helm\\.sh/chart)$" $key }}
{{- fail (printf "%s: the label %s is the chart's own; nameOverride and the release's name set what is in it" $.value $key) }}
{{- end }}
{{- end }}
{{- toYaml .labels }}
{{- end }}

{{- define "observer.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) }}
{{- end }}
{{- end }}

{{/* An address and a port, as --metrics-listen takes them. */}}
{{- define "observer.listen" -}}
{{- if hasSuffix (printf ":%d" (int .Values.agent.port)) .Values.agent.debugListen }}
{{- fail (printf "agent.port and agent.debugListen (%s) are one port: the agent cannot listen on it twice" .Values.agent.debugListen) }}
{{- end }}
{{- if contains ":" .Values.agent.listenAddress }}
{{- printf "[%s]:%d" .Values.agent.listenAddress (int .Values.agent.port) }}
{{- else }}
{{- printf "%s:%d" .Values.agent.listenAddress (int .Values.agent.port) }}
{{- end }}
{{- end }}

{{/* A probe: the path, and the values of how often. */}}
{{- define "observer.probe" -}}
httpGet:
  path: {{ .path }}
  port: metrics
periodSeconds: {{ .probe.periodSeconds }}
timeoutSeconds: {{ .probe.timeoutSeconds }}
failureThreshold: {{ .probe.failureThreshold }}
{{- end }}

{{/* A directory of the node in the container: the volume's name, the path, and the root context. */}}
{{- define "observer.hostMount" -}}
- name: {{ .name }}
  mountPath: /host{{ .path }}
  readOnly: true
  {{- if semverCompare ">=1.30.0-0" .root.Capabilities.KubeVersion.Version }}
  recursiveReadOnly: {{ .root.Values.recursiveReadOnly }}
  {{- end }}
{{- end }}

{{/* Milliseconds of a duration as Prometheus has it. */}}
{{- define "observer.milliseconds" -}}
{{- $sum := 0 }}
{{- $units := dict "h" 3600000 "m" 60000 "s" 1000 "ms" 1 }}
{{- range regexFindAll "[0-9]+(ms|[hms])" . -1 }}
{{- $sum = add $sum (mul (regexFind "[0-9]+" . | atoi) (get $units (regexFind "[hms]+" .))) }}
{{- end }}
{{- $sum }}
{{- end }}
