{{/* Name of all objects. */}}
{{- define "sekuire.name" -}}
{{- .Values.fullnameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end }}

{{/* What selects the replicas: never changed, a Deployment's selector is immutable. */}}
{{- define "sekuire.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "sekuire.labels" -}}
{{ include "sekuire.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: sekuire
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "sekuire.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{/* The Secret with the files to serve with; empty if the controller makes its own certificate. */}}
{{- define "sekuire.tlsSecret" -}}
{{- if .Values.tls.certManager.enabled -}}
{{ include "sekuire.name" . }}-tls
{{- else -}}
{{ .Values.tls.secretName }}
{{- end -}}
{{- end }}

{{/* The flag for a listener: its name, address and port. Quoted, for YAML takes brackets for a list. */}}
{{- define "sekuire.listen" -}}
{{- $address := index . 1 -}}
{{- printf "--%s-listen=%s:%v" (index . 0) (contains ":" $address | ternary (printf "[%s]" $address) $address) (index . 2) | quote -}}
{{- end }}

{{/* The families of a Service; nothing where the cluster's default does. */}}
{{- define "sekuire.families" -}}
{{- with .ipFamilyPolicy }}
ipFamilyPolicy: {{ . | quote }}
{{- end }}
{{- with .ipFamilies }}
ipFamilies:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
